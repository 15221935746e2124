"""How fast a small network learns: CPU minutes until a validation loss is reached, with levers one by one.

    python tests/benchmarks/speedrun.py --recipe pretrain --train speech.parquet --minutes 75 -o speedrun.json
    python tests/benchmarks/speedrun.py --recipe enhance --train ls100.parquet --noise esc10.parquet --init RUN
    python tests/benchmarks/speedrun.py --recipe pretrain --train speech.parquet --levers base:75 all:25 --seeds 3

A lever is a change of the recipe's config, by its name in `LEVERS`, with minutes of its own behind a colon. Every run
gets as many updates as fit into its minutes by the measured time of its step, and its learning rate falls over these.
Runs take turns, so that a busy machine slows all of them alike. Minutes count the CPU time of training steps, summed
over all cores, without reading, compiling and validating; use `taskset` and one thread of XLA to make them steady.

All runs of a recipe are validated by the recipe's own task on the same batches, masks, noise and even times. The
target is the last loss of the first lever (a mean over seeds), or `--target`. README.md has the results.
"""

import argparse
import ast
import dataclasses
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import report

from sfjax import sharding, train
from sfjax.config import read
from sfjax.configs import enhance, pretrain
from sfjax.data import loader
from sfjax.export import release
from sfjax.metric_writer import Silence
from sfjax.validation import Validation

NETWORK = {  # 3.6 M parameters, batches of 16 crops: README.md of the project, "Results on real speech"
    "model.width": 256,
    "model.layers": 4,
    "model.heads": 2,
    "model.ffn": 1024,
    "model.unroll": 2,
    "model.attention_block": 0,
    "model.dropout": 0.0,
    "data.seconds": 41.0,
    "data.buckets": (2.55,),
    "run.valid_batches": 8,
    "run.pictures": 0,
}
RECIPES = {  # config, changes of it, warm-up as a share of the updates
    "pretrain": (pretrain, {"optim.peak": 1e-3, "optim.end": 1e-4, "ema": 0.999}, 0.1),
    "enhance": (enhance, {"optim.peak": 1.4e-3, "mix.gain": (-6.0, 6.0), "ema": 0.995}, 0.083),
}
ALL = {"optim.peak": 3e-3, "optim.end": 3e-4, "optim.muon": 6.6, "model.precondition": "flow"}  # what won
LEVERS = {
    "base": {},
    "muon": {"optim.muon": 10.0},
    "precondition": {"model.precondition": "flow"},
    "patch": {"model.patch": 2},
    "residual": {"model.residual": True},
    "all": ALL,
    "all-patch": ALL | {"model.patch": 2},
}
QUICK = {
    "model.width": 32,
    "model.ffn": 64,
    "model.layers": 2,
    "model.unroll": 1,
    "data.seconds": 2.0,
    "data.buckets": (1.0,),
    "run.valid_batches": 1,
}
CURVE = 8  # validations of a run


@dataclasses.dataclass
class Run:
    """A lever at work: its state, the CPU seconds that its steps took, and (minutes, updates, loss) so far."""

    lever: str
    seed: int
    updates: int
    state: train.State
    step: Callable
    read: loader.Reader
    validate: Callable
    seconds: float = 0.0
    curve: list[tuple[float, int, float]] = dataclasses.field(default_factory=list)

    def advance(self) -> bool:
        """Train up to the next validation, and validate; False after the last one."""
        first, last = (round(self.updates * part / CURVE) for part in (len(self.curve), len(self.curve) + 1))
        for number in range(first, last):
            self.state, seconds = timed(self.step, self.state, self.read(number))
            self.seconds += seconds
        self.curve.append((self.seconds / 60, last, self.validate(self.state)))
        minutes, _, loss = self.curve[-1]
        print(f"{self.lever} seed {self.seed}: {minutes:.2f} min, update {last}, loss {loss:.4f}", flush=True)
        return len(self.curve) < CURVE


def timed(step: Callable, state: train.State, batch: dict[str, Any]) -> tuple[train.State, float]:
    """The state after a step, and the CPU seconds that the step took."""
    arrays = jax.device_put({name: batch[name] for name in loader.ARRAYS})
    began = time.process_time()
    state, _ = jax.block_until_ready(step(state, arrays))
    return state, time.process_time() - began


def configured(args: argparse.Namespace, lever: str, seed: int) -> Any:
    """The recipe's config as a lever changes it."""
    module, changes, _ = RECIPES[args.recipe]
    config = module.get_config("tiny")
    data = {"data.train": str(args.train), "mix.noise": str(args.noise or ""), "init_from": str(args.init or "")}
    quick = QUICK if args.quick else {}
    given = dict(override(word) for word in args.set)
    config.update_from_flattened_dict({**NETWORK, **changes, **data, "seed": seed, **quick, **given, **LEVERS[lever]})
    return config


def override(word: str) -> tuple[str, Any]:
    """The config field and the value that `model.width=128` names."""
    name, _, value = word.partition("=")
    return name, ast.literal_eval(value)


def started(args: argparse.Namespace, lever: str, minutes: float, seed: int) -> Run:
    """A run of a lever before its first update, with as many updates as fit into its minutes."""
    config, plain = configured(args, lever, seed), configured(args, "base", 0)
    mesh = sharding.mesh(jax.devices()[:1], **config.mesh)
    program, judge = train.make_program(read(config)), read(plain)
    batch, _ = train.readers(read(config))
    _, read_valid = train.readers(judge)
    _, step = train.on_mesh(program, mesh)
    state, probes = first_state(config, program), []
    fresh = lambda: jax.tree.map(jnp.copy, state)  # a step gives the memory of its state away
    probe = fresh()
    for number in range(3 if args.quick else 6):
        probe, seconds = timed(step, probe, batch(number))
        probes.append(seconds)
    updates = max(CURVE, round(60 * minutes / statistics.median(probes[1:])))
    config.optim.updates, config.optim.warmup = updates, max(1, round(RECIPES[args.recipe][2] * updates))
    program = train.make_program(read(config))
    _, step = train.on_mesh(program, mesh)
    options = dict(sample=dict(judge.sample), batches=judge.run.valid_batches, pictures=judge.run.pictures)
    validation = Validation(program.objective, read_valid, sharding.batch(mesh), **options)
    validate = lambda state: min(validation(state, Silence(), 0)[name] for name in ("loss", "loss_ema"))
    timed(step, fresh(), batch(0))  # compiled before it counts
    return Run(lever, seed, updates, state, step, batch, validate)


def first_state(config: Any, program: train.Program) -> train.State:
    """The state at step 0, from `init_from` or from scratch."""
    if not config.init_from:
        return jax.jit(program.random_state)(jax.random.key(config.seed))
    return program.initial_state(jax.device_put(release.weights(config.init_from, ema=True)[0]))


def reached(curve: list[tuple[float, int, float]], target: float) -> float | None:
    """The minutes after which the loss falls to the target, on straight lines between validations; None if never."""
    for (start, _, high), (end, _, low) in zip(curve, curve[1:], strict=False):
        if low <= target < high:
            return start + (end - start) * (high - target) / (high - low)
    return curve[0][0] if curve[0][2] <= target else None


def summary(runs: list[Run], target: float) -> list[dict[str, Any]]:
    """What each lever reached, by lever in the order of the runs: means over seeds."""
    rows = []
    for lever in dict.fromkeys(run.lever for run in runs):
        mine = [run for run in runs if run.lever == lever]
        minutes = [reached(run.curve, target) for run in mine]
        losses = [run.curve[-1][2] for run in mine]
        rows.append(
            {
                "lever": lever,
                "updates": [run.updates for run in mine],
                "loss": statistics.mean(losses),
                "losses": losses,
                "minutes": statistics.mean(run.curve[-1][0] for run in mine),
                "minutes to target": None if None in minutes else statistics.mean(minutes),
                "curves": [run.curve for run in mine],
            }
        )
    return rows


def main(argv: list[str] | None = None) -> None:
    """Run the levers in turn and print one line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", choices=RECIPES, required=True)
    parser.add_argument("--train", type=Path, required=True, help="manifest of speech")
    parser.add_argument("--noise", type=Path, help="manifest of noise, for enhancement")
    parser.add_argument("--init", type=Path, help="run that fine-tuning starts from")
    parser.add_argument("--levers", nargs="+", default=[*LEVERS], metavar="NAME[:MINUTES]", help=", ".join(LEVERS))
    parser.add_argument("--minutes", type=float, default=10.0, help="CPU minutes of every run")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--target", type=float, help="loss to reach; without it that of the first lever at its end")
    parser.add_argument("--set", nargs="+", default=[], metavar="FIELD=VALUE", help="changes of every run's config")
    parser.add_argument("--quick", action="store_true", help="a toy network")
    parser.add_argument("-o", "--out", type=Path)
    args = parser.parse_args(argv)
    facts = report.machine()
    print(report.heading(facts))

    pairs = [lever.partition(":")[::2] for lever in args.levers]
    unknown = sorted({name for name, _ in pairs} - {*LEVERS})
    if unknown:
        parser.error(f"unknown levers {', '.join(unknown)}; choose from {', '.join(LEVERS)}")
    runs = [
        started(args, name, float(minutes or args.minutes), seed)
        for seed in range(args.seeds)
        for name, minutes in pairs
    ]
    active = runs
    while active:
        active = [run for run in active if run.advance()]

    firsts = [run.curve[-1][2] for run in runs if run.lever == runs[0].lever]
    target = args.target if args.target is not None else float(np.mean(firsts))
    rows = summary(runs, target)
    print(f"target {target:.4f}")
    for row in rows:
        minutes = row["minutes to target"]
        there = "not reached" if minutes is None else f"reached after {minutes:.2f} min"
        print(f"{row['lever']:>14}: loss {row['loss']:.4f} after {row['minutes']:.2f} min, target {there}")
    report.write(args.out, {"machine": facts, "recipe": args.recipe, "target": target, "rows": rows})


if __name__ == "__main__":
    main()
