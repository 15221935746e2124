"""What scanning the layers and rematerialising them cost and save: compile time and temporary memory of a train step.

    python tests/benchmarks/compile.py --size large --seconds 4 --batch 2 -o compile.json

Every variant of a config's step is lowered and compiled, without being run, on this machine and without a cache: the
layers of each half of the network scanned or laid out, and each remat policy. A CPU compiler undoes remat in layers
that are laid out; a GPU's or TPU's does not.
"""

import argparse
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import report

from sfjax import train
from sfjax.config import read
from sfjax.configs import default, pretrain
from sfjax.evaluation import compare_runs
from sfjax.transformer import REMAT


def measured(config) -> dict[str, float]:
    """Seconds to lower and to compile the step of a config, and the GiB that it needs beside its arguments."""
    made = train.make_program(read(config))
    state = jax.eval_shape(made.random_state, jax.random.key(0))
    examples, samples = round(config.data.seconds / config.data.buckets[0]), round(config.data.buckets[0] * 16_000)
    waves = {column: jax.ShapeDtypeStruct((examples, samples), jnp.float32) for column in read(config).task.columns}
    number = jax.ShapeDtypeStruct((examples,), jnp.int32)
    batch = {"waves": waves, "mels": {}, "labels": {}, "lengths": number, "task": number}
    began = time.perf_counter()
    lowered = jax.jit(made.step, donate_argnums=0).lower(state, batch)
    between = time.perf_counter()
    program = lowered.compile()
    return {
        "lower_seconds": between - began,
        "compile_seconds": time.perf_counter() - between,
        "temporary_gib": program.memory_analysis().temp_size_in_bytes / 2**30,
    }


def main(argv: list[str] | None = None) -> None:
    """Compiles, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=default.SIZES, default="large")
    parser.add_argument("--seconds", type=float, default=4.0, help="of an example")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE.json")
    given = parser.parse_args(argv)
    facts, rows = report.machine(), []
    for layers in ("scanned", "laid out"):
        for remat in REMAT:
            config = pretrain.get_config(given.size)
            config.data.buckets, config.data.seconds = (given.seconds,), given.seconds * given.batch
            config.model.remat, config.precision = remat, given.precision
            config.model.unroll = 1 if layers == "scanned" else config.model.layers // 2
            rows.append({"layers": layers, "remat": remat} | measured(config))
            print(compare_runs.table(rows[-1:]), flush=True)
    print(report.heading(facts))
    print(compare_runs.table(rows))
    report.write(given.output, {"machine": facts, "size": given.size, "rows": rows})


if __name__ == "__main__":
    jax.config.update("jax_enable_compilation_cache", False)
    main()
