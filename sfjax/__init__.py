"""sfjax: SpeechFlow, generative pre-training for speech with flow matching, in JAX.

In a notebook: `model = sfjax.load("runs/enhance"); clean = model.enhance(noisy, sample_rate)`.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sfjax import audio, examples, flow, inference, metrics, train
    from sfjax.inference import load as load

__version__ = "0.1.0"
__all__ = ["audio", "examples", "flow", "inference", "metrics", "train"]  # and load, which is `sfjax.inference.load`


def __getattr__(name: str):
    """Import a module on first use, so that `import sfjax` and the scoring processes start fast."""
    if name == "load":
        return importlib.import_module("sfjax.inference").load
    if name in __all__:
        return importlib.import_module(f"sfjax.{name}")
    raise AttributeError(f"module 'sfjax' has no attribute {name!r}")
