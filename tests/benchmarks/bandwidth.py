"""Score bandwidth extension: recordings of 8 kHz at 16 kHz again, by resampling alone and by `sfjax enhance --to-rate`.

    python tests/benchmarks/bandwidth.py --manifest speech.parquet --split valid --items 40 [-o bandwidth.json]

Clean recordings are resampled to 8 kHz by soxr. Systems: `resampled` back to 16 kHz, the baseline; `enhanced` by the
model without extension; `extended`. Scores: log-spectral distance (LSD, in dB, below) in all bins and above 4 kHz,
ESTOI, wide-band PESQ, COVL, DNSMOS OVRL if speechmos is installed, and the word error rate of pocketsphinx if the rows
have texts. LSD is the mean over frames of the root mean square over bins of 10 log10 of the ratio of powers, windows of
2048 samples, powers at least 80 dB below the recording's highest.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import report
import scipy.signal

import sfjax
from sfjax import audio, evaluation, metrics
from sfjax.data import manifest
from sfjax.errors import UserError
from sfjax.metrics import dnsmos, wer
from sfjax.weights import ENHANCER

RATE, NARROW = 16_000, 8000  # Hz
WINDOW, RANGE = 2048, 1e-8  # samples; the lowest power, as a share of the highest


def lsd(reference: np.ndarray, estimate: np.ndarray, *, above: float = 0.0) -> float:
    """The log-spectral distance in dB, of bins above so many Hz."""
    transform = scipy.signal.ShortTimeFFT(np.hanning(WINDOW), WINDOW // 4, fs=RATE)
    power = np.abs(transform.stft(np.stack([reference, estimate]))) ** 2
    decibels = 10 * np.log10(np.maximum(power, RANGE * power[0].max()))[:, transform.f >= above]
    return float(np.sqrt(np.square(decibels[0] - decibels[1]).mean(axis=0)).mean())


def scores(reference: np.ndarray, estimate: np.ndarray, opinions: bool) -> dict[str, float]:
    """All scores of one recording but its words."""
    measured = metrics.score(reference, estimate, RATE)
    values = {"lsd": lsd(reference, estimate), "lsd_above_4_khz": lsd(reference, estimate, above=4000)}
    values |= {name: measured[name] for name in ("estoi", "pesq_wb", "covl")}
    return values | ({"ovrl": dnsmos.dnsmos(estimate, RATE)["ovrl"]} if opinions else {})


def systems(model: Any, wav: np.ndarray) -> dict[str, np.ndarray]:
    """What each system makes of a recording's lower half, at 16 kHz and as long as the recording."""
    narrow = audio.resample(wav, RATE, NARROW)
    made = {
        "resampled": audio.resample(narrow, NARROW, RATE),
        "enhanced": audio.resample(model.enhance(narrow, NARROW), NARROW, RATE),
        "extended": model.enhance(narrow, NARROW, to_rate=RATE),
    }
    return {name: np.pad(wave, (0, max(0, len(wav) - len(wave))))[: len(wav)] for name, wave in made.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Score bandwidth extension.")
    parser.add_argument("--manifest", type=Path, required=True, help="clean recordings of 16 kHz")
    parser.add_argument("--split", default="valid")
    parser.add_argument("--model", default=ENHANCER)
    parser.add_argument("--items", type=int, default=40)
    parser.add_argument("-o", "--output", type=Path, metavar="FILE.json")
    given = parser.parse_args()
    facts = report.machine()
    print(report.heading(facts))
    try:
        dnsmos.network()
        opinions = True
    except UserError as error:
        opinions = False
        print(f"DNSMOS is skipped; {error}")
    rows = manifest.read(given.manifest, split=given.split)
    chosen = [rows.row(int(i)) for i in np.linspace(0, len(rows) - 1, min(given.items, len(rows))).round()]
    model = sfjax.load(given.model).with_vocoder()
    hear = wer.transcriber("pocketsphinx") if all(row["text"] for row in chosen) else None
    scored: dict[str, list[dict[str, Any]]] = {}
    words: dict[str, list[wer.Words]] = {}
    for row in chosen:
        wav = audio.read(row["path"], start=row["start"], frames=row["frames"], rate=RATE)[0]
        made = systems(model, wav)
        for name, wave in made.items():
            scored.setdefault(name, []).append({"name": row["path"], **scores(wav, wave, opinions)})
        for name, wave in ({"recording": wav} | made).items() if hear else ():
            words.setdefault(name, []).append(wer.word_errors(row["text"], hear(wave, RATE)))
    reports = {name: evaluation.Report(items, []) for name, items in scored.items()}
    for name, each in reports.items():
        print(f"\n{name}\n{each.table()}")
    rates = {name: wer.rate(counts) for name, counts in words.items()}
    for name, rate in rates.items():
        print(f"{name}: word error rate {rate:.3f}")
    found = {"machine": facts, "systems": {name: each.to_json() for name, each in reports.items()}, "words": rates}
    report.write(given.output, found)


if __name__ == "__main__":
    main()
