"""Adapters start without effect, train alone, can be merged, and work only with the base they were trained on."""

import hashlib
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from sfjax import inference, lora, train
from sfjax.config import read
from sfjax.configs import default
from sfjax.errors import UserError
from sfjax.export import locate, release

RANK = {"lora.rank": 4, "lora.alpha": 8.0}


def leaves(tree):
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def test_the_large_network_gets_the_papers_adapters():
    config = default.get_config("large")
    config.lora.rank = 64
    state = jax.eval_shape(train.make_program(read(config)).random_state, jax.random.key(0))
    assert lora.count(state.params) == 9_437_184 and lora.count(state.frozen) == 329_704_529
    moments = sum(leaf.size for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim)
    assert moments == 2 * 9_437_184


@pytest.fixture(scope="module")
def base(toy_config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    train.run(toy_config("pretrain"), folder)
    return folder


@pytest.fixture(scope="module")
def other(toy_config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("other")
    train.run(toy_config("pretrain", **{"run.stop": 3}), folder)  # other parameters by the same program
    return folder


@pytest.fixture(scope="module")
def adapted(toy_config, base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapted")
    train.run(toy_config("enhance", **RANK, init_from=str(base)), folder)
    return folder


def outputs(network, params):
    x, condition = jax.random.normal(jax.random.key(3), (2, 2, 40, 80))
    return jax.jit(network.apply)({"params": params}, x, jnp.array([0.2, 0.7]), condition, jnp.array([40, 31]))


def test_a_fresh_adapter_changes_no_bit_and_merging_a_trained_one_next_to_none(toy_config, base):
    params = jax.device_put(release.weights(base, ema=True)[0])
    made = train.make_program(read(toy_config("enhance", **RANK)))
    plain = train.make_program(read(toy_config("enhance")))
    fresh = lora.join(params, jax.jit(made.objective.init)(jax.random.key(1)))
    np.testing.assert_array_equal(outputs(made.network, fresh), outputs(plain.network, params))
    noise = lambda path, leaf: leaf + 0.3 * jax.random.normal(jax.random.key(hash(path) % 1000), leaf.shape)
    flat = {path: noise(path, leaf) if "_lora/" in path else leaf for path, leaf in flatten(fresh).items()}
    moved = unflatten(flat)
    beside = outputs(made.network, moved)
    assert np.abs(beside - outputs(plain.network, params)).max() > 1e-2
    merged = lora.merge(moved, read(toy_config("enhance", **RANK)).lora)
    np.testing.assert_allclose(outputs(plain.network, merged), beside, atol=1e-5)


def flatten(tree):
    from flax.traverse_util import flatten_dict

    return flatten_dict(tree, sep="/")


def unflatten(flat):
    from flax.traverse_util import unflatten_dict

    return unflatten_dict(flat, sep="/")


def test_a_run_trains_its_adapters_alone_and_resumes_bit_for_bit(toy_config, base, adapted, tmp_path):
    config = toy_config("enhance", **RANK, init_from=str(base))
    trained = release.trained(adapted, ema=False)
    assert trained.params and all("_lora/" in name for name in flatten(trained.params))
    assert any(np.abs(leaf).max() > 0 for name, leaf in flatten(trained.params).items() if name.endswith("/b"))
    merged, _ = release.weights(adapted, ema=False)
    before, _ = release.weights(base, ema=True)
    changed = {name for name, leaf in flatten(merged).items() if (leaf != flatten(before)[name]).any()}
    assert changed and all(name.endswith(("query/kernel", "key/kernel", "value/kernel")) for name in changed)
    config.run.stop = 3
    train.run(config, tmp_path)
    config.run.stop = 0
    train.run(config, tmp_path)
    again = release.trained(tmp_path, ema=False)
    jax.tree.map(np.testing.assert_array_equal, trained.params, again.params)


def test_an_exported_adapter_joins_its_base_and_no_other(base, other, adapted, call, tmp_path, voice):
    code, _, said = call("export", "--workdir", adapted, "-o", tmp_path / "adapter", "--dtype", "float16")
    assert code == 0, said
    written = safetensors.numpy.load_file(tmp_path / "adapter/model.safetensors")
    assert {leaf.dtype for leaf in written.values()} == {np.dtype(np.float16)}
    assert all("_lora/" in name for name in written)
    wav = voice(1.0, 0)
    here = inference.load(base).adapted(tmp_path / "adapter").enhance(wav, 16_000)
    there = inference.load(adapted).enhance(wav, 16_000)
    np.testing.assert_allclose(here, there, atol=2e-3)  # float16
    with pytest.raises(UserError, match="different base model .first difference: .*use that base"):
        inference.load(other, adapter=tmp_path / "adapter")
    with pytest.raises(UserError, match="holds no adapters but a whole network"):
        inference.load(base, adapter=other)


@pytest.mark.slow
def test_a_base_that_changed_is_refused(toy_config, base, other, tmp_path):
    copy, run = tmp_path / "base", tmp_path / "run"
    shutil.copytree(base, copy)
    config = toy_config("enhance", **RANK, init_from=str(copy))
    config.run.stop = 2
    train.run(config, run)
    shutil.rmtree(copy)
    with pytest.raises(UserError, match="adapts .*base, which is not here; .*--adapter"):
        inference.load(run)
    shutil.copytree(other, copy)
    config.run.stop = 0
    for way in (lambda: train.run(config, run), lambda: inference.load(run)):
        with pytest.raises(UserError, match="different base model"):
            way()


def sign(folder):
    """Writes the digests of an exported folder anew."""
    sums = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in locate.FILES}
    (folder / locate.SUMS).write_text("".join(f"{digest}  {name}\n" for name, digest in sums.items()))


def test_adapters_of_a_wrong_shape_or_rank_are_refused(adapted, base, tmp_path):
    release.export(adapted, tmp_path, ema=True, step=None, dtype="float32")
    flat = safetensors.numpy.load_file(tmp_path / "model.safetensors")
    name = next(name for name in flat if name.endswith("/a"))
    safetensors.numpy.save_file(flat | {name: flat[name][..., :2]}, tmp_path / "model.safetensors")
    sign(tmp_path)
    with pytest.raises(UserError, match="expected the config's rank 4, got 2"):
        inference.load(base, adapter=tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["lora"]["rank"] = 8
    safetensors.numpy.save_file(flat, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config))
    sign(tmp_path)
    with pytest.raises(UserError, match="do not fit|rank"):
        inference.load(base, adapter=tmp_path)


def test_adapters_without_a_base_or_with_unknown_layers_are_refused(toy_config, tmp_path):
    with pytest.raises(UserError, match="init_from"):
        train.run(toy_config("enhance", **RANK), tmp_path)
    with pytest.raises(UserError, match="lora.targets .*got .*qry"):
        train.run(toy_config("enhance", **RANK, **{"lora.targets": ("qry",)}), tmp_path)
