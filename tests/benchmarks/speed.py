"""How fast training, sampling, the log-Mel and the loader are, in seconds of audio per second.

    python tests/benchmarks/speed.py --sizes tiny small --rounds 5 -o speed.json

Every case is run twice and its second run timed in each round, in turn, so that a change of the machine's load meets
them all; reported are medians over the rounds. Compile times include tracing and are those of a first start: no
compilation cache is used. A train step is `sfjax.train_step.step`, from waves to the averaged parameters; sampling is
32 evaluations with guidance from wave to wave. The loader is timed from its first batch on, without the start of its
process. If PyTorch is installed, the same train step in it (`torch_step.py`; on a GPU with `torch.compile`) takes its
turn in each round, and the ratio is printed. So are the share of the measured rate of a matrix product, in the type
that layers compute in, that a step's own FLOPs reach (MFU; counted from shapes, without what remat repeats), and how
sampling compares with 64 bare forward passes. On a GPU the paper's share of one device is

    python tests/benchmarks/speed.py --sizes base large --seconds 15 --batch 5 -o gpu.json
"""

import argparse
import functools
import importlib.util
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import material
import numpy as np
import report

from sfjax import audio, flow, plan, tasks, train
from sfjax.config import read
from sfjax.configs import default, enhance
from sfjax.data import loader
from sfjax.data.examples import Simulation
from sfjax.evaluation import compare_runs

AIM = 1000  # seconds of audio per second that one process should load


class Case(NamedTuple):
    """Something to time: `run` returns the seconds of audio it handled and the seconds it took."""

    name: str
    run: Callable[[], tuple[float, float]]
    compile_seconds: float | None


class Sized(NamedTuple):
    """Enhancement of a size: its config, its task, its Mels and its program."""

    config: Any
    task: Any
    spec: audio.MelSpec
    program: train.Program


def sized(size: str, steps: int) -> Sized:
    """Enhancement of a size, sampled in `steps` steps of the midpoint rule."""
    config = enhance.get_config(size)
    config.sample.update(solver="midpoint", steps=steps)
    typed = read(config)
    return Sized(config, typed.task, typed.mel, train.make_program(typed))


def waves(count: int, seconds: float) -> dict[str, np.ndarray]:
    """`count` generated recordings: speech, and the same with noise."""
    speech = np.stack([material.voice(seconds, i) for i in range(count)])
    return {"speech": speech, "noisy": speech + np.stack([material.noise(seconds, i) for i in range(count)])}


def compiled(function: Callable, *arguments: Any, donate: tuple[int, ...] = ()) -> tuple[Callable, float]:
    """The program of a function for such arguments, and the seconds that tracing and compiling it took."""
    began = time.perf_counter()
    program = jax.jit(function, donate_argnums=donate).lower(*arguments).compile()
    return program, time.perf_counter() - began


def timed(name: str, run: Callable[[], Any], audio_seconds: float, compile_seconds: float | None) -> Case:
    """The case of a function that returns when its work is done."""

    def clocked():
        began = time.perf_counter()
        run()
        return audio_seconds, time.perf_counter() - began

    return Case(name, clocked, compile_seconds)


def train_case(size: str, made: Sized, waves: dict[str, np.ndarray]) -> Case:
    """`sfjax.train_step.step`, jitted and donated as `sfjax.train.run` does."""
    batch = waves["speech"]
    state = jax.jit(made.program.random_state)(jax.random.key(0))
    lengths = np.full(len(batch), batch.shape[1], np.int32)
    given = jax.device_put({"waves": waves, "mels": {}, "labels": {}, "lengths": lengths, "task": 0 * lengths})
    program, spent = compiled(made.program.step, state, given, donate=(0,))

    def run():
        nonlocal state
        state, _ = jax.block_until_ready(program(state, given))

    return timed(f"{size} train step", run, batch.size / made.spec.sample_rate, spent)


def sample_case(size: str, made: Sized, noisy: np.ndarray) -> Case:
    """Noisy waves to clean ones by guided sampling, as `sfjax.inference` does it."""
    network, task, spec = made.program.network, made.task, made.spec
    options = made.config.sample.to_dict()
    frames = spec.num_frames(noisy.shape[1])

    def enhanced(params, noisy):
        lengths = jnp.full(len(noisy), noisy.shape[1])
        count = jnp.full(len(noisy), frames)
        inputs = jax.vmap(task.condition)({"noisy": audio.log_mel(noisy, spec, lengths)}, count)
        x0 = jax.vmap(lambda key: flow.noise(key, frames, spec.bands))(jax.random.split(jax.random.key(0), len(noisy)))
        apply = lambda x, t, inputs, lengths: network.apply({"params": params}, x, t, lengths=lengths, **inputs)
        x1 = flow.sample(apply, x0, inputs, count, **options)
        return audio.borrow_phase(x1[:, None], audio.stft(noisy, spec, lengths), spec, lengths)[:, 0]

    frame = jnp.zeros((1, 8, spec.bands))
    params = jax.jit(network.init)(jax.random.key(0), frame, jnp.zeros(1), frame, jnp.full(1, 8))["params"]
    given = jax.device_put((params, noisy))
    program, spent = compiled(enhanced, *given)
    run = lambda: jax.block_until_ready(program(*given))
    evaluations = flow.STAGES[options["solver"]] * options["steps"]
    return timed(f"{size} sampling, {evaluations} evaluations", run, noisy.size / spec.sample_rate, spent)


def forward_case(size: str, made: Sized, count: int, frames: int) -> Case:
    """64 forward passes of the network alone: what 32 evaluations with guidance are made of."""
    network, bands = made.program.network, made.spec.bands
    x, condition = jax.random.normal(jax.random.key(0), (2, count, frames, bands))
    given = (x, jnp.full(count, 0.5), condition, jnp.full(count, frames))
    params = jax.jit(network.init)(jax.random.key(0), *given)["params"]
    program, spent = compiled(lambda params, *given: network.apply({"params": params}, *given), params, *given)
    passes = 2 * flow.STAGES[made.config.sample.solver] * made.config.sample.steps

    def run():
        for _ in range(passes):
            out = program(params, *given)
        jax.block_until_ready(out)

    seconds = count * frames * made.spec.hop / made.spec.sample_rate
    return timed(f"{size} forward, {passes} passes", run, seconds, spent)


def matmul_rate(dtype: Any) -> float:
    """FLOP/s of the product of two square matrices, the best of five."""
    side = 8192 if jax.default_backend() != "cpu" else 2048
    one = jnp.ones((side, side), dtype)
    program = jax.jit(lambda a: a @ a)
    spent = []
    for _ in range(6):
        began = time.perf_counter()
        jax.block_until_ready(program(one))
        spent.append(time.perf_counter() - began)
    return 2 * side**3 / min(spent[1:])


def utilisation(made: Sized, batch: int, frames: int, seconds: float) -> float:
    """The share of `matmul_rate` that a train step of so many seconds reaches."""
    network = made.program.network
    params = jax.eval_shape(made.program.random_state, jax.random.key(0)).params
    work = plan.flops(params, {}, width=network.config.width, layers=network.config.layers, batch=batch, tokens=frames)
    return work / seconds / matmul_rate(network.dtype)


def mel_case(wav: np.ndarray) -> Case:
    """`sfjax.audio.log_mel`."""
    spec = audio.MelSpec(**default.get_config("tiny").mel)
    wav = jax.device_put(wav)
    program, spent = compiled(functools.partial(audio.log_mel, spec=spec), wav)
    return timed("log-Mel", lambda: jax.block_until_ready(program(wav)), wav.size / spec.sample_rate, spent)


def torch_case(size: str, made: Sized, waves: dict[str, np.ndarray]) -> tuple[Case, float]:
    """The train step in PyTorch, and the largest difference of the two networks' outputs on the same input."""
    import torch
    import torch_step

    torch.set_num_threads(report.cores())
    frames, bands = made.spec.num_frames(waves["speech"].shape[1]), made.spec.bands
    x, condition = jax.random.normal(jax.random.key(1), (2, 1, frames, bands))
    given = (x, jnp.full(1, 0.3), condition)
    params = made.program.network.init(jax.random.key(0), *given, jnp.full(1, frames))["params"]
    twin = torch_step.copied(torch_step.Estimator(mels=bands, frames=frames, **made.config.model), params).eval()
    with torch.no_grad():
        theirs = twin(*(torch.tensor(np.asarray(value)) for value in given)).numpy()
    ours = np.asarray(made.program.network.apply({"params": params}, *given, jnp.full(1, frames)))
    device = "cuda" if jax.default_backend() == "gpu" and torch.cuda.is_available() else "cpu"
    run = torch_step.step(twin, made.config, made.spec, waves, device)
    seconds = waves["speech"].size / made.spec.sample_rate
    return timed(f"{size} train step in torch", run, seconds, None), float(np.abs(ours - theirs).max())


def loader_cases(folder: Path, *, batches: int, files: int, longest: float) -> Iterator[Case]:
    """Crops of a quarter of the longest file, the same with noise mixed in, and whole files; by a thread, a process."""
    speech, noise = material.corpus(folder, count=files, seconds=(0.75 * longest, longest))
    config = default.get_config("tiny")
    config.mix.noise = str(noise)
    kinds = (
        ("crops", longest / 4, default),
        ("crops with noise", longest / 4, enhance),
        ("whole files", longest, default),
    )
    spec, simulation = (
        audio.MelSpec(**config.mel),
        Simulation(config.mix, config.degrade, config.mixture, config.enrolment),
    )
    for name, bucket, module in kinds:
        task = tasks.make(**module.get_config("tiny").task)
        found = loader.sources(str(speech), task, spec=spec, simulation=simulation, split=None)
        plan = loader.Plan((found[0].manifest.seconds,), (1.0,), (bucket,), 4 * longest, 1, 0)
        reader = loader.Reader(found, plan, task, spec, (0, 1))
        for workers in (0, 1):
            yield loader_case(f"loader: {name}, {'a process' if workers else 'a thread'}", reader, batches, workers)


def loader_case(name: str, reader: loader.Reader, batches: int, workers: int) -> Case:
    """Batches after the first, which waits for the process to start."""

    def run():
        stream = loader.batches(reader, first=0, last=batches + 1, workers=workers)
        next(stream)
        began = time.perf_counter()
        samples = sum(int(next(stream)["lengths"].sum()) for _ in range(batches))
        spent = time.perf_counter() - began
        stream.close()  # the process is gone before another case runs
        return samples / reader.spec.sample_rate, spent

    return Case(name, run, None)


def in_turn(cases: list[Case], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Seconds of audio and seconds taken of every case in every round, each right after itself.

    Steps follow one another in training. The first one after another case can take nearly twice as long, probably
    because its memory has to be found again.
    """
    found: dict[str, list[tuple[float, float]]] = {case.name: [] for case in cases}
    for _ in range(rounds):
        for case in cases:
            case.run()
            found[case.name].append(case.run())
    return found


def summary(case: Case, measured: list[tuple[float, float]]) -> dict[str, Any]:
    """One line of the table."""
    spent = [seconds for _, seconds in measured]
    return {
        "case": case.name,
        "audio_seconds_per_second": statistics.median(audio / seconds for audio, seconds in measured),
        "audio_seconds": measured[0][0],
        "seconds": statistics.median(spent),
        "fastest": min(spent),
        "slowest": max(spent),
        "compile_seconds": case.compile_seconds,
    }


def flags(argv: list[str] | None) -> argparse.Namespace:
    """The command line; `--quick` shrinks whatever was not given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=default.SIZES, help="default: tiny and small")
    parser.add_argument("--batch", type=int, help="examples in a train step; default 8")
    parser.add_argument("--seconds", type=float, help="of an example; default 4")
    parser.add_argument("--rounds", type=int, help="times that every case is timed; default 5")
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes; the figures mean little")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE.json")
    found = parser.parse_args(argv)
    found.sizes = found.sizes or (["tiny"] if found.quick else ["tiny", "small"])
    found.rounds = found.rounds or (1 if found.quick else 5)
    found.batch = found.batch or (2 if found.quick else 8)
    found.seconds = found.seconds or (0.5 if found.quick else 4.0)
    return found


def main(argv: list[str] | None = None) -> None:
    """Measures, prints and writes."""
    given = flags(argv)
    facts = report.machine() | {"device": jax.devices()[0].device_kind}
    sampled = 1 if given.quick else 2
    load = dict(batches=2, files=3, longest=2.0) if given.quick else dict(batches=40, files=16, longest=16.0)
    with_torch = importlib.util.find_spec("torch") is not None
    data = waves(given.batch, given.seconds)
    cases, differences, programs = [mel_case(data["noisy"])], {}, {}
    for size in given.sizes:
        made = programs[size] = sized(size, steps=1 if given.quick else 16)
        frames = made.spec.num_frames(data["noisy"].shape[1])
        cases += [train_case(size, made, data), sample_case(size, made, data["noisy"][:sampled])]
        cases.append(forward_case(size, made, sampled, frames))
        if with_torch:
            case, differences[size] = torch_case(size, made, data)
            cases.append(case)
    with tempfile.TemporaryDirectory() as folder:
        cases += loader_cases(Path(folder), **load)
        measured = in_turn(cases, given.rounds)
    rows = [summary(case, measured[case.name]) for case in cases]
    sizes: dict[str, dict[str, float]] = {}
    for size, made in programs.items():
        step, sampling, forward = (
            next(case.name for case in cases if case.name.startswith(f"{size} {kind}"))
            for kind in ("train step", "sampling", "forward")
        )
        seconds = statistics.median(spent for _, spent in measured[step])
        sizes[size] = {
            "mfu": utilisation(made, given.batch, frames, seconds),
            "sampling_over_forwards": _ratio(measured, sampling, forward),
        }
        if size in differences:
            sizes[size]["torch_over_jax"] = _ratio(measured, f"{step} in torch", step)
            sizes[size]["torch_output_difference"] = differences[size]
    print(report.heading(facts))
    print(compare_runs.table(rows))
    for size, found in sizes.items():
        print(f"{size}: " + ", ".join(f"{name} {value:.3g}" for name, value in found.items()))
    if peak := (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use"):
        print(f"peak device memory of JAX: {peak / 2**30:.2f} GiB")
    if not with_torch:
        print("torch is not installed: nothing to compare the train step with")
    slow = [row["case"] for row in rows if row["case"].startswith("loader") and row["audio_seconds_per_second"] < AIM]
    print(f"loader below the aim of {AIM} audio-s/s: {'; '.join(slow) or 'none'}")
    found = {"machine": facts, "rounds": given.rounds, "quick": given.quick, "cases": rows, "sizes": sizes}
    report.write(given.output, found | {"peak_device_bytes": peak})


def _ratio(measured: dict[str, list[tuple[float, float]]], one: str, other: str) -> float:
    pairs = zip(measured[one], measured[other], strict=True)
    return statistics.median(mine / theirs for (_, mine), (_, theirs) in pairs)


if __name__ == "__main__":
    jax.config.update("jax_enable_compilation_cache", False)
    main()
