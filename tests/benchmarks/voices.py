"""Speech from text, measured: the words that a recogniser hears, whose voice it is, how long phones last, the speed.

    python tests/benchmarks/voices.py prepare --data DIR -o FOLDER
    python tests/benchmarks/voices.py say FOLDER --model RUN --duration-model RUN --vocoder RUN -o OUT
    python tests/benchmarks/voices.py speed --model RUN --duration-model RUN --vocoder RUN -o speed.json

`prepare` reads DIR/manifest.jsonl and DIR/align.jsonl.xz and holds 20 speakers of set so762 out of everything. FOLDER
gets `speech.parquet` (the others of ls100, so762 and kathleen) for pre-training, `voices.parquet` (those of so762 and
kathleen that are aligned) for speaking and durations, and `held.parquet` (the 20).

`say` measures, and writes to OUT/scores.json, at a guidance and in evaluations of one's choice:

- words: the word error rates of sentences of split 'valid'. `spoken` is their text in the voice of a prompt, about 3 s
  of the next sentence; `said again` knows how long each phone lasts; `shuffled` too, but its phones change places
  within the sentence, which has to ruin it; `continued` begins with the recording's own first 3 s, or half, and is
  scored as a whole; `resynthesised` is the recording's Mel through the same vocoder;
- voices: the cosine between what a speaker encoder makes of a held-out speaker's text, spoken after a prompt of 3 s,
  and of the prompt (SIM-o), of the prompt resynthesised (SIM-r), of another recording of the speaker (`same`), and of
  one of another held-out speaker (`other`), of the same sex where the list knows it. `apart` is `same` less `other`.
  Recordings and resynthesised ones of the same text stand beside it; intervals are over speakers;
- durations: the mean absolute error in frames behind the first 3 s, or half, of a sentence, against each phone's mean
  and median length in split 'train', and the total predicted over the true one. Silences of no length count;
- ten sentences as FLAC, with their spectrograms.

`speed` speaks a text of about 10 s in 32 and in 8 evaluations, in turn.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import report
from jaxtyping import Float

from sfjax import audio, evaluation, inference, spectrogram_plot
from sfjax.configs import default
from sfjax.data import attach_phones, manifest, prepare, synthetic
from sfjax.evaluation import compare_runs, speech
from sfjax.evaluation.report import bootstrap_interval
from sfjax.inference import infill, tts
from sfjax.metrics import Unscorable, speaker
from sfjax.text import g2p, phones, textgrid
from sfjax.text.forced_aligner import PocketSphinx
from sfjax.text.phones import SILENCE, Line

HELD = 20  # speakers held out of everything
SECONDS = 3.0  # of a prompt, to the nearest end of a word
SHOWN = 10  # sentences that are written and drawn
LONGEST, SHORTEST = 0.5, 0.5  # seconds of a phone that is no mistake, and of a recording
TEXT = (
    "The old lighthouse keeper counted every ship that passed before the storm came in. "
    "When the lamp went out, he climbed the narrow stairs and lit it again by hand."
)


# Preparing


def prepared(data: Path, folder: Path, workers: int) -> list[dict[str, Any]]:
    """Writes the three manifests; what there is to know of each."""
    listed = data / "manifest.jsonl"
    lines = [line for line in map(json.loads, listed.read_text().splitlines()) if line.get("spk")]
    names = sorted({line["spk"] for line in lines if line["set"] == "so762"})
    if len(names) <= HELD:
        sys.exit(f"{listed}: expected more than {HELD} speakers of set so762, got {len(names)}")
    held = sorted(np.random.default_rng(0).choice(names, HELD, replace=False).tolist())
    sexes = {line["spk"]: line.get("sex") for line in lines}
    spec = audio.MelSpec(**default.get_config("tiny").mel)
    how = dict(min_seconds=SHORTEST, mel=spec, seed=0, workers=workers, part=(0, 1))
    made = []
    with tempfile.TemporaryDirectory() as temporary:
        sets, kept = ["ls100", "so762", "kathleen"], sorted(sexes.keys() - set(held))
        speech = prepare.jsonl(listed, folder / "speech.parquet", where={"set": sets, "spk": kept}, least={}, **how)
        made.append({"manifest": "speech", "files": speech.files, "hours": speech.hours, "dropped": speech.rejected})
        apart = prepare.jsonl(
            listed, Path(temporary, "apart.parquet"), where={"set": ["so762"], "spk": held}, least={}, **how
        )
        for name, source in (("voices", speech.dest), ("held", apart.dest)):
            rows = [row for row in _rows(manifest.read(source, split=None)) if row["set"] != "ls100"]
            aligned = Path(temporary, f"{name}.parquet")
            manifest.write(aligned, [row | {"sex": sexes[row["speaker"]]} for row in rows])
            done = attach_phones.run(
                aligned, data / "align.jsonl.xz", folder / f"{name}.parquet", longest=LONGEST, spec=spec
            )
            wrong = sum(
                sum(row["lengths"]) != spec.num_frames(-(-row["frames"] * spec.sample_rate // row["rate"]))
                for row in _rows(manifest.read(done.dest, split=None))
            )
            why = ", ".join(f"{count} with {reason}" for reason, count in done.reasons.items())
            facts = {"manifest": name, "files": done.files, "hours": done.hours, "wrong sums": wrong}
            made.append(facts | {"dropped": sum(done.reasons.values()), "why": why})
    return made


def _rows(found: manifest.Manifest) -> list[dict[str, Any]]:
    return [found.row(i) for i in range(len(found))]


# What is spoken and held against what


class Utterance(NamedTuple):
    """A recording at the model's rate, who speaks, and what is said in it."""

    name: str
    speaker: str
    sex: str | None
    wave: Float[np.ndarray, " samples"]
    line: Line

    @property
    def text(self) -> str:
        """The words that were aligned."""
        return " ".join(self.line.words)


def utterances(found: manifest.Manifest, rate: int) -> list[Utterance]:
    """The rows of a manifest by their paths."""
    made = []
    for row in sorted(_rows(found), key=lambda row: row["path"]):
        wave, _ = audio.read(row["path"], start=row["start"], frames=row["frames"], rate=rate)
        line = Line(tuple(row["phones"]), tuple(row["lengths"]), tuple(row["words"]))
        made.append(Utterance(Path(row["path"]).stem, row["speaker"], row.get("sex"), wave, line))
    return made


class Opening(NamedTuple):
    """The beginning of a recording, and how many words it has."""

    prompt: tts.Prompt
    words: int


def opening(one: Utterance, hop: int, frames: int, *, left: int) -> Opening:
    """A recording up to the end of a word that is nearest to a frame, so that `left` words at least follow."""
    words = one.line.nearest(frames, left=left)
    line, _ = one.line.cut(words)
    return Opening(tts.Prompt(one.wave[: sum(line.lengths) * hop], line), words)


def beginning(one: Utterance, hop: int, most: int) -> Opening:
    """About the first `most` frames of a recording, or half of it where that is less; a word at least follows."""
    return opening(one, hop, min(most, sum(one.line.lengths) // 2), left=1)


class Voice:
    """A model that speaks, with what it is asked: sampling, a seed, and the words it can pronounce."""

    def __init__(self, model: inference.Model, options: dict[str, Any], seed: int):
        self.model, self.options, self.seed = model, options, seed
        self.spec, self.lexicon = model.spec, g2p.default_lexicon()
        self.prompt_frames = round(SECONDS * self.spec.sample_rate / self.spec.hop)

    def again(self, waves: Sequence[Float[np.ndarray, " _"]]) -> list[Float[np.ndarray, " _"]]:
        """Recordings made again from their Mels."""
        return infill.to_waves(self.model, infill.mels(self.model, waves))

    def prompt(self, one: Utterance) -> tts.Prompt:
        """About three seconds of a recording, fewer if the model takes no more."""
        wave, line = opening(one, self.spec.hop, self.prompt_frames, left=0).prompt
        return tts.prompt(wave, self.spec.sample_rate, line, model=self.model)

    def speak(self, text: str, prompt: tts.Prompt) -> Float[np.ndarray, " samples"]:
        """A text in the voice of a prompt, as the product speaks it."""
        given = (prompt.wave, self.spec.sample_rate, prompt.line)
        return self.model.speak(text, prompt=given, lexicon=self.lexicon, seed=self.seed, **self.options).wave

    def say(self, asked: Sequence[tuple[tts.Prompt, Line]]) -> list[Float[np.ndarray, " samples"]]:
        """Lines of known lengths after their prompts."""
        gaps = [tts.gap(self.model, line, prompt) for prompt, line in asked]
        mels = infill.regenerate(self.model, gaps, self.seed, self.options)
        waves = infill.to_waves(self.model, mels)
        known = [sum(prompt.line.lengths) * self.spec.hop for prompt, _ in asked]
        return [wave[start:] for wave, start in zip(waves, known, strict=True)]


def shuffled(line: Line, seed: int) -> Line:
    """The line with its phones in other places, those of silences and all lengths as they were."""
    places = [i for i, token in enumerate(line.phones) if token != SILENCE]
    tokens = list(line.phones)
    for place, drawn in zip(places, np.random.default_rng(seed).permutation(places), strict=True):
        tokens[place] = line.phones[drawn]
    return line._replace(phones=tuple(tokens))


# Words


def sentences(say: Voice, found: list[Utterance]) -> dict[str, list[Float[np.ndarray, " samples"]]]:
    """Every sentence by every system."""
    prompts = [say.prompt(one) for one in [*found[1:], found[0]]]
    own = [beginning(one, say.spec.hop, say.prompt_frames) for one in found]
    rest = [" ".join(one.line.words[begun.words :]) for one, begun in zip(found, own, strict=True)]
    lines = [shuffled(one.line, number) for number, one in enumerate(found)]
    both = say.say([*zip(prompts, (one.line for one in found), strict=True), *zip(prompts, lines, strict=True)])
    return {
        "original": [one.wave for one in found],
        "resynthesised": say.again([one.wave for one in found]),
        "spoken": [say.speak(one.text, prompt) for one, prompt in zip(found, prompts, strict=True)],
        "said again": both[: len(found)],
        "continued": [
            np.concatenate([begun.prompt.wave, say.speak(text, begun.prompt)])
            for text, begun in zip(rest, own, strict=True)
        ],
        "shuffled": both[len(found) :],
    }


def heard(
    found: list[Utterance],
    made: dict[str, list[Float[np.ndarray, " samples"]]],
    rate: int,
    *,
    transcriber: str,
    workers: int,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The word error rates as a table, and the counts of each recording."""
    texts = {one.name: one.text for one in found}
    with tempfile.TemporaryDirectory() as folder:
        for system, waves in made.items():
            for one, wave in zip(found, waves, strict=True):
                audio.write(Path(folder, system, f"{one.name}.flac"), wave, rate)
        scored = speech.words(Path(folder), texts, transcriber=transcriber, workers=workers, progress=False)
    rows, counts = [], {}
    for system in made:
        mine = lambda some: [row for row in some if Path(row["name"]).parent.name == system]  # noqa: B023
        own = evaluation.Report(mine(scored.rows), mine(scored.failed))
        try:
            errors, low, high = speech.word_error_rate(own)
        except Unscorable as error:
            sys.exit(f"{system}: {error}; {own.failed[:1]}")
        total = sum(int(row["words"]) for row in own.rows)
        sizes = {"sentences": len(own.rows), "words": total, "failed": len(own.failed)}
        rows.append({"system": system, "WER": errors, "low": low, "high": high, **sizes})
        counts[system] = {"rows": own.rows, "failed": own.failed}
    return rows, counts


def show(say: Voice, found: list[Utterance], made: dict[str, list[np.ndarray]], out: Path) -> None:
    """Writes some sentences and draws them."""
    for number, _ in enumerate(found[:SHOWN]):
        waves = {system: made[system][number] for system in ("resynthesised", "spoken", "original")}
        for system, wave in waves.items():
            audio.write(out / f"{number:02}_{system}.flac", wave, say.spec.sample_rate)
        panels = dict(zip(waves, infill.mels(say.model, [*waves.values()]), strict=True))
        spectrogram_plot.spectrograms(panels, say.spec, out / f"{number:02}.png")


# Voices


class Pair(NamedTuple):
    """A prompt, a text of the same speaker, a third recording of that speaker, and one of somebody else."""

    prompt: Utterance
    target: Utterance
    same: Utterance
    other: Utterance


def pairs(found: list[Utterance], count: int, seed: int) -> list[Pair]:
    """At most `count` for every speaker with three recordings or more."""
    rng, by_speaker = np.random.default_rng(seed), {}
    for one in found:
        by_speaker.setdefault(one.speaker, []).append(one)
    made = []
    for name, own in sorted(by_speaker.items()):
        others = [one for one in found if one.speaker != name]
        similar = [one for one in others if own[0].sex is not None and one.sex == own[0].sex] or others
        order = [own[i] for i in rng.permutation(len(own))]
        if len(own) < 3 or not similar:
            continue
        for i in range(min(count, len(own))):
            three = (order[(i + k) % len(order)] for k in range(3))
            made.append(Pair(*three, similar[rng.integers(len(similar))]))
    return made


def alike(say: Voice, asked: list[Pair], *, encoder: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Cosines by system as a table, and those of every speaker."""
    rate, encode = say.spec.sample_rate, speaker.encoder(encoder)
    prompts = [say.prompt(one.prompt) for one in asked]
    again = say.again([prompt.wave for prompt in prompts])
    made = {
        "recorded": [one.target.wave for one in asked],
        "resynthesised": say.again([one.target.wave for one in asked]),
        "spoken": [say.speak(one.target.text, prompt) for one, prompt in zip(asked, prompts, strict=True)],
    }
    whole = {one.name: encode(one.wave, rate) for one in {one.name: one for pair in asked for one in pair}.values()}
    references = [
        {
            "SIM-o": encode(prompt.wave, rate),
            "SIM-r": encode(wave, rate),
            "same": whole[one.same.name],
            "other": whole[one.other.name],
        }
        for one, prompt, wave in zip(asked, prompts, again, strict=True)
    ]
    rows, reports = [], {}
    for system, waves in made.items():
        cosines: dict[str, list[dict[str, float]]] = {}
        failed = []
        for one, against, wave in zip(asked, references, waves, strict=True):
            try:
                mine = encode(wave, rate)
            except Unscorable as error:
                failed.append({"name": one.target.name, "reason": str(error)})
                continue
            found = {name: speaker.similarity(mine, reference) for name, reference in against.items()}
            cosines.setdefault(one.target.speaker, []).append(found | {"apart": found["same"] - found["other"]})
        means = [
            {"name": name, **{key: float(np.mean([one[key] for one in several])) for key in several[0]}}
            for name, several in cosines.items()
        ]
        scored = evaluation.Report(means, failed)
        low, high = scored.interval.get("apart", (None, None))
        counts = {"speakers": len(means), "pairs": len(waves) - len(failed), "failed": len(failed)}
        rows.append({"system": system, **scored.mean, "low": low, "high": high, **counts})
        reports[system] = scored.to_json()
    return rows, reports


# Durations


def durations(
    model: inference.Model, train: list[Line], found: dict[str, list[Utterance]], frames: int
) -> list[dict[str, Any]]:
    """The errors of a model of durations and of two constants for each phone, on some sets of sentences."""
    known = phones.inventory(line.phones for line in train)
    heard = np.concatenate([phones.numbers(line.phones, known) for line in train])
    lengths = np.concatenate([line.lengths for line in train])
    by_phone = [lengths[heard == number] for number in range(1, len(known) + 1)]
    constant = lambda mean: np.array([0.0, *map(mean, by_phone)])
    means, medians = constant(np.mean), constant(np.median)
    look_up = lambda table: lambda line, hidden: table[phones.numbers(line.phones, known)]
    ways = {"model": model.duration_model, "mean of the phone": look_up(means), "median of the phone": look_up(medians)}
    rows = []
    for name, some in found.items():
        for way, predict in ways.items():
            rows.append({"sentences": name, "lengths by": way, **_errors(model, predict, some, frames)})
    return rows


def _errors(model, predict, some, frames):
    """Mean absolute errors behind the beginning with the 95 % interval, and totals over the true ones."""
    predicted, true, silent, sums = [], [], [], []
    for one in some:
        begun = beginning(one, model.spec.hop, frames)
        behind = np.arange(len(one.line.phones)) >= len(begun.prompt.line.phones) - 1
        found = np.asarray(predict(one.line, behind))[behind]
        wanted = np.array(one.line.lengths)[behind]
        sums.append((np.abs(found - wanted).sum(), behind.sum()))
        predicted.append(found)
        true.append(wanted)
        silent.append(np.array(one.line.phones)[behind] == SILENCE)
    predicted, true, silent = map(np.concatenate, (predicted, true, silent))
    low, high = bootstrap_interval(np.array(sums, np.float64), lambda sums: sums[:, 0] / sums[:, 1]).tolist()
    apart, ratio = np.abs(predicted - true), lambda part: float(predicted[part].sum() / max(true[part].sum(), 1))
    return {
        "error": float(apart.mean()),
        "low": low,
        "high": high,
        "of phones": float(apart[~silent].mean()),
        "of silences": float(apart[silent].mean()),
        "total of phones": ratio(~silent),
        "total of silences": ratio(silent),
        "hidden": len(true),
        "n": len(sums),
    }


# Speed


def timed(
    model: inference.Model, wave: Float[np.ndarray, " samples"], rate: int, text: str, rounds: int
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Seconds for a second of speech and where they go, and what it takes to align the prompt and load the lexicon."""
    spent: dict[str, list[float]] = {"alignment": [], "lexicon": []}
    runs: dict[int, list[tuple[float, tts.Speech]]] = {4: [], 16: []}
    lexicon, prompt = g2p.default_lexicon(), tts.prompt(wave, rate, text, model=model)
    given = (prompt.wave, model.spec.sample_rate, prompt.line)
    for _ in range(rounds + 1):
        for name, work in (
            ("alignment", lambda: PocketSphinx()(wave, rate, text)),
            ("lexicon", g2p.default_lexicon),
        ):
            began = time.perf_counter()
            work()
            spent[name].append(time.perf_counter() - began)
        for steps, done in runs.items():
            began = time.perf_counter()
            made = model.speak(TEXT, prompt=given, lexicon=lexicon, solver="midpoint", steps=steps)
            done.append((time.perf_counter() - began, made))
    rows = []
    for steps, done in runs.items():
        made = [one for _, one in done[1:]]
        seconds = len(made[0].wave) / model.spec.sample_rate
        stages = {name: statistics.median(one.spent[name] for one in made) for name in made[0].spent}
        row = {"evaluations": 2 * steps, "s/s": statistics.median(took for took, _ in done[1:]) / seconds}
        row |= {f"{name} %": 100 * took / sum(stages.values()) for name, took in stages.items()}
        rows.append(row | {"seconds": seconds, "seconds of prompt": len(prompt.wave) / model.spec.sample_rate})
    return rows, {name: statistics.median(took[1:]) for name, took in spent.items()}


def a_voice() -> tuple[Float[np.ndarray, " samples"], int, str]:
    """A sentence by espeak-ng."""
    with tempfile.TemporaryDirectory() as folder:
        listed = synthetic.generate(folder, voices=1, sentences=1, seed=0, workers=1)
        line = json.loads(listed.read_text().splitlines()[0])
        return *audio.read(Path(folder, line["path"])), line["text"]


# Commands


def main(argv: list[str] | None = None) -> None:
    """Prepares, measures speech or measures its speed; prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True, metavar="prepare|say|speed")
    one = verbs.add_parser("prepare", help="manifests from real recordings and their alignments")
    one.add_argument("--data", type=Path, required=True, help="folder with manifest.jsonl, align.jsonl.xz and audio")
    one.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    one.set_defaults(verb=_prepare)
    two = verbs.add_parser("say", help="words, voices and durations")
    two.add_argument("folder", type=Path, help="what prepare wrote")
    two.add_argument("--sentences", type=int, help="default: all")
    two.add_argument("--pairs", type=int, default=3, help="of each speaker at most")
    two.add_argument("--seed", type=int, default=0, help="of the noise that sampling starts from")
    for name, kind in (("solver", str), ("steps", int), ("guidance", float)):
        two.add_argument(f"--{name}", type=kind, help="default: the run's")
    two.add_argument("--transcriber", default="pocketsphinx", help="or hubert:FOLDER, command:COMMAND")
    two.add_argument("--encoder", default="resemblyzer", help="or wavlm:FOLDER")
    two.add_argument("-o", "--output", type=Path, required=True, metavar="OUT")
    two.set_defaults(verb=_say)
    three = verbs.add_parser("speed", help="seconds for a second of speech")
    three.add_argument("--prompt", type=Path, help="recording of about 3 s; default: by espeak-ng")
    three.add_argument("--prompt-text", help="what is said in it")
    three.add_argument("--rounds", type=int, default=3)
    three.add_argument("-o", "--output", type=Path, metavar="FILE.json")
    three.set_defaults(verb=_speed)
    for verb in (two, three):
        verb.add_argument("--model", required=True, metavar="RUN", help="run that speaks")
        verb.add_argument("--duration-model", required=True, metavar="RUN", help="run of durations")
        verb.add_argument("--vocoder", metavar="RUN", help="default: Griffin-Lim")
    for verb in (one, two):
        verb.add_argument("--workers", type=int, default=report.cores(), help="processes that decode or score")
    given = parser.parse_args(argv)
    given.verb(given)


def _prepare(given):
    made = prepared(given.data, given.output, given.workers)
    print(f"{len(textgrid.read_jsonl(given.data / 'align.jsonl.xz'))} alignments")
    print(compare_runs.table(made))


def _say(given):
    facts = report.machine()
    model = inference.load(given.model, duration_model=given.duration_model, vocoder=given.vocoder)
    options = model.sampling({name: getattr(given, name) for name in ("solver", "steps", "guidance")}, model.filling())
    say, rate = Voice(model, options, given.seed), model.spec.sample_rate
    valid, train = (manifest.read(given.folder / "voices.parquet", split=name) for name in ("valid", "train"))
    held = utterances(manifest.read(given.folder / "held.parquet", split=None), rate)
    several = lambda some: [one for one in some if len(one.line.words) > 1]  # which can be continued
    chosen = several(utterances(valid, rate))[: given.sentences]
    if len(chosen) < 2:
        sys.exit(f"{given.folder}: expected two sentences of split 'valid' or more, got {len(chosen)}")
    found = {
        "machine": facts,
        "model": model.name,
        "duration_model": given.duration_model,
        "vocoder": given.vocoder or "Griffin-Lim",
        "options": options,
        "seed": given.seed,
    }
    print("\n".join(f"{name}: {value}" for name, value in found.items()), flush=True)

    columns = (train.table.column(name).to_pylist() for name in ("phones", "lengths", "words"))
    lines = [Line(*map(tuple, line)) for line in zip(*columns, strict=True)]
    rows = durations(model, lines, {"valid": chosen, "held out": several(held)}, say.prompt_frames)
    found["durations"] = rows
    print(f"\ndurations, frames of {1000 * model.spec.hop / rate:g} ms\n{compare_runs.table(rows)}", flush=True)

    made = sentences(say, chosen)
    show(say, chosen, made, given.output)
    rows, reports = heard(chosen, made, rate, transcriber=given.transcriber, workers=given.workers)
    found["words"] = {"transcriber": given.transcriber, "rows": rows, "recordings": reports}
    print(f"\nwords by {given.transcriber}\n{compare_runs.table(rows)}", flush=True)

    rows, reports = alike(say, pairs(held, given.pairs, given.seed), encoder=given.encoder)
    found["voices"] = {"encoder": given.encoder, "rows": rows, "speakers": reports}
    print(f"\nvoices by {given.encoder}, the interval is of apart\n{compare_runs.table(rows)}")
    report.write(given.output / "scores.json", found)


def _speed(given):
    if (given.prompt is None) != (given.prompt_text is None):
        sys.exit("expected --prompt and --prompt-text together, got one of them")
    facts = report.machine()
    print(report.heading(facts))
    model = inference.load(given.model, duration_model=given.duration_model, vocoder=given.vocoder)
    prompt = a_voice() if given.prompt is None else (*audio.read(given.prompt), given.prompt_text)
    rows, apart = timed(model, *prompt, given.rounds)
    print(f"{model.name}, {given.vocoder or 'Griffin-Lim'}\n{compare_runs.table(rows)}")
    print(", ".join(f"{name}: {seconds:.2f} s" for name, seconds in apart.items()))
    report.write(
        given.output,
        {
            "machine": facts,
            "model": model.name,
            "duration_model": given.duration_model,
            "vocoder": given.vocoder,
            "rows": rows,
            "apart": apart,
        },
    )


if __name__ == "__main__":
    main()
