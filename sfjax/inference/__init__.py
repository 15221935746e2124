"""Inference: load a trained model and run it on recordings, texts and whole folders."""

from sfjax.inference.model import Model, bound, load

__all__ = ["Model", "bound", "load"]
