"""Export a model as StableHLO programs for users who have only JAX, for any batch size and length.

A folder holds `sample.stablehlo`, the guided sampler from noise and a condition to a log-Mel spectrogram;
`enhance.stablehlo`, from noisy recordings to clean ones, if the model was trained for it; `load.py`, which runs them
and imports only jax and numpy; and `stablehlo.json`, their inputs, outputs, origin and platforms. Parameters are
constants of each program, and the sampling options are fixed. A program is compiled for each shape that it is called
with.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path, PurePath
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from sfjax import flow, tasks
from sfjax.errors import UserError
from sfjax.export import release
from sfjax.inference import Model
from sfjax.inference.chunking import ChunkBatch
from sfjax.inference.model import sample_waves
from sfjax.objective import sample_mels

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
FACTS, LOADER, SUFFIX = "stablehlo.json", "load.py", ".stablehlo"
# the promise of jax.export
PROMISE = "a jax and jaxlib released up to 6 months after those named here, or up to 3 weeks before"
LOAD = '''\
"""Run the programs in this folder, which stablehlo.json describes, with JAX alone: pip install jax flatbuffers"""

import sys
from pathlib import Path

import numpy as np
from jax import export, jit


def load(name):
    return jit(export.deserialize(bytearray(Path(__file__).with_name(f"{name}.stablehlo").read_bytes())).call)
'''
ENHANCE = """

if __name__ == "__main__":  # python load.py noisy.npy clean.npy: arrays [samples] at {rate} Hz
    wave = np.load(sys.argv[1]).astype(np.float32)
    waves = np.pad(wave, (0, -len(wave) % {hop}))[None]
    clean = load("enhance")(waves, np.array([len(wave)], np.int32), np.uint32(0))
    np.save(sys.argv[2], clean[0, : len(wave)])
"""


def export(model: Model, dest: str | os.PathLike, *, dtype: str, licence: Sequence[str] = (), **options: Any) -> Path:
    """Export a model as programs into the folder `dest`, whole or not at all; return `dest`.

    Parameters are stored as `dtype` (of `sfjax.export.release.DTYPES`) and become float32 when a program runs;
    `options` override config section `sample`. If the model has several tasks, its programs use the guidance of its
    enhancement, or of its first task. `licence` are lines on data and licences to pass on. A folder of exported
    programs at `dest` is replaced; any other folder that is not empty raises `UserError`.
    """
    if importlib.util.find_spec("flatbuffers") is None:
        raise UserError("StableHLO needs flatbuffers: pip install 'sfjax[stablehlo]'")
    dest = Path(dest).resolve()
    if os.path.lexists(dest) and not _holds_programs(dest):
        raise UserError(f"{dest}: holds other things than exported programs; choose another folder")
    spec, options, params = model.spec, model.sampling(options, _first_task(model)), _constants(model, dtype)
    if options["solver"] in flow.ADAPTIVE:  # its steps would depend on the padding of an example
        raise UserError(
            f"cannot export with solver {options['solver']}, because its number of steps depends on the recording; "
            f"choose --solver {', '.join(flow.SOLVERS)}"
        )
    with release.whole(dest) as part, _without_source_folders():
        programs = {}
        for name, (function, arguments) in _functions(model, params, options).items():
            program = jax.export.export(jax.jit(function), platforms=PLATFORMS)(*arguments.values())
            (part / f"{name}{SUFFIX}").write_bytes(program.serialize())
            shapes = dict(zip(arguments, map(str, program.in_avals), strict=True))
            programs[name] = {"takes": shapes, "gives": str(program.out_avals[0])}
        facts = {
            "model": PurePath(model.name).name,
            "task": model.task.description,
            "licence": list(licence),
            "programs": programs,
            "sample": options,
            "reconstruct": model.reconstruct,
            "sample_rate": spec.sample_rate,
            "shortest": spec.window,
            "phones": model.phones,
            "parameters": dtype,
            "platforms": PLATFORMS,
            "jax": metadata.version("jax"),
            "jaxlib": metadata.version("jaxlib"),
            "calling_convention": program.calling_convention_version,
            "runs_with": PROMISE,
        }
        (part / FACTS).write_text(json.dumps(facts, indent=2) + "\n")
        main = ENHANCE.format(rate=spec.sample_rate, hop=spec.hop) if "enhance" in programs else ""
        (part / LOADER).write_text(LOAD + main)
    return dest


def _first_task(model):
    """Return the task whose guidance the programs have: enhancement if the model was trained for it."""
    return tasks.choose(model.task, "enhance") or next(iter(model.task.parts.values()))


def _holds_programs(dest):
    names = {path.name for path in dest.iterdir()} if dest.is_dir() else {""}
    return not names or (FACTS in names and names <= {FACTS, LOADER, f"sample{SUFFIX}", f"enhance{SUFFIX}"})


@contextlib.contextmanager
def _without_source_folders() -> Iterator[None]:
    """Drop this machine's folders from the source file names that programs hold for debugging."""
    flag = "jax_hlo_source_file_canonicalization_regex"
    before = getattr(jax.config, flag)
    jax.config.update(flag, r".*[/\\]")
    try:
        yield
    finally:
        jax.config.update(flag, before)


def _constants(model, dtype):
    """Return the parameters as constants of a program."""
    if dtype not in release.DTYPES:
        raise UserError(f"unknown type {dtype!r}; choose from {', '.join(release.DTYPES)}")
    with np.errstate(over="ignore"):  # raised as a UserError below
        params = jax.tree.map(lambda leaf: np.asarray(leaf, release.DTYPES[dtype]), jax.device_get(model.params))
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params)):
        raise UserError(f"{model.name}: its parameters are not all finite as {dtype}; take float32 or another step")
    return params


def _functions(model, params, options) -> dict[str, tuple[Callable, dict[str, jax.ShapeDtypeStruct]]]:
    """Return the function of each program, with the shapes of its arguments by name."""
    spec, network = model.spec, model.network
    label_counts = {"phones": len(model.phones), "copy": network.copies}
    label_names = [name for name, count in label_counts.items() if count]

    def float32_params():
        return jax.tree.map(lambda leaf: jax.lax.convert_element_type(leaf, jnp.float32), params)

    def sample(x0, condition, lengths, *labels):
        inputs = {"condition": condition, **dict(zip(label_names, labels, strict=True))}
        return sample_mels(network, float32_params(), model.process.sample, x0, inputs, lengths, **options)

    def enhance(waves, lengths, seed):
        return sample_waves(
            float32_params(),
            model.phase and model.phase.params,
            ChunkBatch(waves, lengths, first=jnp.zeros_like(lengths), enrolled=jnp.zeros_like(lengths)),
            jax.random.key(seed),
            network=network,
            sampler=model.process.sample,
            task=model.enhancing(),
            spec=spec,
            options=tuple(sorted(options.items())),
            reconstruct=model.reconstruct,
            phase=model.phase and model.phase.network,
        ).waves[:, 0]

    constraint = f"frames >= {spec.window // spec.hop}"
    batch, frames = jax.export.symbolic_shape("batch, frames", constraints=[constraint])
    mel = jax.ShapeDtypeStruct((batch, frames, spec.bands), jnp.float32)
    lengths = jax.ShapeDtypeStruct((batch,), jnp.int32)
    labels = {name: jax.ShapeDtypeStruct((batch, frames), jnp.int32) for name in label_names}
    functions: dict[str, tuple[Callable, dict[str, jax.ShapeDtypeStruct]]] = {
        "sample": (sample, {"x0": mel, "condition": mel, "lengths": lengths, **labels})
    }
    if tasks.choose(model.task, "enhance"):
        waves = jax.ShapeDtypeStruct((batch, spec.hop * frames), jnp.float32)
        seed = jax.ShapeDtypeStruct((), jnp.uint32)
        functions["enhance"] = enhance, {"waves": waves, "lengths": lengths, "seed": seed}
    return functions
