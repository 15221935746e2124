"""Write the model card of an exported folder, and the lines of `sfjax info`."""

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
    "The exporter of this model stated no data, licences or attributions, and no licence for the model itself. Ask "
    "before you use it or pass it on."
)


class Kind(NamedTuple):
    """What a card says of a task: its purpose, the end of a command, a line of Python, and its limits.

    `flag` names the model in a command, `needs` the other models that the command needs.
    """

    does: str
    command: str
    python: str
    limits: str
    flag: str = "model"
    needs: tuple[str, ...] = ()


SPEAK_COMMAND = 'speak "Hello there." --prompt p.wav --prompt-text "The words of the prompt." -o out.wav'
SPEAK_PYTHON = 'speech = model.speak("Hello there.", prompt=(wave, sample_rate, "The words of the prompt."))'
GENERATED = (
    "Its output is generated: words that cannot be heard in the input may come out as other words. Do not use the "
    "output as evidence."
)
CONSENT = (
    "Use a voice only with the consent of the person whose voice it is, say that the speech is synthetic, and never "
    "present it as something that somebody said."
)
AUXILIARY = (
    "It helps models of the log-Mel spectrograms that it was trained on, and produces nothing alone. The limits of "
    "those models apply."
)
KINDS = {
    "pretrain": Kind(
        "fills gaps in recordings of speech, and is the start of a fine-tuning (`--config.init_from`)",
        "infill lossy.wav -o whole.wav",
        "whole = model.infill(wave, sample_rate, gaps=[(16_000, 18_000)])",
        f"The speech that it puts into a gap was never said. {CONSENT}",
    ),
    "enhance": Kind(
        "cleans noisy recordings of one speaker",
        "{treat}",
        "{treated}",
        f"It is made for listening to speech, not for music. {GENERATED}",
    ),
    "separate": Kind(
        "separates the {speakers} speakers of one recording",
        "{treat}",
        "{treated}",
        "It separates only as many speakers as it was trained on, and may swap them within a recording. "
        f"{GENERATED} The speakers have to consent to being heard separately.",
    ),
    "extract": Kind(
        "extracts one speaker from a recording of several, by a recording of the voice",
        "extract talk.wav --voice voice.wav",
        'speaker = model.extract("talk.wav", voice="voice.wav")',
        "It may extract another speaker with a similar voice. "
        f"{GENERATED} The speakers have to consent to being heard separately.",
    ),
    "speak": Kind(
        "says a text in the voice of a recording, and changes words in recordings",
        SPEAK_COMMAND,
        SPEAK_PYTHON,
        f"It says only the phones of its training data, in their language. {CONSENT}",
        needs=("duration_model",),
    ),
    "durations": Kind(
        "predicts how long each phone of a text lasts, for a model that speaks",
        SPEAK_COMMAND,
        SPEAK_PYTHON,
        f"It knows only the phones of its training data, in their language. {CONSENT}",
        "duration_model",
        ("model",),
    ),
    "phase": Kind(
        "makes waveforms from a model's log-Mel spectrograms and the phase of the recording",
        "{treat}",
        "{treated}",
        AUXILIARY,
        "phase",
        ("model",),
    ),
    "vocode": Kind(
        "makes waveforms from a model's log-Mel spectrograms",
        SPEAK_COMMAND,
        SPEAK_PYTHON,
        AUXILIARY,
        "vocoder",
        ("model", "duration_model"),
    ),
}


def kind(part: Any) -> Kind:
    """Return what a card says of a task."""
    return KINDS[part.kind]


def helps(task: Any) -> bool:
    """Whether a task trains an auxiliary network, which helps a model and samples nothing."""
    return any(kind(part).flag != "model" for part in task.parts.values())


def facts(about: Mapping[str, Any]) -> dict[str, str]:
    """Return the lines about the result of `sfjax.export.release.info`, by label."""
    mel, averaged = about["mel"], "averaged" if about["averaged"] else "as trained, not averaged"
    lines = {
        "task": about["task"],
        "parameters": f"{about['parameters']:,} as {about['types']}, {about['bytes'] / 2**20:.2f} MiB",
        "step": f"{about['step']:,}, {averaged}",
        "adapters": f"of rank {about['rank']} for {about['base'] or 'a model without a name'}" if about["rank"] else "",
        "Mel": f"{mel['sample_rate']} Hz, {mel['bands']} bands from {mel['low']} to {mel['high']} Hz, "
        f"hop {mel['hop']}, window {mel['window']}, mean {mel['mean']}, deviation {mel['std']}",
        "phones": f"{about['phones']}" if about["phones"] else "",
        "sampling": _listed(about["sample"]),
        "validation": _listed(about["figures"]),
    }
    return {label: line for label, line in lines.items() if line}


def _listed(values):
    return ", ".join(f"{name} {value}" for name, value in values.items())


def text(name: str, config: Mapping[str, Any], about: Mapping[str, Any], notes: str | None) -> str:
    """Return the model card, as Markdown, of an exported folder called `name`; `notes` are the exporter's own."""
    parts = list(tasks.make(**config["task"]).parts.values())
    kinds = [kind(part) for part in parts]
    fields = [dict(speakers=getattr(part, "speakers", 1), **_treatment(part)) for part in parts]
    does = "; ".join(kind.does.format(**values) for kind, values in zip(kinds, fields, strict=True))
    subject = "These are adapters: together with their base model they make a model that" if about["rank"] else "It"
    sections = [
        f"# {name}",
        f"{subject} {does}. A model of sfjax, SpeechFlow in JAX ([arXiv 2310.16338](https://arxiv.org/abs/2310.16338)).",
        "\n".join(["| | |", "|---|---|", *(f"| {label} | {line} |" for label, line in facts(about).items())]),
        "## Use",
        *(_use(name, kind, values, about) for kind, values in zip(kinds, fields, strict=True)),
        f"On a hub its name is `hf://OWNER/{name}`. `sha256sum -c SHA256SUMS` checks the files, as loading does.",
        "## Training",
        "\n".join(f"- {line}" for line in _training(parts, config, about)),
        "## Figures",
        _figures(about["figures"]),
        "## Limits and intended use",
        "\n\n".join(dict.fromkeys(kind.limits for kind in kinds)),
        DATA,
        notes.strip() if notes else UNSTATED,
    ]
    return _front_matter(parts, notes) + "\n\n".join(sections) + "\n"


def data_section(card: str) -> str:
    """Return a card's section on data and licences: the exporter's own notes."""
    return card.partition(f"\n{DATA}\n")[2].strip()


def stated(card: str) -> list[str]:
    """Return the first three lines of a card's section on data and licences."""
    return [line.strip() for line in data_section(card).splitlines() if line.strip()][:3]


def licence(notes: str) -> str:
    """Return what the first line of an exporter's notes says after `licence:`, or ""."""
    line = re.match(r"\s*licen[cs]e:[ \t]*(\S.*)", notes, re.IGNORECASE)
    return line[1].strip() if line else ""


def score(notes: str) -> str:
    """Return what a line of an exporter's notes says after `score:`, or ""."""
    line = re.search(r"^score:[ \t]*(\S.*)", notes, re.MULTILINE | re.IGNORECASE)
    return line[1].strip() if line else ""


def _front_matter(parts, notes):
    """Return the YAML lines that hubs read."""
    tags = ["speech", "jax", *dict.fromkeys(type(part).__name__.lower() for part in parts)]
    lines = ["library_name: sfjax", "tags:", *(f"- {tag}" for tag in tags)]
    if name := licence(notes or ""):
        lines.append(f"license: {json.dumps(name, ensure_ascii=False)}")
    return "\n".join(["---", *lines, "---", "", ""])


def _treatment(part):
    """Return the command and the Python line of a task that enhances or separates recordings."""
    speakers = getattr(part, "speakers", 1)
    if speakers == 1:
        return {"treat": "enhance noisy.wav -o clean", "treated": "clean = model.enhance(noisy, sample_rate)"}
    call = f"model.separate(mixture, sample_rate, speakers={speakers})"
    return {"treat": f"separate talk.wav --speakers {speakers} -o apart", "treated": f"voices = {call}"}


def _use(name, kind, values, about):
    own = {"model": about["base"] or "BASE", "adapter": name} if about["rank"] else {kind.flag: name}
    models = {"model": ""} | {flag: flag.upper() for flag in kind.needs} | own
    flags = " ".join(f"--{flag.replace('_', '-')} {shlex.quote(value)}" for flag, value in models.items())
    others = "".join(f", {flag}={json.dumps(value)}" for flag, value in models.items() if flag != "model")
    load = f"import sfjax\n\nmodel = sfjax.load({json.dumps(models['model'])}{others})"
    command, python = (line.format(**values) for line in (kind.command, kind.python))
    return f"```sh\nsfjax {command} {flags}\n```\n\n```python\n{load}\n{python}\n```"


def _training(parts, config, about):
    optim, seconds, start = config["optim"], config["data"]["seconds"], config["init_from"]
    yield f"{about['step']:,} updates of {seconds:g} s of audio, {about['step'] * seconds / 3600:,.1f} hours in all"
    yield f"learning rate {optim['peak']:g} after {optim['warmup']:,} updates, {optim['end']:g} at {optim['updates']:,}"
    if optim["muon"]:
        yield f"the Transformer's kernels are trained with Muon at {optim['muon']:g} times that rate"
    yield f"from the parameters of `{start}`" if start else "from scratch"
    yield f"precision {config['precision']}, process {config['process']}"
    if about["averaged"]:
        yield f"averaged over updates with a decay of {config['ema']:g}"
    for part in parts:
        fields = {name: value for name, value in dataclasses.asdict(part).items() if name != "phones"}
        yield f"task {type(part).__name__.lower()}: {_listed(fields)}"
    yield "all settings are in `config.json`"


def _figures(figures):
    if not figures:
        return "None: the run wrote no validation losses."
    losses = {name: value for name, value in figures.items() if name != "step"}
    return (
        f"Validation losses of the run at step {figures['step']:,}, on held-out rows of its own data: "
        f"{_listed(losses)}. They compare runs of the same task and data; they do not measure how it sounds."
    )
