"""The duration model: its inputs, its loss, its predictions, and that it learns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sfjax import checkpoint, tasks, train
from sfjax.data import manifest
from sfjax.inference import auxiliary
from sfjax.text import duration_model, phones
from sfjax.transformer import TransformerConfig

SECTION = {"name": "durations", "drop": 0.2, "hide": 0.2, "fraction": (0.1, 1.0), "phones": ("SIL", "AA_S")}
LABELS = {"tokens": jnp.array([1, 2, 1, 2, 1, 0, 0]), "lengths": jnp.array([3, 0, 9, 4, 1, 0, 0])}


def examples(count, **changes):
    task = tasks.make(**SECTION | changes)
    keys = jax.random.split(jax.random.key(0), count)
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(lambda key: task.example(LABELS, jnp.int32(5), key)))(keys))


def test_lengths_are_spread_around_their_whole_numbers_and_hidden_ones_are_unknown():
    made = examples(4000, drop=0.0)
    spread = np.expm1(made["target"])[:, :5] - np.array(LABELS["lengths"])[:5]
    assert np.abs(spread).max() <= 0.5 + 1e-4 and spread[:, 2].std() == pytest.approx(12**-0.5, rel=0.05)
    hidden = made["weight"] > 0
    assert not hidden[:, 5:].any() and hidden[:, :5].any(axis=1).all()
    assert not made["known"][hidden].any()
    np.testing.assert_array_equal(made["known"][:, :5][~hidden[:, :5]], made["target"][:, :5][~hidden[:, :5]])
    runs = np.diff(np.pad(hidden, ((0, 0), (1, 1))).astype(int), axis=1)
    assert (np.abs(runs).sum(axis=1) == 2).all()  # one segment


def test_all_lengths_are_hidden_and_phones_dropped_as_often_as_it_says():
    made = examples(4000, fraction=(0.2, 0.2))
    gone = ~made["phones"].any(axis=1)
    assert gone.mean() == pytest.approx(0.2, abs=0.03)
    assert (made["weight"][gone].sum(axis=1) == 5).all()
    assert (made["weight"][~gone].sum(axis=1) == 5).mean() == pytest.approx(0.2, abs=0.03)


@pytest.fixture(scope="module")
def toy():
    config = TransformerConfig(
        width=16,
        layers=2,
        heads=2,
        ffn=32,
        dropout=0.0,
        conv_kernel=3,
        conv_groups=2,
        conv_depth=1,
        attention_block=0,
        remat="none",
        unroll=1,
    )
    network = duration_model.DurationModel(config, phones=2, size=8, dtype=jnp.float32)
    made = duration_model.objective(network)
    return network, made, jax.jit(made.init)(jax.random.key(0))


def test_the_loss_is_the_mean_absolute_error_over_hidden_phones(toy):
    network, made, params = toy
    task = tasks.make(**SECTION)
    keys = jax.random.split(jax.random.key(3), 4)
    batch = {"labels": jax.tree.map(lambda x: jnp.stack([x] * 4), LABELS), "lengths": jnp.full(4, 5)}
    found = jax.jit(made.error(task), static_argnums=4)(params, batch, keys, jnp.zeros(4), None)
    make, apply = jax.jit(lambda key: task.example(LABELS, jnp.int32(5), key)), jax.jit(network.apply)
    total = count = 0.0
    for key in keys:
        one = make(key)
        out = apply({"params": params}, one["phones"][None], one["known"][None], jnp.array([5]))[0]
        hidden = np.asarray(one["hidden"])
        total += np.abs(np.asarray(out) - np.asarray(one["target"]))[hidden].sum()
        count += hidden.sum()
    assert float(found.total) == pytest.approx(total, rel=1e-5) and float(found.count) == count


def test_a_line_does_not_depend_on_its_padding(toy):
    network, _, params = toy
    said, known = jnp.array([[1, 2, 1, 2, 1]]), jnp.array([[0.5, 0.0, 1.0, 0.0, 0.2]])
    apply = jax.jit(network.apply)
    alone = apply({"params": params}, said, known, jnp.array([5]))
    padded = apply(
        {"params": params},
        jnp.pad(said, ((0, 0), (0, 4)), constant_values=2),
        jnp.pad(known, ((0, 0), (0, 4))),
        jnp.array([5]),
    )
    np.testing.assert_allclose(padded[:, :5], alone, atol=1e-5)


def test_what_is_known_stays_and_what_is_found_is_not_negative(toy):
    network, _, params = toy
    params = jax.tree.map(lambda leaf: leaf, params)
    params["output"] = params["output"] | {"bias": jnp.array([-3.0])}
    hidden = jnp.array([[True, False, True, False, True]])
    frames = jnp.array([[7.0, 4.0, 2.0, 0.0, 1.0]])
    found = duration_model.predict(network, params, jnp.array([[1, 2, 1, 2, 1]]), frames, hidden, jnp.array([5]))
    np.testing.assert_array_equal(found, [[0.0, 4.0, 0.0, 0.0, 0.0]])


@pytest.mark.slow
def test_it_learns_how_long_each_phone_lasts(toy_config, tmp_path):
    """Each phone has one length: after a few steps the model is closer than their mean."""
    inventory = ("SIL", *(f"P{i}_S" for i in range(6)))
    lengths = dict(zip(inventory, (0, 2, 4, 8, 12, 20, 30), strict=True))
    rng, rows = np.random.default_rng(0), []
    for number in range(40):
        words = [[f"P{i}"] for i in rng.integers(0, 6, 8)]
        tokens = phones.spell(words)
        said = {"phones": list(tokens), "lengths": [lengths[token] for token in tokens], "words": ["w"] * 8}
        split = "valid" if number % 4 == 0 else "train"
        rows.append(dict(path="a.wav", start=0, frames=32_000, rate=16_000, split=split, **said))
    manifest.write(tmp_path / "m.parquet", rows)
    changes = {
        "data.train": f"{tmp_path}/m.parquet",
        "data.buckets": (2.0,),
        "data.seconds": 64.0,
        "ema": 0.5,
        "optim.updates": 60,
        "optim.peak": 1e-2,
        "task.drop": 0.0,
        "run.valid_batches": 0,
    }
    state = train.run(toy_config("durations", **changes), tmp_path / "run")
    timing = auxiliary.load_duration_model(tmp_path / "run")
    assert int(state.step) == 60 and timing.phones == inventory
    line = phones.Line(tuple(rows[0]["phones"]), (0,) * 17, tuple("w" * 8))
    found = timing(line, [True] * 17)
    wanted = np.array(rows[0]["lengths"])
    assert np.abs(found - wanted).mean() < 0.5 * np.abs(wanted - wanted.mean()).mean()
    assert checkpoint.read_config(tmp_path / "run")["task"]["phones"] == inventory
