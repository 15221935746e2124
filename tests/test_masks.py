"""The span sampler hides an exact fraction in spans of the shortest length or more, and favours no frame or count."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sfjax import masks

DRAWS = 2000


def draw(length: int, frames: int = 400, fraction=(0.7, 1.0), shortest: int = 10) -> np.ndarray:
    sample = jax.jit(
        jax.vmap(lambda key: masks.spans(key, jnp.int32(length), frames=frames, fraction=fraction, shortest=shortest))
    )
    return np.asarray(sample(jax.random.split(jax.random.key(length), DRAWS)))


def runs(mask: np.ndarray) -> np.ndarray:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(int), [0]])))
    return edges[1::2] - edges[::2]


@pytest.mark.parametrize("length", [15, 60, 237, 400])
def test_hidden_frames_are_a_uniform_fraction_of_the_true_length(length):
    share = draw(length).sum(axis=1) / length
    assert share.min() >= 0.7 - 0.5 / length and share.max() <= 1
    # mean and standard deviation of U[.7, 1], rounded to frames; five standard errors
    assert share.mean() == pytest.approx(0.85, abs=5 * 0.087 / DRAWS**0.5 + 0.25 / length)
    assert share.std() == pytest.approx(0.3 / 12**0.5, abs=0.01 + 1 / length)


def test_a_fixed_fraction_hides_an_exact_count():
    assert (draw(237, fraction=(0.8, 0.8)).sum(axis=1) == round(0.8 * 237)).all()


@pytest.mark.parametrize("length", [15, 60, 237, 400])
def test_every_span_has_the_shortest_length_at_least(length):
    assert min(runs(mask).min() for mask in draw(length)) >= 10


def test_padding_is_never_hidden():
    assert not draw(237)[:, 237:].any()


def test_too_short_a_length_gets_one_shorter_span():
    assert all(len(runs(mask)) == 1 for mask in draw(8))


def test_the_number_of_spans_is_uniform():
    # n = 80 of 100 hidden: 1..8 spans, each with probability 1/8; five standard errors
    counts = np.bincount([len(runs(mask)) for mask in draw(100, fraction=(0.8, 0.8))], minlength=9)
    assert counts[0] == 0 and len(counts) == 9
    np.testing.assert_allclose(counts[1:] / DRAWS, 1 / 8, atol=5 * (7 / 64 / DRAWS) ** 0.5)


def test_no_place_is_favoured():
    # by symmetry the first and the second half are hidden alike
    hidden = draw(200, frames=200).mean(axis=0)
    assert abs(hidden[:100].mean() - hidden[100:].mean()) < 0.01
    assert abs(hidden[:5].mean() - hidden[-5:].mean()) < 0.04
