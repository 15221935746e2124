"""A model as programs for whoever has JAX alone: StableHLO, by `jax.export`, for any batch and any length.

A folder holds `sample.stablehlo`, the guided sampler from noise and a condition to Mels; `enhance.stablehlo`, noisy
recordings to clean ones, if the model learned that; `load.py`, which runs them and imports jax and numpy only; and
`stablehlo.json`, what they take and give, what they were made of and what they run on. Parameters are constants of
each program, and how to sample is fixed. A program is compiled for each shape that it meets.
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

from sfjax import flow, infer, release, tasks
from sfjax.errors import UserError
from sfjax.infer import Model

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
FACTS, LOADER, SUFFIX = "stablehlo.json", "load.py", ".stablehlo"
PROMISE = "a jax and jaxlib released up to 6 months after those named here, or up to 3 weeks before"  # by jax.export
LOAD = '''\
"""Runs what is in this folder, as stablehlo.json tells, by jax alone: pip install jax flatbuffers"""

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
    """Writes what a model does as programs into the folder `dest`, whole or not at all; that folder.

    Parameters are kept as `dtype` (of `sfjax.release.DTYPES`) and become float32 when a program runs; `options` replace
    those of config section `sample`; `licence` are lines on data and licences to be passed on. A folder that this wrote
    is replaced; `UserError` for any other that is not empty.
    """
    if importlib.util.find_spec("flatbuffers") is None:
        raise UserError("StableHLO needs flatbuffers: pip install 'sfjax[stablehlo]'")
    dest = Path(dest).resolve()
    if os.path.lexists(dest) and not _replaceable(dest):
        raise UserError(f"{dest}: holds other things than exported programs; choose another folder")
    spec, options, params = model.spec, model.sampling(options), _stored(model, dtype)
    if options["solver"] in flow.ADAPTIVE:  # by what an example is padded with, too
        raise UserError(f"{options['solver']} chooses steps by length; export {', '.join(flow.SOLVERS)}")
    with release.whole(dest) as part, _no_folders():
        programs = {}
        for name, (function, takes) in _functions(model, params, options).items():
            made = jax.export.export(jax.jit(function), platforms=PLATFORMS)(*takes.values())
            (part / f"{name}{SUFFIX}").write_bytes(made.serialize())
            shapes = dict(zip(takes, map(str, made.in_avals), strict=True))
            programs[name] = {"takes": shapes, "gives": str(made.out_avals[0])}
        facts = {
            "model": PurePath(model.name).name, "task": tasks.names(model.task), "licence": list(licence),
            "programs": programs, "sample": options, "wave": model.wave, "sample_rate": spec.sample_rate,
            "shortest": spec.window, "phones": model.phones, "parameters": dtype, "platforms": PLATFORMS,
            "jax": metadata.version("jax"), "jaxlib": metadata.version("jaxlib"),
            "calling_convention": made.calling_convention_version, "runs_with": PROMISE,
        }  # fmt: skip
        (part / FACTS).write_text(json.dumps(facts, indent=2) + "\n")
        end = ENHANCE.format(rate=spec.sample_rate, hop=spec.hop) if "enhance" in programs else ""
        (part / LOADER).write_text(LOAD + end)
    return dest


def _replaceable(dest):
    names = {path.name for path in dest.iterdir()} if dest.is_dir() else {""}
    return not names or (FACTS in names and names <= {FACTS, LOADER, f"sample{SUFFIX}", f"enhance{SUFFIX}"})


@contextlib.contextmanager
def _no_folders() -> Iterator[None]:
    """Source files, which programs name for whoever debugs them, go without their folders on this machine."""
    flag = "jax_hlo_source_file_canonicalization_regex"
    before = getattr(jax.config, flag)
    jax.config.update(flag, r".*[/\\]")
    try:
        yield
    finally:
        jax.config.update(flag, before)


def _stored(model, dtype):
    """The parameters as constants of a program."""
    if dtype not in release.DTYPES:
        raise UserError(f"unknown type {dtype!r}; choose from {', '.join(release.DTYPES)}")
    with np.errstate(over="ignore"):  # it is told below
        params = jax.tree.map(lambda leaf: np.asarray(leaf, release.DTYPES[dtype]), jax.device_get(model.params))
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params)):
        raise UserError(f"{model.name}: not all of it is finite as {dtype}; take float32 or another step")
    return params


def _functions(model, params, options) -> dict[str, tuple[Callable, dict[str, jax.ShapeDtypeStruct]]]:
    """What becomes a program, and what each of its arguments is."""
    spec, network = model.spec, model.network
    restored = lambda: jax.tree.map(lambda leaf: jax.lax.convert_element_type(leaf, jnp.float32), params)

    known = {"phones": len(model.phones), "copy": network.copies}
    names = [name for name, count in known.items() if count]

    def sample(x0, condition, lengths, *labels):
        held = {"params": restored()}
        apply = lambda x, t, inputs, lengths: network.apply(held, x, t, lengths=lengths, **inputs)
        return model.process.sample(
            apply, x0, {"condition": condition, **dict(zip(names, labels, strict=True))}, lengths, **options
        )

    def enhance(waves, lengths, seed):
        return infer._waves(
            restored(), model.phase and model.phase.params, waves, lengths, jnp.zeros_like(lengths),
            jax.random.key(seed), network=network, sampler=model.process.sample, task=model.enhancing(), spec=spec,
            options=tuple(sorted(options.items())), wave=model.wave, phase=model.phase and model.phase.network,
        )[:, 0]  # fmt: skip

    least = f"frames >= {spec.window // spec.hop}"
    batch, frames = jax.export.symbolic_shape("batch, frames", constraints=[least])
    array = jax.ShapeDtypeStruct
    mel, lengths = array((batch, frames, spec.bands), jnp.float32), array((batch,), jnp.int32)
    labels = {name: array((batch, frames), jnp.int32) for name in names}
    made = {"sample": (sample, {"x0": mel, "condition": mel, "lengths": lengths, **labels})}
    if tasks.choose(model.task, tasks.Enhance):
        waves, seed = array((batch, spec.hop * frames), jnp.float32), array((), jnp.uint32)
        made["enhance"] = enhance, {"waves": waves, "lengths": lengths, "seed": seed}
    return made
