"""Checkpoints are saved whole, checked when they are read, and belong to the config of their run."""

import io
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sfjax import audio, checkpoint, train
from sfjax.errors import UserError


def test_a_digest_notices_every_bit_and_every_swap():
    leaf = jax.random.normal(jax.random.key(0), (37, 5))
    before = checkpoint.digests({"a": leaf})["a"]
    for bit in range(32):
        flipped = (
            jax.lax.bitcast_convert_type(leaf, jnp.uint32)
            .at[11, 3]
            .set(jax.lax.bitcast_convert_type(leaf, jnp.uint32)[11, 3] ^ jnp.uint32(1 << bit))
        )
        assert checkpoint.digests({"a": jax.lax.bitcast_convert_type(flipped, jnp.float32)})["a"] != before
    swapped = leaf.at[0].set(leaf[1]).at[1].set(leaf[0])
    assert checkpoint.digests({"a": swapped})["a"] != before


def test_parameters_come_back_as_they_were_saved(enhancer):
    params, _, step = checkpoint.params(enhancer, ema=True)
    raw, _, _ = checkpoint.params(enhancer, ema=False)
    assert step == 6 and jax.tree.structure(params) == jax.tree.structure(raw)
    assert any((a != b).any() for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(raw), strict=True))


def damage(folder, step=6):
    """Flips a byte in the middle of the largest array file of a checkpoint."""
    files = [path for path in (folder / f"checkpoints/{step}/state").rglob("*") if path.is_file()]
    path = max(files, key=lambda path: path.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


@pytest.mark.parametrize("hurt", ["flip", "cut", "missing"])
def test_a_damaged_checkpoint_is_named(enhancer, toy_config, tmp_path, hurt):
    copy = tmp_path / "copy"
    shutil.copytree(enhancer, copy)
    if hurt == "flip":
        damage(copy)
    elif hurt == "cut":
        for path in (copy / "checkpoints/6/state/d").iterdir() if (copy / "checkpoints/6/state/d").is_dir() else ():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        for path in (copy / "checkpoints/6/state/ocdbt.process_0/d").iterdir():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        shutil.rmtree(copy / "checkpoints/6/state")
    with pytest.raises(UserError, match="checkpoints/6.*damaged"):
        train.run(toy_config("enhance"), copy)


def steps(folder):
    return sorted(int(path.name) for path in (folder / "checkpoints").iterdir())


def test_the_checkpoint_before_a_damaged_one_is_taken_only_when_asked(toy_config, tmp_path):
    config = lambda **run: toy_config("pretrain", **{"run.save": 2, "run.valid_batches": 0, **run})
    whole = train.run(config(), tmp_path)
    damage(tmp_path)
    with pytest.raises(UserError, match="checkpoints/6: .*damaged.*pass_damaged=True"):
        train.run(config(), tmp_path)
    said = io.StringIO()
    again = train.run(config(**{"run.pass_damaged": True}), tmp_path, out=said)
    assert "checkpoints/6: the checkpoint is damaged" in said.getvalue()
    assert "removed, resuming from step 4" in said.getvalue()
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(again), jax.device_get(whole))
    for step in (2, 4, 6):
        damage(tmp_path, step)
    with pytest.raises(UserError, match="checkpoints/6: the checkpoint is damaged"):
        train.run(config(**{"run.pass_damaged": True}), tmp_path)
    assert steps(tmp_path) == [2, 4, 6]  # nothing is removed before something whole is found


@pytest.mark.slow
def test_the_newest_checkpoints_are_kept_and_some_for_good(toy_config, tmp_path):
    train.run(
        toy_config(
            "pretrain",
            **{"run.save": 1, "run.keep": 2, "run.keep_every": 3, "run.valid_batches": 0, "optim.updates": 8},
        ),
        tmp_path,
    )
    assert steps(tmp_path) == [3, 6, 7, 8]


def test_checkpoints_may_lie_elsewhere(toy_config, tmp_path):
    elsewhere = {"run.checkpoints": str(tmp_path / "else/where"), "run.valid_batches": 0}
    train.run(toy_config("pretrain", **elsewhere), tmp_path / "run")
    assert (tmp_path / "else/where/6").is_dir() and not (tmp_path / "run/checkpoints").exists()
    assert checkpoint.params(tmp_path / "run", ema=True)[2] == 6
    with pytest.raises(UserError, match="holds a run with another config"):
        train.run(toy_config("pretrain", **elsewhere, seed=1), tmp_path / "run")


def test_a_place_that_cannot_be_written_to_is_refused_at_once(monkeypatch):
    with pytest.raises(UserError, match="gs://, got s3://; mount it"):
        checkpoint.choose_folder("run", "s3://bucket/run")
    monkeypatch.setattr(checkpoint.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs gcsfs: pip install 'sfjax\[gcs\]'"):
        checkpoint.choose_folder("run", "gs://bucket/run")
    monkeypatch.setattr(checkpoint.importlib.util, "find_spec", lambda name: "found")
    assert str(checkpoint.choose_folder("run", "gs://bucket/run")) == "gs://bucket/run"


def test_a_workdir_of_another_config_is_refused_and_named(enhancer, toy_config):
    before = (enhancer / "config.json").read_text()
    with pytest.raises(UserError, match=r"another config \(optim.peak: 0.001 there, 0.5 here\)"):
        train.run(toy_config("enhance", **{"optim.peak": 0.5}), enhancer)
    assert (enhancer / "config.json").read_text() == before
    # how it is computed and said may change
    free = {"run.log": 7, "mesh.fsdp": 2, "model.remat": "full"}
    checkpoint.write_config(enhancer, toy_config("enhance", **free).to_dict())
    assert json.loads((enhancer / "config.json").read_text())["run"]["log"] == 7
    (enhancer / "config.json").write_text(before)


def test_a_config_comes_back_with_its_tuples(enhancer, toy_config):
    found = checkpoint.read_config(enhancer)
    assert found["data"]["buckets"] == (2.0,)
    assert {**found, "run": None} == {**toy_config("enhance").to_dict(), "run": None}


def test_a_folder_without_a_run_is_named(tmp_path, toy_config):
    with pytest.raises(UserError, match="expected a run folder with config.json"):
        checkpoint.params(tmp_path, ema=True)
    with pytest.raises(UserError, match="config.json"):
        checkpoint.read_config(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    checkpoint.write_config(tmp_path, toy_config("enhance").to_dict())
    with pytest.raises(UserError, match="no finished checkpoint"):
        checkpoint.params(tmp_path, ema=True)


def test_a_config_that_lacks_a_section_is_refused_in_a_line(enhancer, tmp_path, voice, refused):
    shutil.copytree(enhancer, tmp_path / "old")
    audio.write(tmp_path / "noisy.wav", voice(1.0, 0), 16_000)
    path = tmp_path / "old" / "config.json"
    whole = json.loads(path.read_text())
    for content, missing in (
        ({k: v for k, v in whole.items() if k not in ("lora", "mel")}, "lora, mel"),
        ([], "infer"),
    ):
        path.write_text(json.dumps(content))
        refused(
            f"lacks .*{missing}.* of another version or damaged",
            "enhance",
            tmp_path / "noisy.wav",
            "-o",
            tmp_path / "out",
            "--model",
            tmp_path / "old",
        )


def test_another_networks_parameters_are_refused(enhancer, toy_config, tmp_path):
    with pytest.raises(UserError, match="other parameter shapes"):
        train.run(toy_config("enhance", **{"init_from": str(enhancer), "model.width": 64}), tmp_path)


@pytest.mark.parametrize(
    "change, message", [({"heads": 1}, "model.heads=4, got 1"), ({"precondition": "flow"}, "none, got flow")]
)
def test_parameters_that_would_compute_something_else_are_refused(enhancer, toy_config, tmp_path, change, message):
    changes = {f"model.{name}": value for name, value in change.items()}
    with pytest.raises(UserError, match=message):
        train.run(toy_config("enhance", **{"init_from": str(enhancer)}, **changes), tmp_path)


def test_numpy_and_device_digests_agree(enhancer):
    params, _, _ = checkpoint.params(enhancer, ema=True)
    one = checkpoint.digests(params)
    two = checkpoint.digests(jax.device_put(params))
    assert {name: int(value) for name, value in one.items()} == {name: int(value) for name, value in two.items()}
    assert len(np.unique([int(value) for value in one.values()])) > 1


def test_a_field_newer_than_a_run_has_its_default(toy_config, tmp_path):
    config = toy_config("pretrain").to_dict()
    old = {name: value for name, value in config.items() if name not in ("amplitude", "spectral")}
    old["model"] = {name: value for name, value in config["model"].items() if name != "residual"}
    (tmp_path / "config.json").write_text(json.dumps(old))
    (tmp_path / "checkpoints/1").mkdir(parents=True)
    assert checkpoint.read_config(tmp_path)["model"]["residual"] is False
    checkpoint.write_config(tmp_path, config)  # the same run
    (tmp_path / "config.json").write_text(json.dumps(old))
    with pytest.raises(UserError, match="amplitude: 0.0 there, 2.0 here"):
        checkpoint.write_config(tmp_path, config | {"amplitude": 2.0})
