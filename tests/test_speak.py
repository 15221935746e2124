"""The task of speaking hides whole phones, feeds the phones to the network, and starts from models without phones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sfjax import audio, checkpoint, inference, masks, tasks, train
from sfjax.configs import speak
from sfjax.data import examples, inventory, loader, manifest
from sfjax.errors import UserError
from sfjax.model import Estimator, EstimatorConfig
from sfjax.text import phones

SIZES = EstimatorConfig(
    width=16,
    layers=2,
    heads=2,
    ffn=32,
    dropout=0.0,
    conv_kernel=3,
    conv_groups=2,
    conv_depth=1,
    patch=1,
    precondition="none",
    residual=False,
    lookahead=-1,
    history=200,
    attention_block=0,
    remat="none",
    unroll=1,
)
SECTION = {"name": "speak", "drop": 0.2, "mask": "chunk", "fraction": (0.7, 1.0), "shortest": 10, "phones": ("SIL",)}


def line(seed, frames=120):
    """Phones by frame in runs of 1 to 9 frames, neighbours different, and padding behind 100."""
    rng = np.random.default_rng(seed)
    found = np.repeat(1 + np.arange(60) % 7, rng.integers(1, 10, 60))[:frames]
    return jnp.asarray(np.where(np.arange(frames) < 100, found, 0), jnp.int32)


def test_a_chunk_is_one_span_of_whole_phones_that_covers_its_fraction():
    for seed in range(200):
        said = line(seed)
        hidden = np.asarray(masks.chunk(jax.random.key(seed), jnp.int32(100), said, fraction=(0.3, 0.6)))
        first, end = np.flatnonzero(hidden)[[0, -1]] + [0, 1]
        assert hidden.sum() == end - first and end <= 100
        assert first == 0 or said[first] != said[first - 1]
        assert end == 100 or said[end] != said[end - 1]
        assert 30 <= hidden.sum() <= 60 + 2 * 8


def test_a_chunk_starts_everywhere_and_hides_what_it_says_where_every_frame_is_a_phone():
    own = jnp.arange(1, 41)
    draw = jax.vmap(lambda key: masks.chunk(key, jnp.int32(30), own, fraction=(0.5, 0.5)))
    hidden = np.asarray(draw(jax.random.split(jax.random.key(0), 4000)))
    assert (hidden.sum(axis=1) == 15).all() and not hidden[:, 30:].any()
    starts = np.bincount(hidden.argmax(axis=1), minlength=16)
    assert len(starts) == 16 and starts.min() > 4000 / 16 * 0.7


def example(seed, **changes):
    speech = jax.random.normal(jax.random.key(99), (120, 4))
    task = tasks.make(**SECTION | changes)
    made = task.example({"speech": speech, "phones": line(1)}, jnp.int32(100), jax.random.key(seed))
    return {name: np.asarray(x) for name, x in made.items()}, np.asarray(speech)


@pytest.mark.parametrize("mask", ["chunk", "spans"])
def test_what_is_hidden_counts_and_what_is_shown_is_the_target(mask):
    for seed in range(20):
        made, speech = example(seed, mask=mask, drop=0.0)
        hidden = made["weight"] > 0
        assert 70 <= hidden.sum() <= 100 and not hidden[100:].any()
        np.testing.assert_array_equal(made["condition"][:100][~hidden[:100]], speech[:100][~hidden[:100]])
        assert not made["condition"][hidden].any() and not made["condition"][100:].any()
        np.testing.assert_array_equal(made["phones"], line(1))


def test_a_dropped_example_has_neither_phones_nor_speech_as_often_as_it_says():
    dropped = 0
    make = jax.jit(
        lambda key: tasks.make(**SECTION).example(
            {"speech": jnp.ones((120, 4)), "phones": line(1)}, jnp.int32(100), key
        )
    )
    for seed in range(300):
        made = make(jax.random.key(seed))
        if not made["phones"].any():
            dropped += 1
            assert not made["condition"].any() and made["weight"].sum() == 100
    assert dropped / 300 == pytest.approx(0.2, abs=0.08)


def test_the_gate_starts_shut_and_learns_before_the_table():
    network = Estimator(SIZES, 8, jnp.float32, phones=5)
    x = jax.random.normal(jax.random.key(0), (2, 12, 8))
    said = jnp.tile(jnp.arange(12) % 6, (2, 1))
    given = x, jnp.full(2, 0.3), 0.5 * x, jnp.array([12, 9])
    params = jax.jit(network.init)(jax.random.key(1), *given, said)["params"]
    assert params["phone_table"].shape == (5, 8) and params["phone_gate"] == 0
    plain = {name: leaf for name, leaf in params.items() if not name.startswith("phone_")}
    alone = jax.jit(Estimator(SIZES, 8, jnp.float32).apply)({"params": plain}, *given)
    np.testing.assert_array_equal(jax.jit(network.apply)({"params": params}, *given, said), alone)
    slope = jax.jit(jax.grad(lambda params: jnp.square(network.apply({"params": params}, *given, said)).sum()))
    gradient = slope(params)
    assert abs(gradient["phone_gate"]) > 1e-6 and not gradient["phone_table"].any()
    opened = slope(params | {"phone_gate": jnp.float32(0.1)})
    assert np.abs(opened["phone_table"]).max(axis=1).min() > 0


def test_no_phone_adds_nothing_even_through_an_open_gate():
    network = Estimator(SIZES, 8, jnp.float32, phones=5)
    x = jax.random.normal(jax.random.key(0), (1, 12, 8))
    given = x, jnp.full(1, 0.3), x, jnp.array([12])
    params = jax.jit(network.init)(jax.random.key(1), *given, jnp.ones((1, 12), jnp.int32))["params"]
    params, apply = params | {"phone_gate": jnp.float32(1.0)}, jax.jit(network.apply)
    nothing = apply({"params": params}, *given, jnp.zeros((1, 12), jnp.int32))
    np.testing.assert_array_equal(nothing, apply({"params": params}, *given))
    assert np.abs(nothing - apply({"params": params}, *given, jnp.full((1, 12), 2))).max() > 1e-3


def test_each_frame_of_a_crop_has_the_phone_that_is_said_there(tmp_path):
    from sfjax import audio

    rng = np.random.default_rng(0)
    loud = rng.random(200) < 0.5
    wave = 0.1 * np.repeat(loud, 160) * np.sin(np.arange(32_000))
    audio.write(tmp_path / "a.wav", wave.astype(np.float32), 16_000)
    edges = np.flatnonzero(np.diff(loud, prepend=~loud[0]))
    row = dict(path="a.wav", start=0, frames=32_000, rate=16_000, speaker="s", text="x", split=None, kind=None)
    row |= {"phones": [f"{'AA' if loud[e] else 'SH'}_S" for e in edges], "words": ["x"]}
    rows = manifest.build(tmp_path / "m.parquet", [row | {"lengths": np.diff([*edges, 200]).tolist()}])
    make = examples.Spoken(160, ("AA_S", "SH_S"))
    seen = set()
    for seed in range(20):
        made = make(rows, rows.row(0), 8_000, 16_000, np.random.default_rng(seed))
        level = np.abs(made["speech"].reshape(50, 160)).max(axis=1)
        np.testing.assert_array_equal(made["phones"] == 1, level > 0.01)
        seen.add(tuple(made["phones"].tolist()))
    assert len(seen) > 10


@pytest.mark.slow
def test_a_model_that_knows_no_phones_is_taught_those_of_the_data(toy_config, spoken, tmp_path):
    start, here = tmp_path / "pretrain", tmp_path / "speak"
    train.run(toy_config("pretrain", **{"run.stop": 1}), start)
    changes = {"data.train": str(spoken), "init_from": str(start), "optim.updates": 2}
    config = toy_config("speak", **changes, **{"run.stop": 1})  # its learning rate is 0
    state = train.run(config, here)
    before = checkpoint.params(start, ema=True)[0]
    for name, leaf in jax.tree_util.tree_leaves_with_path(before):
        np.testing.assert_array_equal(leaf, _at(state.params, name))
    rows = manifest.read(spoken, split="train").table
    known = phones.inventory(rows.column("phones").to_pylist())
    assert checkpoint.read_config(here)["task"]["phones"] == known
    assert state.params["phone_table"].shape == (len(known), 80)
    assert inference.load(here).phones == known
    # a run that starts from it keeps its phones, whatever is in its own data
    kept = inventory.with_phones(toy_config("speak", **{"data.train": "nowhere.parquet", "init_from": str(here)}))
    assert kept.task.phones == known


def _at(tree, path):
    for key in path:
        tree = tree[key.key]
    return tree


@pytest.mark.slow
def test_adapters_train_the_phones_beside_them(toy_config, spoken, tmp_path):
    train.run(toy_config("pretrain", **{"run.stop": 1}), tmp_path / "pretrain")
    changes = {"data.train": str(spoken), "init_from": str(tmp_path / "pretrain"), "lora.rank": 2, "optim.updates": 2}
    train.run(toy_config("speak", **changes), tmp_path / "lora")
    trained = checkpoint.params(tmp_path / "lora", ema=False)[0]
    assert {*trained} == {"transformer", "phone_table", "phone_gate"}
    model = inference.load(tmp_path / "pretrain", adapter=tmp_path / "lora")
    assert model.phones and model.filling().mask == "chunk"


@pytest.mark.slow
def test_one_model_speaks_and_enhances(toy_config, spoken, corpus, tmp_path):
    weights = f"enhance={corpus}/speech.parquet,speak={spoken}"
    config = toy_config("several", **{"data.train": weights, "optim.updates": 1, "data.buckets": (2.0,)})
    del config.task.separate
    config.task.speak = SECTION | {"phones": ()}
    train.run(config, tmp_path)
    model = inference.load(tmp_path)
    assert len(model.phones) > 39 and model.enhancing() and model.filling()


@pytest.mark.parametrize(
    "changes, wanted",
    [
        ({"task.mask": "holes"}, "task.mask must be chunk or spans, got 'holes'"),
        (
            {"data.train": "{speech}"},
            "expected a manifest with phones, found none; make one with `sfjax prepare",
        ),
        ({"task.phones": ("SIL",), "data.train": "{speech}"}, "no columns 'phones' and 'lengths'"),
    ],
)
def test_what_cannot_be_learned_is_refused(toy_config, spoken, corpus, tmp_path, changes, wanted):
    changes = {
        name: str(value).format(speech=corpus / "speech.parquet") if isinstance(value, str) else value
        for name, value in changes.items()
    }
    with pytest.raises(UserError, match=wanted):
        train.run(toy_config("speak", **{"data.train": str(spoken)} | changes), tmp_path)


def test_a_row_with_unknown_phones_goes_bad_and_is_replaced(spoken):
    rows = manifest.read(spoken, split=None)
    source = loader.Source(rows, 1.0, 0, 1.0, examples.Spoken(160, ("SIL",)))
    plan, config = loader.Plan((rows.seconds,), (1.0,), (2.0,), 4.0, 1, 0), speak.get_config("tiny")
    reader = loader.Reader((source,), plan, tasks.make(**config.task), audio.MelSpec(**config.mel), (0, 1))
    with pytest.raises(UserError, match="20 rows in a row cannot be read, the last: expected phones among the 1"):
        reader(0)
