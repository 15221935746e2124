"""What a training step costs by full fine-tuning, by adapters and by diffusion: time, and memory by kind.

    python tests/benchmarks/variants.py --size small -o variants.json

The steps of all variants are timed in turn (see `speed.py`), on generated speech and noise. Parameters are those that
are trained, optimizer those of Adam's moments, temporary what the compiler sets aside beside the arguments. `export`
is the size of what `sfjax export --dtype float16` writes. Those of the large network are found by shapes alone.
"""

import argparse
import statistics
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import report
import speed

from sfjax import lora, train
from sfjax.config import read
from sfjax.configs import default, enhance
from sfjax.evaluation import compare_runs

VARIANTS = {
    "full": {},
    "adapters": {"lora.rank": 64},
    "diffusion": {"process": "diffusion", "sample.solver": "ddim"},
}


class Variant(NamedTuple):
    """A step to time, and the bytes of what it holds by kind."""

    case: speed.Case
    sizes: dict[str, int]


def configured(name: str, size: str) -> Any:
    """Enhancement by the network of `size`, as `VARIANTS` changes it."""
    config = enhance.get_config(size)
    config.update_from_flattened_dict(VARIANTS[name])
    return config


def held(state: train.State) -> dict[str, int]:
    """The bytes of a state's arrays or shapes."""
    size = lambda tree: sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
    return {
        "parameters": size(state.params),
        "frozen": size(state.frozen),
        "optimizer": size(state.opt_state),
        "export": size(state.params) // 2,
    }


def variant(name: str, size: str, waves: dict[str, np.ndarray]) -> Variant:
    """The train step, compiled."""
    config = read(configured(name, size))
    made = train.make_program(config)
    state = jax.jit(made.random_state)(jax.random.key(0))
    lengths = np.full(len(waves["speech"]), waves["speech"].shape[1], np.int32)
    batch = jax.device_put({"waves": waves, "mels": {}, "labels": {}, "lengths": lengths, "task": 0 * lengths})
    program, spent = speed.compiled(made.step, state, batch, donate=(0,))
    sizes = held(state) | {"temporary": program.memory_analysis().temp_size_in_bytes}

    def run():
        nonlocal state
        state, _ = jax.block_until_ready(program(state, batch))

    return Variant(speed.timed(name, run, waves["speech"].size / config.mel.sample_rate, spent), sizes)


def by_shapes(size: str) -> list[dict[str, Any]]:
    """What the variants hold at a size, without an array of it."""
    rows = []
    for name in VARIANTS:
        made = train.make_program(read(configured(name, size)))
        state = jax.eval_shape(made.random_state, jax.random.key(0))
        rows.append({"size": size, "variant": name, "trained": lora.count(state.params)} | _mib(held(state)))
    return rows


def _mib(sizes):
    return {f"{kind} MiB": round(size / 2**20, 2) for kind, size in sizes.items()}


def main(argv: list[str] | None = None) -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=default.SIZES, default="small")
    parser.add_argument("--batch", type=int, default=8, help="examples in a step")
    parser.add_argument("--seconds", type=float, default=4.0, help="of an example")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("-o", "--output", type=Path, metavar="FILE.json")
    given = parser.parse_args(argv)
    facts: dict[str, Any] = report.machine() | {"device": jax.devices()[0].device_kind}
    waves = speed.waves(given.batch, given.seconds)
    found = {name: variant(name, given.size, waves) for name in VARIANTS}
    measured = speed.in_turn([one.case for one in found.values()], given.rounds)
    rows = []
    for name, one in found.items():
        seconds = statistics.median(spent for _, spent in measured[name])
        times = {"seconds": seconds, "compile_seconds": one.case.compile_seconds}
        rows.append({"size": given.size, "variant": name} | times | _mib(one.sizes))
    shapes = by_shapes("large")
    print(report.heading(facts))
    print(compare_runs.table(rows))
    print(compare_runs.table(shapes))
    report.write(given.output, {"machine": facts, "rows": rows, "shapes": shapes})


if __name__ == "__main__":
    main()
