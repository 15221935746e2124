"""What each task shows the network and what it counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sfjax import tasks
from sfjax.errors import UserError

FRAMES, LENGTH = 60, 47


def features(*names):
    keys = jax.random.split(jax.random.key(0), len(names))
    return {name: jax.random.normal(key, (FRAMES, 4)) for name, key in zip(names, keys, strict=True)}


def many(task, draws=400):
    found = features(*task.columns)
    return found, jax.vmap(lambda key: task.example(found, jnp.int32(LENGTH), key))(
        jax.random.split(jax.random.key(1), draws)
    )


def test_hidden_frames_never_reach_the_condition():
    task = tasks.make(name="pretrain", drop=0.1, fraction=(0.7, 1.0), shortest=10)
    speech = features("speech")["speech"]
    condition = lambda x, key: task.example({"speech": x}, jnp.int32(LENGTH), key)
    for key in jax.random.split(jax.random.key(2), 20):
        slope = jax.jacobian(lambda x, key=key: condition(x, key)["condition"])(speech)
        reached = np.abs(slope).sum(axis=(0, 1, 3)) > 0
        hidden = np.asarray(condition(speech, key)["weight"]) > 0
        assert not (reached & hidden).any()
        np.testing.assert_array_equal(reached[:LENGTH], ~hidden[:LENGTH])
        assert not reached[LENGTH:].any()


def test_pretraining_counts_hidden_valid_frames_and_all_of_them_when_dropped():
    _, found = many(tasks.make(name="pretrain", drop=0.25, fraction=(0.7, 0.9), shortest=10))
    share = np.asarray(found["weight"]).sum(axis=1) / LENGTH
    dropped = np.asarray(jnp.abs(found["condition"]).sum(axis=(1, 2)) == 0)
    np.testing.assert_array_equal(share[dropped], 1)
    assert share[~dropped].max() <= 0.9 + 1 / LENGTH
    assert dropped.mean() == pytest.approx(0.25, abs=5 * (0.25 * 0.75 / 400) ** 0.5)
    assert not np.asarray(found["weight"])[:, LENGTH:].any()


def test_enhancement_shows_the_whole_recording_or_nothing_and_counts_every_valid_frame():
    shown, found = many(tasks.make(name="enhance", drop=0.3))
    dropped = np.asarray(jnp.abs(found["condition"]).sum(axis=(1, 2)) == 0)
    assert dropped.mean() == pytest.approx(0.3, abs=5 * (0.3 * 0.7 / 400) ** 0.5)
    kept = np.asarray(found["condition"])[~dropped]
    np.testing.assert_array_equal(kept[:, :LENGTH], np.broadcast_to(shown["noisy"][:LENGTH], kept[:, :LENGTH].shape))
    np.testing.assert_array_equal(found["weight"], np.broadcast_to(np.arange(FRAMES) < LENGTH, (400, FRAMES)))
    np.testing.assert_array_equal(found["target"][0], shown["speech"])


def test_an_unknown_task_is_named():
    with pytest.raises(UserError, match="unknown task 'sing'"):
        tasks.make(name="sing")
