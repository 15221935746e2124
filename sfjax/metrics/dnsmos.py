"""DNSMOS P.835: predicted opinions on a recording, without its reference (Reddy et al., arXiv 2110.01763).

The package speechmos contains the network. The processes that score import this module, so it does not import JAX.
"""

from __future__ import annotations

import functools
import types
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from sfjax import metrics
from sfjax.errors import UserError
from sfjax.metrics.model_input import RATE, audible

NAMES = {"sig": "sig_mos", "bak": "bak_mos", "ovrl": "ovrl_mos"}  # our names, and the names of speechmos


def dnsmos(wav: Float[np.ndarray, " samples"], rate: int) -> dict[str, float]:
    """Predict the mean opinion, 1 to 5, on the speech (sig), the background (bak) and the whole (ovrl).

    A recording is repeated until it lasts 9 s, and the scores of its windows are averaged. Samples beyond [-1, 1] are
    clipped. Raises `UserError` if speechmos is missing, and `Unscorable` if the recording is silent or not finite, or
    shorter than 0.4 s.
    """
    opinions = network()(np.clip(audible(wav, rate), -1.0, 1.0), RATE, is_personalized_MOS=False)
    return {name: float(opinions[theirs]) for name, theirs in NAMES.items()}


def score(reference: Float[np.ndarray, " samples"], estimate: Float[np.ndarray, " _"], rate: int) -> dict[str, float]:
    """Compute every score of `sfjax.metrics.score`, and DNSMOS of the estimate."""
    return metrics.score(reference, estimate, rate) | dnsmos(estimate, rate)


@functools.cache
def network() -> Any:
    """Load the network once, in one thread; the P.808 network beside it, whose score is not used, does not run."""
    try:
        import onnxruntime  # pyright: ignore[reportMissingImports] (optional dependency)
        from speechmos import dnsmos as package  # pyright: ignore[reportMissingImports] (optional dependency)
    except ImportError as error:
        raise UserError(f"DNSMOS needs speechmos ({error}): pip install 'sfjax[dnsmos]'") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    weights = Path(package.__file__).with_name("dnsmos_models") / "sig_bak_ovr.onnx"
    model: Any = package.DNSMOS.__new__(package.DNSMOS)
    model.onnx_sess = onnxruntime.InferenceSession(str(weights), options, providers=["CPUExecutionProvider"])
    model.audio_melspec = lambda audio: np.zeros((1, 1))
    model.p808_onnx_sess = types.SimpleNamespace(run=lambda *_: np.zeros((1, 1, 1)))
    return model
