"""Where the error of an enhancement run is: in which Mel bands, at which times of the flow, and what it costs in PESQ.

    python tests/benchmarks/enhance_valid.py --data DIR -o OUT
    python tests/benchmarks/where.py --model RUN --pairs OUT --items 24 -o where.json

Three looks at some recordings of OUT/valid.parquet, drawn as curves in where.png:

- the distance in dB between the log-Mel of the model and the clean one, root mean square and mean, band by band;
- the flow-matching loss at ten times t with the same noise in every run, the condition never dropped;
- the scores when a quarter of the bands of the model's Mel, or all, are replaced by the clean ones before the phase is
  borrowed: what a perfect model of these bands would gain.
"""

import argparse
import functools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import enhance_valid
import jax
import jax.numpy as jnp
import numpy as np
import report
from jaxtyping import Array, Float, Int, Key

from sfjax import audio, evaluation, flow, inference, masks, validation
from sfjax.evaluation import compare_runs

BINS = 10  # of the time of the flow
SCORES = ("pesq_wb", "estoi", "si_sdr")


class Pair(NamedTuple):
    """A clean and a noisy wave padded to the length of the longest, and the true number of samples."""

    name: str
    clean: Float[np.ndarray, "1 samples"]
    noisy: Float[np.ndarray, "1 samples"]
    length: Int[np.ndarray, " 1"]


def pairs(path: Path, count: int, rate: int) -> list[Pair]:
    """At most `count` pairs of a manifest."""
    found = []
    for row in enhance_valid.chosen(path, count):
        crop = dict(start=row["start"], frames=row["frames"], rate=rate)
        waves = [audio.read(row[column], **crop)[0] for column in ("path", "noisy")]
        found.append((Path(row["noisy"]).stem, *waves))
    longest = max(len(clean) for _, clean, _ in found)
    pad = lambda wav: np.pad(wav, (0, longest - len(wav)))[None]
    return [Pair(name, pad(clean), pad(noisy), np.array([len(clean)], np.int32)) for name, clean, noisy in found]


def field(model: inference.Model, params: Any) -> Callable:
    """The network as `sfjax.flow` calls it."""
    return lambda x, t, inputs, lengths: model.network.apply({"params": params}, x, t, lengths=lengths, **inputs)


def condition(model: inference.Model, noisy: Array, length: Array) -> dict[str, Array]:
    """The network's inputs."""
    count = (length + model.spec.hop - 1) // model.spec.hop
    return jax.vmap(model.task.condition)({"noisy": audio.log_mel(noisy, model.spec, length)}, count)


def sampled(
    model: inference.Model, options: dict[str, Any], params: Any, noisy: Array, length: Array
) -> Float[Array, "1 frames mels"]:
    """The Mel that `sfjax enhance --seed 0` makes of a recording."""
    count = (length + model.spec.hop - 1) // model.spec.hop
    x0 = flow.noise(jax.random.key(0), model.spec.num_frames(noisy.shape[1]), model.spec.bands)[None]
    return flow.sample(field(model, params), x0, condition(model, noisy, length), count, **options)


def losses(
    model: inference.Model, params: Any, clean: Array, noisy: Array, length: Array, key: Key[Array, ""], times: Array
) -> flow.Error:
    """The error and the count of the flow-matching loss at each of some times, with one noise."""
    count = (length + model.spec.hop - 1) // model.spec.hop
    inputs, target = condition(model, noisy, length), audio.log_mel(clean, model.spec, length)
    weight = masks.valid(count, target.shape[1]).astype(jnp.float32)
    x0 = flow.noise(key, *target.shape[1:])[None]
    at = lambda x, t: field(model, params)(x, t, inputs, count)
    return jax.lax.map(lambda t: flow.loss(at, target, weight, x0, t[None]), times)


def quarters(bands: int) -> dict[str, tuple[int, int]]:
    """The ranges of bands whose Mel is swapped, by name."""
    edges = [bands * i // 4 for i in range(5)]
    parts = {f"{low}-{high}": (low, high) for low, high in zip(edges, edges[1:], strict=False)}
    return {"none": (0, 0), **parts, "all": (0, bands)}


class Seen(NamedTuple):
    """Sums over the frames of a recording, or of many: dB by band, squared and plain, and the loss by time."""

    squared: np.ndarray
    plain: np.ndarray
    squared_noisy: np.ndarray
    frames: int
    total: np.ndarray
    count: np.ndarray


class Programs(NamedTuple):
    """What is compiled once, for recordings of one padded length."""

    log_mel: Callable
    sampled: Callable
    losses: Callable
    wave: Callable


def programs(model: inference.Model, options: dict[str, Any]) -> Programs:
    """The jitted functions of this module for a model."""
    spec = model.spec
    wave = lambda mel, noisy, length: audio.borrow_phase(mel[:, None], audio.stft(noisy, spec, length), spec, length)[
        :, 0
    ]
    functions = (
        lambda wav, length: audio.log_mel(wav, spec, length),
        functools.partial(sampled, model, options),
        functools.partial(losses, model),
        wave,
    )
    return Programs(*map(jax.jit, functions))


def measured(model: inference.Model, do: Programs, number: int, pair: Pair) -> tuple[Seen, Array, Array]:
    """The first two looks at recording `number`, its Mel by the model, and the clean one."""
    frames = model.spec.num_frames(int(pair.length[0]))
    clean, noisy = do.log_mel(pair.clean, pair.length), do.log_mel(pair.noisy, pair.length)
    mel = do.sampled(model.params, pair.noisy, pair.length)
    decibels = 20 / np.log(10) * model.spec.std
    apart, before = (np.asarray(m - clean)[0, :frames] * decibels for m in (mel, noisy))
    times = ((np.arange(BINS) + (number + 0.5) * validation.GOLDEN % 1) / BINS).astype(np.float32)
    key = jax.random.fold_in(jax.random.key(validation.VALIDATION), number)
    loss = do.losses(model.params, pair.clean, pair.noisy, pair.length, key, times)
    sums = ((apart**2).sum(0), apart.sum(0), (before**2).sum(0), frames)
    return Seen(*sums, np.asarray(loss.total), np.asarray(loss.count)), mel, clean


def look(
    model: inference.Model, options: dict[str, Any], found: list[Pair], workers: int
) -> tuple[Seen, evaluation.Report]:
    """All three looks; the names in the report are `range of bands|recording`."""
    do = programs(model, options)
    seen: list[Seen] = []

    def estimates() -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        for number, pair in enumerate(found):
            one, mel, clean = measured(model, do, number, pair)
            seen.append(one)
            whole = slice(0, int(pair.length[0]))
            for name, (low, high) in quarters(model.spec.bands).items():
                swapped = mel.at[..., low:high].set(clean[..., low:high])
                wav = np.asarray(do.wave(swapped, pair.noisy, pair.length))
                yield f"{name}|{pair.name}", pair.clean[0, whole], wav[0, whole]

    scores = evaluation.score_arrays(estimates(), rate=model.spec.sample_rate, workers=workers, progress=False)
    return Seen(*map(sum, zip(*seen, strict=True))), scores


def summary(model: inference.Model, seen: Seen, scores: evaluation.Report) -> dict[str, Any]:
    """What is written as JSON."""
    by_band = {
        "hertz": _centres(model.spec),
        "rms_db": np.sqrt(seen.squared / seen.frames),
        "mean_db": seen.plain / seen.frames,
        "noisy_rms_db": np.sqrt(seen.squared_noisy / seen.frames),
    }
    by_swap = {}
    for name in quarters(model.spec.bands):
        rows = [row for row in scores.rows if row["name"].partition("|")[0] == name]
        if not rows:
            sys.exit(f"nothing was scored with clean bands {name}: {scores.failed}")
        by_swap[name] = {score: float(np.mean([row[score] for row in rows])) for score in SCORES} | {"n": len(rows)}
    return {
        "model": model.name,
        "bands": {name: values.tolist() for name, values in by_band.items()},
        "times": {"t": ((np.arange(BINS) + 0.5) / BINS).tolist(), "loss": (seen.total / seen.count).tolist()},
        "clean_bands": by_swap,
        "failed": scores.failed,
    }


def _centres(spec: audio.MelSpec) -> Float[np.ndarray, " mels"]:
    filters = audio.filterbank(spec)
    hertz = np.arange(filters.shape[1]) * spec.sample_rate / spec.n_fft
    return (filters @ hertz) / filters.sum(axis=1)


def tables(found: dict[str, Any]) -> list[str]:
    """The three looks as tables, that by band in quarters."""
    bands = found["bands"]
    root = lambda name, low, high: float(np.sqrt(np.mean(np.square(bands[name][low:high]))))
    by_band = [
        {"bands": name, "model dB": root("rms_db", *span), "noisy dB": root("noisy_rms_db", *span)}
        for name, span in quarters(len(bands["hertz"])).items()
        if name != "none"
    ]
    by_time = [{"t": t, "loss": loss} for t, loss in zip(*found["times"].values(), strict=True)]
    by_swap = [{"clean bands": name, **row} for name, row in found["clean_bands"].items()]
    return [compare_runs.table(rows) for rows in (by_band, by_time, by_swap)]


def draw(found: dict[str, Any], path: Path) -> None:
    """The three looks side by side as PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 3.8), dpi=110, layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    for name, label in (("noisy_rms_db", "noisy, RMS"), ("rms_db", "model, RMS"), ("mean_db", "model, mean")):
        left.plot(found["bands"][name], label=label)
    left.set(xlabel="Mel band", ylabel="dB from the clean Mel", title="distance by band")
    left.axhline(0, color="grey", linewidth=0.5)
    left.legend()
    middle.plot(found["times"]["t"], found["times"]["loss"], marker="o")
    middle.set(xlabel="t", ylabel="loss", title="flow-matching loss by time")
    middle.set_ylim(0, 1.1 * max(found["times"]["loss"]))
    names = list(found["clean_bands"])
    bars = right.bar(names, [found["clean_bands"][name]["pesq_wb"] for name in names])
    right.bar_label(bars, fmt="%.2f")
    right.set(xlabel="Mel bands that are clean", ylabel="PESQ wb", title="score if bands were clean", ylim=(1, None))
    figure.suptitle(found["model"], fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def main(argv: list[str] | None = None) -> None:
    """Looks, prints, writes and draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="workdir of an enhancement run")
    parser.add_argument("--step", type=int, help="checkpoint; default: the newest")
    parser.add_argument("--ema", action=argparse.BooleanOptionalAction, default=True, help="averaged parameters")
    report.pairs_flags(parser)
    for name, kind in (("solver", str), ("steps", int), ("guidance", float)):
        parser.add_argument(f"--{name}", type=kind, help="default: the run's")
    parser.add_argument("--quick", action="store_true", help="two items, sampled in one step")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE.json", help="the picture lies beside it as PNG")
    given = parser.parse_args(argv)
    count, steps = (2, 1) if given.quick else (given.items, given.steps)
    model = inference.load(given.model, ema=given.ema, step=given.step)
    changes = {"solver": given.solver, "steps": steps, "guidance": given.guidance}
    options = model.options | {name: value for name, value in changes.items() if value is not None}
    items = pairs(given.pairs / "valid.parquet", count, model.spec.sample_rate)
    found = summary(model, *look(model, options, items, given.workers))
    print(f"{model.name}, {len(items)} recordings, {options}")
    print("\n\n".join(tables(found)))
    if given.output is not None:
        draw(found, given.output.with_suffix(".png"))
    report.write(given.output, {"machine": report.machine(), "items": len(items), "options": options, **found})


if __name__ == "__main__":
    main()
