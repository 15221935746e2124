"""Write amounts of money as words, with the currency before or behind the number."""

from __future__ import annotations

import re

from sfjax.text.measures import UNIT, count, describes_next_word, read_measure, unit_name
from sfjax.text.number_words import AMOUNT, NUMBER, SCALE, SCALES, START, cardinal, read_amount

# Each currency: singular, plural, hundredth in the singular and the plural
DOLLAR = ("dollar", "dollars", "cent", "cents")
CROWN = ("ore", "ore")
MONEY = {
    "$": DOLLAR,
    "£": ("pound", "pounds", "penny", "pence"),
    "€": ("euro", "euros", "cent", "cents"),
    "¥": ("yen", "yen", "sen", "sen"),
    "₹": ("rupee", "rupees", "paisa", "paise"),
    "₩": ("won", "won", "jeon", "jeon"),
    "₽": ("ruble", "rubles", "kopek", "kopeks"),
    "₪": ("shekel", "shekels", "agora", "agorot"),
    "₫": ("dong", "dong", "xu", "xu"),
    "₱": ("peso", "pesos", "centavo", "centavos"),
    "₦": ("naira", "naira", "kobo", "kobo"),
    "₺": ("lira", "lira", "kurus", "kurus"),
    "₴": ("hryvnia", "hryvnias", "kopek", "kopeks"),
    "฿": ("baht", "baht", "satang", "satang"),
    "₿": ("bitcoin", "bitcoins", "cent", "cents"),
    "CHF": ("swiss franc", "swiss francs", "centime", "centimes"),
    "CNY": ("yuan", "yuan", "fen", "fen"),
    "MXN": ("mexican peso", "mexican pesos", "centavo", "centavos"),
    "ZAR": ("rand", "rand", "cent", "cents"),
    "R$": ("real", "reais", "centavo", "centavos"),
    "kr": ("krona", "kronor", *CROWN),
    "SEK": ("swedish krona", "swedish kronor", *CROWN),
    "NOK": ("norwegian krone", "norwegian kroner", *CROWN),
    "DKK": ("danish krone", "danish kroner", *CROWN),
    "zł": ("zloty", "zlotys", "grosz", "groszy"),
}
for _country, _symbols in {
    "u.s.": "US$ USD",
    "canadian": "C$ CA$ CAD",
    "australian": "A$ AU$ AUD",
    "new zealand": "NZ$ NZD",
    "hong kong": "HK$ HKD",
    "singapore": "S$ SGD",
}.items():
    for _symbol in _symbols.split():
        MONEY[_symbol] = (f"{_country} dollar", f"{_country} dollars", "cent", "cents")
for _code, _sign in {"EUR": "€", "GBP": "£", "JPY": "¥", "INR": "₹", "KRW": "₩", "RUB": "₽", "RMB": "CNY"}.items():
    MONEY[_code] = MONEY[_sign]
for _code, _sign in {"Rs.": "₹", "Rs": "₹", "BRL": "R$", "PLN": "zł", "BTC": "₿"}.items():
    MONEY[_code] = MONEY[_sign]
CURRENCY = "(?:" + "|".join(map(re.escape, sorted(MONEY, key=len, reverse=True))) + ")"
SIGN = "[" + "".join(sign for sign in MONEY if len(sign) == 1) + "]"


def spell_money(text: str) -> str:
    """Return the text with amounts of money as words; a decimal comma counts only next to a currency."""
    european = r"\d{1,3}(?:\.\d{3})*,\d\d|\d+,\d\d?|\d{1,3}(?:\.\d{3})+"
    after = rf"(?=\s?(?:{CURRENCY})(?!\w))"
    text = re.sub(rf"{START}(?:{european})(?!\d){after}", _english_decimal, text)
    text = re.sub(rf"(?<={SIGN})(?:\d{{1,3}}(?:\.\d{{3}})+,\d\d|\d+,\d\d?)(?!\d|,\d)", _english_decimal, text)
    text = re.sub(r"(?<![\d\s])\s?¢\s?(\d+)|^¢\s?(\d+)", lambda match: f" {match[1] or match[2]}¢", text)
    rate = rf"({CURRENCY}\s?{NUMBER}|{NUMBER}\s?(?:{CURRENCY}|¢))\s?/\s?(?:({UNIT})(?!\w)|(?=[a-z]))"
    text = re.sub(rate, lambda match: f"{match[1]} per {unit_name(match[2]) if match[2] else ''}", text)
    behind = rf"{START}({AMOUNT})({SCALE})?(?:\s?({CURRENCY})(?!\w)(?!\s?\d)|({SIGN})(?![\w]))"
    text = re.sub(behind, lambda match: _price(match, match[3] or match[4], match[1], match[2]), text)
    text = re.sub(
        rf"(?<![\w.])({CURRENCY})\s?({AMOUNT})({SCALE})?(?![A-Za-z])",
        lambda match: _price(match, match[1], match[2], match[3]),
        text,
    )
    text = re.sub(rf"{START}({AMOUNT})\s?¢", lambda match: read_measure(match, match[1], "cent"), text)
    return re.sub(r"(?<![\w.,$£€-])(\d\d?)p\b", lambda match: f" {count(match[1], 'penny')} ", text)


def _english_decimal(match: re.Match) -> str:
    return match[0].replace(".", "").replace(",", ".")


def _price(match: re.Match, sign: str, amount: str, scale: str | None) -> str:
    unit, units, cent, cents = MONEY[sign]
    scale = (scale or "").strip()
    name = unit if describes_next_word(match) else units
    whole, _, part = amount.partition(".")
    if scale or "-" in amount or "/" in amount or (part and len(part) != 2):
        return f" {read_amount(amount)} {SCALES.get(scale, scale)} {name} "
    spoken = []
    if int(whole.replace(",", "") or 0):
        spoken.append(f"{cardinal(whole)} {unit if whole == '1' else name}")
    if int(part or 0):
        spoken.append(f"{cardinal(part.lstrip('0'))} {cent if int(part) == 1 or describes_next_word(match) else cents}")
    return f" {' and '.join(spoken) or f'zero {units}'} "
