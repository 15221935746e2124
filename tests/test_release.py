"""An exported folder: a whole network given away is the one that was trained."""

import numpy as np
import pytest
import safetensors.numpy
from flax.traverse_util import flatten_dict

from sfjax import infer, release


@pytest.fixture(scope="module", params=["float32", "float16"])
def exported(request, enhancer, tmp_path_factory):
    """The type, and the folder of the toy run's averaged parameters in it."""
    folder = tmp_path_factory.mktemp(request.param)
    release.export(enhancer, folder, ema=True, step=None, dtype=request.param)
    return request.param, folder


def test_an_exported_network_keeps_every_shape_and_as_float32_every_bit(exported, enhancer):
    dtype, folder = exported
    run = flatten_dict(release.weights(enhancer, ema=True)[0], sep="/")
    written = safetensors.numpy.load_file(folder / release.TENSORS)
    assert {name: leaf.shape for name, leaf in written.items()} == {name: leaf.shape for name, leaf in run.items()}
    assert {leaf.dtype for leaf in written.values()} == {np.dtype(dtype)}
    assert any(leaf.ndim == 0 for leaf in written.values())  # the case that this is about
    back = flatten_dict(release.weights(folder, ema=True)[0], sep="/")
    for name, leaf in run.items():
        np.testing.assert_array_equal(back[name], leaf.astype(dtype).astype(np.float32))


def test_an_exported_network_enhances_as_its_run_does(exported, enhancer, voice):
    dtype, folder = exported
    wav = voice(1.5, 0)
    wanted, made = (infer.load(place).enhance(wav, 16_000) for place in (enhancer, folder))
    assert np.abs(wanted).max() > 0.01
    np.testing.assert_allclose(made, wanted, rtol=0, atol={"float32": 0, "float16": 2e-3}[dtype])
