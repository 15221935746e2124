"""Exported StableHLO programs compute what the model does, for any batch size and length, without this package."""

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from sfjax import diffusion, flow, inference, stablehlo, tasks
from sfjax.errors import UserError
from sfjax.inference import auxiliary
from sfjax.model import Estimator, EstimatorConfig
from sfjax.vocoder.phase_net import PhaseNet

RATE = 16_000
EXACT = 1e-5  # of waves below 1, or as a share of the largest Mel, in float32
SAMPLES = 1_600, 4_321, 7_999  # of recordings; one is whole hops
SPEAK = dict(drop=0.1, mask="chunk", fraction=(0.7, 1.0), shortest=10, phones=("a", "b"))
BARE = "jax", "jaxlib", "ml_dtypes", "numpy", "opt_einsum", "scipy", "flatbuffers"  # jax and what it needs
RUN = """
import importlib.util, runpy, sys
sys.path.append(sys.argv.pop(1))
assert not any(map(importlib.util.find_spec, ("sfjax", "flax", "diffrax")))
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module", autouse=True)
def open_lengths():
    """While a program is made its lengths are no int, which the checks of annotations would insist on."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def toy(spec, task, *, process=flow, **changes):
    """A model whose parameters are large enough for every part of it to be heard; attention is in several blocks."""
    phones = len(task.phones)
    config = EstimatorConfig(
        width=16,
        layers=2,
        heads=2,
        ffn=32,
        dropout=0.0,
        conv_kernel=7,
        conv_groups=4,
        conv_depth=1,
        patch=2,
        precondition="flow",
        residual=True,
        lookahead=-1,
        history=200,
        attention_block=16,
        remat="none",
        unroll=1,
    )
    network = Estimator(config, mels=spec.bands, phones=phones, dtype=jnp.float32)
    mel, number = jnp.zeros((1, 4, spec.bands)), jnp.full(1, 4)
    shapes = jax.eval_shape(network.init, jax.random.key(0), mel, jnp.zeros(1), mel, number, jnp.ones((1, 4), int))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: jnp.float32(0.1 * rng.standard_normal(leaf.shape)), shapes["params"])
    options = dict(solver="midpoint", steps=2, guidance=0.7, sway=-1.0, tolerance=1e-2)
    model = inference.Model(
        network, params, task, process, spec, options, dict(seconds=0.5, overlap=0.1, batch=1), "mask", "/home/me/toy"
    )
    return dataclasses.replace(model, **changes)


@pytest.fixture(scope="module")
def model(spec):
    return toy(spec, tasks.Enhance(0.1))


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    """A folder with the programs of the model, with a guidance of their own."""
    dest = tmp_path_factory.mktemp("programs") / "toy"
    return stablehlo.export(model, dest, dtype="float32", licence=["licence: CC-BY-4.0"], guidance=0.5)


@pytest.fixture(scope="module")
def recordings(voice):
    return [voice(1.0, seed)[:samples] for seed, samples in enumerate(SAMPLES)]


def program(folder, name):
    return jax.export.deserialize(bytearray((folder / f"{name}.stablehlo").read_bytes()))


def batch(waves, hops):
    return np.stack([np.pad(wave, (0, 160 * hops - len(wave))) for wave in waves])


def clean(exported, waves, hops, seed):
    made = exported.call(batch(waves, hops), np.array([len(wave) for wave in waves], np.int32), np.uint32(seed))
    return [one[: len(wave)] for one, wave in zip(np.asarray(made), waves, strict=True)]


@pytest.fixture(scope="module")
def wanted(model, recordings):
    """What the model itself makes of each recording, alone."""
    return [model.enhance(wave, RATE, seed=7, guidance=0.5) for wave in recordings]


# What the programs do


@pytest.mark.parametrize("rows, hops", [([0, 1, 2], 57), ([2, 0], 50), ([1], 28)])
def test_recordings_become_what_the_model_makes_of_them_at_any_length_in_any_batch(
    folder, recordings, wanted, rows, hops
):
    found = clean(program(folder, "enhance"), [recordings[row] for row in rows], hops, 7)
    for row, one in zip(rows, found, strict=True):
        assert np.abs(one - wanted[row]).max() < EXACT
        assert np.abs(wanted[row] - recordings[row]).max() > 1e-2  # something was done


def check_sampler(folder, model, **options):
    """Three lengths in two batches, padded with what could be heard; the longest is not padded in the second."""
    exported, lengths, most = program(folder, "sample"), np.array([22, 13, 41], np.int32), 44
    rng = np.random.default_rng(1)
    x0, condition = rng.standard_normal((2, 3, most, 80)).astype(np.float32)
    inputs = {"condition": condition}
    if model.phones:
        inputs["phones"] = rng.integers(0, 1 + len(model.phones), (3, most)).astype(np.int32)
    apply = lambda x, t, inputs, lengths: model.network.apply({"params": model.params}, x, t, lengths=lengths, **inputs)
    run = jax.jit(lambda *given: model.process.sample(apply, *given, **model.options | options))
    alone = lambda row: run(x0[[row]], {name: x[[row]] for name, x in inputs.items()}, lengths[[row]])[0]
    wanted = [alone(row) for row in range(3)]
    for rows, frames in (([0, 1, 2], most), ([1, 2, 0, 2], 41)):
        condition, *phones = (x[rows, :frames] for x in inputs.values())
        found = exported.call(x0[rows, :frames], condition, lengths[rows], *phones)
        for row, one in zip(rows, found, strict=True):
            one, want = one[: lengths[row]], wanted[row][: lengths[row]]
            assert np.abs(one - want).max() < EXACT * np.abs(want).max()


def test_noise_and_a_condition_become_what_the_sampler_makes_of_them(folder, model):
    check_sampler(folder, model, guidance=0.5)


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["euler", "heun", "rk4"])
def test_a_model_that_speaks_hears_its_phones_by_every_solver(spec, tmp_path, solver):
    model = toy(spec, tasks.Speak(**SPEAK))
    stablehlo.export(model, tmp_path / "toy", dtype="float32", solver=solver)
    check_sampler(tmp_path / "toy", model, solver=solver)
    assert json.loads((tmp_path / "toy/stablehlo.json").read_text())["phones"] == ["a", "b"]


@pytest.mark.slow
def test_diffusion_is_exported_too(spec, tmp_path):
    model = toy(spec, tasks.Pretrain(0.1, (0.7, 1.0), 10), process=diffusion)
    stablehlo.export(model, tmp_path / "toy", dtype="float32", solver="ddim", steps=4)
    check_sampler(tmp_path / "toy", model, solver="ddim", steps=4)


@pytest.mark.slow
def test_a_phase_net_and_the_other_way_to_waves_are_part_of_the_program(spec, recordings, tmp_path):
    network = PhaseNet(width=8, kernel=3, layers=1, spec=spec, dtype=jnp.float32)
    spectra = jnp.zeros((1, 1, 4, spec.bands)), jnp.zeros((1, 4, spec.n_fft // 2 + 1), jnp.complex64)
    params = network.init(jax.random.key(0), *spectra, jnp.full(1, 4))["params"]
    params = jax.tree.map(lambda leaf: leaf + 0.1, params)
    made = []
    for changes in ({"reconstruct": "phase"}, {"phase": auxiliary.Phase(network, params)}):
        model = toy(spec, tasks.Enhance(0.1), **changes)
        stablehlo.export(model, tmp_path / "toy", dtype="float32")
        made += clean(program(tmp_path / "toy", "enhance"), recordings[2:], 61, 3)
        wave = model.enhance(recordings[2], RATE, seed=3)
        assert np.abs(made[-1] - wave).max() < EXACT * max(1.0, np.abs(wave).max())
    assert np.abs(made[0] - made[1]).max() > 1e-2


# What the folder holds


def test_batch_and_length_are_open_and_said_to_be(folder):
    facts = json.loads((folder / "stablehlo.json").read_text())
    assert facts["programs"] == {
        "sample": {
            "takes": {
                "x0": "float32[batch,frames,80]",
                "condition": "float32[batch,frames,80]",
                "lengths": "int32[batch]",
            },
            "gives": "float32[batch,frames,80]",
        },
        "enhance": {
            "takes": {"waves": "float32[batch,160*frames]", "lengths": "int32[batch]", "seed": "uint32[]"},
            "gives": "float32[batch,160*frames]",
        },
    }
    for name, said in facts["programs"].items():
        exported = program(folder, name)
        assert [*map(str, exported.in_avals)] == [*said["takes"].values()]
        assert all(map(jax.export.is_symbolic_dim, exported.in_avals[0].shape[:2]))
        assert list(exported.platforms) == facts["platforms"] == ["cpu", "cuda", "rocm", "tpu"]
        assert exported.calling_convention_version == facts["calling_convention"]
    assert facts["sample"]["guidance"] == 0.5 and facts["jax"] == jax.__version__
    assert facts["model"] == "toy" and facts["licence"] == ["licence: CC-BY-4.0"]
    held = "".join(path.read_text("latin-1") for path in folder.iterdir())
    assert not any(place in held for place in ("/home/me", str(Path(stablehlo.__file__).parent), sys.prefix))


@pytest.mark.parametrize(
    "name, shape, dtype",
    [
        ("waves", (2, 1_601), np.float32),
        ("waves", (2, 480), np.float32),
        ("waves", (3, 1_600), np.float32),
        ("waves", (1_600,), np.float32),
        ("waves", (2, 1_600), np.int16),
        ("lengths", (2,), np.uint8),
        ("seed", (), np.int32),
    ],
)
def test_another_shape_or_type_is_refused(folder, name, shape, dtype):
    good = {"waves": np.zeros((2, 1_600), np.float32), "lengths": np.full(2, 1_600, np.int32), "seed": np.uint32(0)}
    with pytest.raises((TypeError, ValueError), match="mismatch|do not match|must have|dtype|shape"):
        program(folder, "enhance").call(*(good | {name: np.ones(shape, dtype)}).values())


def test_the_loader_needs_jax_alone_and_does_the_same(folder, recordings, wanted, tmp_path):
    assert len((folder / "load.py").read_text().splitlines()) <= 20
    np.save(tmp_path / "noisy.npy", recordings[1])
    for name in BARE:
        (tmp_path / name).symlink_to(Path(importlib.util.find_spec(name).origin).parent)
    words = [tmp_path, folder / "load.py", tmp_path / "noisy.npy", tmp_path / "clean.npy"]
    quickly = os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    done = subprocess.run([sys.executable, "-I", "-S", "-c", RUN, *words], env=quickly, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    exported = clean(program(folder, "enhance"), recordings[1:2], -(-SAMPLES[1] // 160), 0)[0]
    assert np.abs(np.load(tmp_path / "clean.npy") - exported).max() < EXACT


@pytest.mark.slow
def test_half_the_bytes_hold_parameters_that_were_rounded(model, folder, recordings, tmp_path):
    rounded = jax.tree.map(lambda leaf: np.asarray(leaf, jnp.bfloat16).astype(np.float32), model.params)
    half = stablehlo.export(model, tmp_path / "half", dtype="bfloat16")
    wanted = dataclasses.replace(model, params=rounded).enhance(recordings[0], RATE, seed=1)
    assert np.abs(clean(program(half, "enhance"), recordings[:1], 30, 1)[0] - wanted).max() < EXACT
    parameters = sum(leaf.size for leaf in jax.tree.leaves(model.params))
    for name in ("sample", "enhance"):
        sizes = [(place / f"{name}.stablehlo").stat().st_size for place in (folder, half)]
        assert abs(sizes[0] - sizes[1] - 2 * parameters) < 0.1 * parameters


# How it is written


def test_a_place_that_holds_other_things_or_cannot_be_is_refused(model, folder, tmp_path, content):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    before = content(tmp_path)
    for dest, said in ((tmp_path / "full", "holds other things"), (tmp_path / "full/mine.txt/a", "not be written")):
        with pytest.raises(UserError, match=said):
            stablehlo.export(model, dest, dtype="float32")
    assert content(tmp_path) == before


@pytest.mark.parametrize(
    "expected, options",
    [
        ("unknown type 'int8'; choose from float32", {"dtype": "int8"}),
        ("toy: .*not all finite as float16", {"dtype": "float16"}),
        ("unknown solver 'guess'", {"solver": "guess"}),
        ("solver dopri5.*--solver euler", {"solver": "dopri5"}),
        ("unknown option 'speed'", {"speed": 2}),
    ],
)
def test_what_cannot_be_exported_is_told_in_one_line(model, tmp_path, expected, options):
    model = dataclasses.replace(model, params=jax.tree.map(lambda leaf: leaf + 1e6, model.params))
    with pytest.raises(UserError, match=expected) as told:
        stablehlo.export(model, tmp_path / "out", **{"dtype": "float32"} | options)
    assert "\n" not in str(told.value) and not any(tmp_path.iterdir())


def test_on_the_command_line_a_mistake_is_one_line(refused, tmp_path):
    (tmp_path / "mine.txt").touch()
    words = ("export", "--stablehlo", "-o", tmp_path, "--workdir")
    refused("no such model in this package", *words, "sfjax://nobody")
    refused("which helps a model", *words, "sfjax://durations")
    refused("--stablehlo takes notes from a model card", *words, "sfjax://enhance", "--notes", tmp_path / "mine.txt")
    refused("holds other things than exported programs", *words, "sfjax://enhance")


@pytest.mark.slow
def test_a_model_of_the_package_is_exported_again_with_its_licence(call, tmp_path, voice):
    words = ("export", "--stablehlo", "--workdir", "sfjax://enhance", "-o", tmp_path / "out", "--dtype", "float16")
    for steps in (1, 2):
        assert call(*words, "--steps", steps)[:2] == (0, [])
        facts = json.loads((tmp_path / "out/stablehlo.json").read_text())
        assert facts["sample"]["steps"] == steps and "licen" in "".join(facts["licence"]).lower()
    assert [*tmp_path.iterdir()] == [tmp_path / "out"]
    noisy = voice(1.37, 0)
    want = inference.load("sfjax://enhance").enhance(noisy, RATE, seed=5, steps=2)
    assert np.abs(clean(program(tmp_path / "out", "enhance"), [noisy], 140, 5)[0] - want).max() < EXACT
