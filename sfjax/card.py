"""What a model is, in words: the lines that `sfjax info` prints, and the model card of an exported folder."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
from collections.abc import Mapping
from typing import Any, NamedTuple

from sfjax import tasks

DATA = "## Data and licences"
UNSTATED = (
    "Whoever exported this model stated nothing about its data, their licences and attributions, nor a licence of its "
    "own. Ask before you use it or pass it on."
)


class Kind(NamedTuple):
    """What a card says of a task: what it does, the ends of a command and of a line of Python, what it is not for.

    `flag` is how a model is named to a command, `beside` are the other models that the command wants.
    """

    does: str
    command: str
    python: str
    limits: str
    flag: str = "model"
    beside: tuple[str, ...] = ()


SAY = 'speak "Hello there." --prompt p.wav --prompt-text "What is said in it." -o out.wav'
SAID = 'said = model.speak("Hello there.", prompt=(wave, sample_rate, "What is said in it."))'
MADE = "It generates what it gives back: words that cannot be heard may come out as others. Its result is no evidence."
CONSENT = (
    "Use a voice only with the consent of the person whose it is, say that the speech is synthetic, and never pass it "
    "off as something that somebody said."
)
HELPER = (
    "It helps models of the Mels that it was trained on, and makes nothing alone. What they are not for, it is not for."
)
KINDS = {
    tasks.Pretrain: Kind(
        "fills gaps of recordings of speech, and is what a fine-tuning starts from (`--config.init_from`)",
        "infill lossy.wav -o whole.wav", "whole = model.infill(wave, sample_rate, gaps=[(16_000, 18_000)])",
        f"What it puts into a gap was never said. {CONSENT}",
    ),
    tasks.Enhance: Kind(
        "cleans noisy recordings of one speaker", "{treat}", "{treated}",
        f"It is made for listening to speech, not for music. {MADE}",
    ),
    tasks.Separate: Kind(
        "sets {speakers} speakers of one recording apart", "{treat}", "{treated}",
        f"It knows as many speakers as it was trained on, and may change them over. {MADE} Those who speak have to "
        "consent to being heard apart.",
    ),
    tasks.Speak: Kind(
        "says a text in the voice of a recording, and changes words in recordings", SAY, SAID,
        f"It says the phones of its data and their language alone. {CONSENT}", beside=("timing",),
    ),
    tasks.Durations: Kind(
        "says how long each phone of a text lasts, for a model that speaks", SAY, SAID,
        f"It knows the phones of its data and their language alone. {CONSENT}", "timing", ("model",),
    ),
    tasks.Phase: Kind(
        "makes waves of a model's Mels by the phase of the recording", "{treat}", "{treated}", HELPER, "phase",
        ("model",),
    ),
    tasks.Vocode: Kind("makes waves of a model's Mels", SAY, SAID, HELPER, "vocoder", ("model", "timing")),
}  # fmt: skip


def kind(part: Any) -> Kind:
    """What a card says of a task; of one that is made from another, what it says of that."""
    return next(KINDS[one] for one in type(part).__mro__ if one in KINDS)


def helps(task: Any) -> bool:
    """Whether a task is that of a network which stands beside a model, and samples nothing."""
    return any(kind(part).flag != "model" for part in tasks.parts(task).values())


def facts(about: Mapping[str, Any]) -> dict[str, str]:
    """The lines about what `sfjax.release.info` found, each under its name."""
    mel, averaged = about["mel"], "averaged" if about["averaged"] else "as trained, not averaged"
    listed = lambda values: ", ".join(f"{name} {value}" for name, value in values.items())
    found = {
        "task": about["task"],
        "parameters": f"{about['parameters']:,} as {about['types']}, {about['bytes'] / 2**20:.2f} MiB",
        "step": f"{about['step']:,}, {averaged}",
        "adapters": f"of rank {about['rank']} for {about['base'] or 'a model without a name'}" if about["rank"] else "",
        "Mel": f"{mel['sample_rate']} Hz, {mel['bands']} bands from {mel['low']} to {mel['high']} Hz, "
        f"hop {mel['hop']}, window {mel['window']}, mean {mel['mean']}, deviation {mel['std']}",
        "phones": f"{about['phones']}" if about["phones"] else "",
        "sampling": listed(about["sample"]),
        "validation": listed(about["figures"]),
    }
    return {name: text for name, text in found.items() if text}


def text(name: str, config: Mapping[str, Any], about: Mapping[str, Any], notes: str | None) -> str:
    """The model card, as Markdown, of an exported folder called `name`; `notes` are the exporter's own."""
    parts = list(tasks.parts(tasks.make(**config["task"])).values())
    kinds = [kind(part) for part in parts]
    given = [dict(speakers=getattr(part, "speakers", 1), **_treatment(part)) for part in parts]
    does = "; ".join(one.does.format(**words) for one, words in zip(kinds, given, strict=True))
    who = "These are adapters: beside the model that they were trained on they make one that" if about["rank"] else "It"
    sections = [
        f"# {name}",
        f"{who} {does}. A model of sfjax, SpeechFlow in JAX ([arXiv 2310.16338](https://arxiv.org/abs/2310.16338)).",
        "\n".join(["| | |", "|---|---|", *(f"| {label} | {line} |" for label, line in facts(about).items())]),
        "## Use",
        *(_use(name, one, words, about) for one, words in zip(kinds, given, strict=True)),
        f"On a hub it is called `hf://OWNER/{name}`. `sha256sum -c SHA256SUMS` checks the files, as loading does.",
        "## Training",
        "\n".join(f"- {line}" for line in _training(parts, config, about)),
        "## Figures",
        _figures(about["figures"]),
        "## Limits and intended use",
        "\n\n".join(dict.fromkeys(one.limits for one in kinds)),
        DATA,
        notes.strip() if notes else UNSTATED,
    ]
    return _front(parts, notes) + "\n\n".join(sections) + "\n"


def stated(card: str) -> list[str]:
    """The first lines of what a card says of data and licences."""
    lines = card.partition(f"\n{DATA}\n")[2].splitlines()
    return [line.strip() for line in lines if line.strip()][:3]


def _front(parts, notes):
    """What hubs read."""
    tags = ["speech", "jax", *dict.fromkeys(type(part).__name__.lower() for part in parts)]
    lines = ["library_name: sfjax", "tags:", *(f"- {tag}" for tag in tags)]
    licence = re.match(r"\s*licen[cs]e:[ \t]*(\S.*)", notes or "", re.IGNORECASE)
    if licence:
        lines.append(f"license: {json.dumps(licence[1].strip(), ensure_ascii=False)}")
    return "\n".join(["---", *lines, "---", "", ""])


def _treatment(part):
    speakers = getattr(part, "speakers", 1)
    if speakers == 1:
        return {"treat": "enhance noisy.wav -o clean", "treated": "clean = model.enhance(noisy, sample_rate)"}
    call = f"model.separate(mixture, sample_rate, speakers={speakers})"
    return {"treat": f"separate talk.wav --speakers {speakers} -o apart", "treated": f"voices = {call}"}


def _use(name, kind, words, about):
    own = {"model": about["base"] or "BASE", "adapter": name} if about["rank"] else {kind.flag: name}
    models = {"model": ""} | {flag: flag.upper() for flag in kind.beside} | own
    flags = " ".join(f"--{flag} {shlex.quote(value)}" for flag, value in models.items())
    others = "".join(f", {flag}={json.dumps(value)}" for flag, value in models.items() if flag != "model")
    load = f"import sfjax\n\nmodel = sfjax.load({json.dumps(models['model'])}{others})"
    command, python = (line.format(**words) for line in (kind.command, kind.python))
    return f"```sh\nsfjax {command} {flags}\n```\n\n```python\n{load}\n{python}\n```"


def _training(parts, config, about):
    optim, seconds, start = config["optim"], config["data"]["seconds"], config["init_from"]
    yield f"{about['step']:,} updates of {seconds:g} s of audio, {about['step'] * seconds / 3600:,.1f} hours in all"
    yield f"learning rate {optim['peak']:g} after {optim['warmup']:,} updates, {optim['end']:g} at {optim['updates']:,}"
    if optim["muon"]:
        yield f"the Transformer's kernels learn by Muon at {optim['muon']:g} times that rate"
    yield f"from the parameters of `{start}`" if start else "from scratch"
    yield f"precision {config['precision']}, process {config['process']}"
    if about["averaged"]:
        yield f"averaged over updates with a decay of {config['ema']:g}"
    for part in parts:
        fields = {name: value for name, value in dataclasses.asdict(part).items() if name != "phones"}
        yield f"task {type(part).__name__.lower()}: " + ", ".join(f"{name} {value}" for name, value in fields.items())
    yield "all settings are in `config.json`"


def _figures(figures):
    if not figures:
        return "None: the run wrote no validation losses."
    values = ", ".join(f"{name} {value}" for name, value in figures.items() if name != "step")
    return (
        f"Validation losses of the run itself at step {figures['step']:,}, on rows that it held out of its own data: "
        f"{values}. They compare runs of the same task and data, and say nothing of how it sounds."
    )
