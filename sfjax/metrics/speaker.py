"""Speaker similarity: the cosine of the embeddings of two recordings.

SIM-o compares generated speech with the original prompt. SIM-r compares it with the resynthesised prompt (the same
vocoder on the prompt's log-Mel spectrogram), so that the vocoder's effect on a voice does not count. As with word
errors, scores of two encoders do not compare.
"""

from __future__ import annotations

import functools
import importlib.util
import io
import math
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import threadpoolctl
from jaxtyping import Float

from sfjax.errors import UserError
from sfjax.metrics.model_input import RATE, audible


@runtime_checkable
class SpeakerEncoder(Protocol):
    """A speaker encoder: it returns a vector of length 1 for the voice of a waveform at `rate` Hz."""

    name: str

    def __call__(self, wav: Float[np.ndarray, " samples"], rate: int) -> Float[np.ndarray, " size"]: ...


@functools.cache
def encoder(name: str) -> SpeakerEncoder:
    """Load the speaker encoder 'resemblyzer' or 'wavlm:FOLDER', once in a process.

    Raises `UserError` if the name is unknown or the encoder cannot be loaded.
    """
    kind, _, rest = name.partition(":")
    if name == "resemblyzer":
        return Resemblyzer()
    if kind == "wavlm" and rest:
        from sfjax.metrics.torch_models import WavLM

        return WavLM(rest)
    raise UserError(f"unknown speaker encoder {name!r}; choose from resemblyzer, wavlm:FOLDER")


def similarity(a: Float[np.ndarray, " size"], b: Float[np.ndarray, " size"]) -> float:
    """Compute the cosine between the vectors of two recordings, at most 1."""
    return float(np.dot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b)))


# Resemblyzer, computed in numpy

BANDS = 40
WINDOW, HOP = 400, 160  # samples
LEVEL = -30.0  # dB of full scale; quieter recordings are raised to this level
PART, STEP = 160, 77  # frames of a part of a recording, and from one part to the next: 1.3 parts a second
COVERED = 0.75  # share of the last part that the recording must fill
LAYERS, WIDTH = 3, 256


class Resemblyzer:
    """The encoder of the package resemblyzer, with the package's weights but without PyTorch.

    A vector has 256 values, none negative. As in the package, recordings below −30 dB of full scale are raised to that
    level. Unlike the package, this class does not cut out silence with a voice activity detector. Raises `UserError` if
    the package is missing or its weights have changed. Source: Wan et al., arXiv 1710.10467; resemblyzer 0.1.
    """

    name = "resemblyzer"

    def __init__(self):
        package = importlib.util.find_spec("resemblyzer")  # imports nothing, because the package needs PyTorch
        if package is None or not package.submodule_search_locations:
            raise UserError("this encoder needs the weights of resemblyzer: pip install --no-deps resemblyzer")
        path = Path(package.submodule_search_locations[0], "pretrained.pt")
        shapes = {"linear.weight": (WIDTH, WIDTH), "linear.bias": (WIDTH,)}
        for k in range(LAYERS):
            shapes[f"lstm.weight_ih_l{k}"] = (4 * WIDTH, WIDTH if k else BANDS)
            shapes[f"lstm.weight_hh_l{k}"] = (4 * WIDTH, WIDTH)
            shapes[f"lstm.bias_ih_l{k}"] = shapes[f"lstm.bias_hh_l{k}"] = (4 * WIDTH,)
        try:
            weights = read(path)["model_state"]
            self.weights = {name: weights[name].astype(np.float32) for name in shapes}
        except (OSError, KeyError) as error:
            raise UserError(f"{path}: expected the weights of resemblyzer, got {error!r}; reinstall it") from None
        for name, shape in shapes.items():
            if self.weights[name].shape != shape:
                raise UserError(
                    f"{path}: expected shape {shape} for {name}, got {self.weights[name].shape}; reinstall resemblyzer"
                )

    def __call__(self, wav: Float[np.ndarray, " samples"], rate: int) -> Float[np.ndarray, " size"]:
        wav = audible(wav, rate)
        wav = wav * max(1.0, 10 ** (LEVEL / 20) / np.sqrt(np.mean(wav.astype(np.float64) ** 2)))
        frames = len(wav) // HOP + 1
        starts = list(range(0, max(1, frames - PART + STEP + 1), STEP))
        if len(starts) > 1 and len(wav) / HOP - starts[-1] < COVERED * PART:
            starts.pop()
        mel = _power_mel(np.pad(wav, (0, max(0, (starts[-1] + PART) * HOP - len(wav)))))
        x = np.stack([mel[start : start + PART] for start in starts], axis=1)
        # One thread: the matrix products are small, and 20 times slower if threads wait for each other
        with threadpoolctl.threadpool_limits(1, "blas"):
            for layer in range(LAYERS):
                x = self._lstm(x, layer)
        parts = np.maximum(x[-1] @ self.weights["linear.weight"].T + self.weights["linear.bias"], 0)
        mean = (parts / np.linalg.norm(parts, axis=1, keepdims=True)).mean(axis=0)
        return mean / np.linalg.norm(mean)

    def _lstm(self, x: Float[np.ndarray, "frames parts inputs"], layer: int) -> Float[np.ndarray, "frames parts _"]:
        """Return the hidden states of one layer; the gates are in PyTorch's order."""
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        input_weight, hidden_weight, *biases = (self.weights[f"lstm.{name}_l{layer}"] for name in names)
        inputs = x @ input_weight.T + sum(biases)
        hidden = np.zeros((x.shape[1], WIDTH), np.float32)
        cell = np.zeros((x.shape[1], WIDTH), np.float32)
        states = np.empty((*x.shape[:2], WIDTH), np.float32)
        for time, frame in enumerate(inputs):
            gates = frame + hidden @ hidden_weight.T
            input_gate, forget_gate, candidate, output_gate = np.split(gates, 4, axis=1)
            cell = _sigmoid(forget_gate) * cell + _sigmoid(input_gate) * np.tanh(candidate)
            hidden = _sigmoid(output_gate) * np.tanh(cell)
            states[time] = hidden
        return states


def _sigmoid(x):
    return 0.5 + 0.5 * np.tanh(0.5 * x)


def _power_mel(wav: Float[np.ndarray, " samples"]) -> Float[np.ndarray, "frames bands"]:
    import librosa  # slow to import (numba)

    mel = librosa.feature.melspectrogram(y=wav, sr=RATE, n_fft=WINDOW, hop_length=HOP, n_mels=BANDS)
    return mel.T.astype(np.float32)


# PyTorch's format before 1.6: five pickles, then for each storage its number of elements and the elements

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


def read(path: Path) -> dict[str, Any]:
    """Read a PyTorch checkpoint of the old format, with numpy arrays for tensors; no code in it is run.

    Raises `UserError` if the file has another format, is truncated, or contains anything but containers and contiguous
    float32 tensors.
    """
    storages: dict[str, np.ndarray] = {}
    content = path.read_bytes()
    with io.BytesIO(content) as file:

        def load():
            return _Unpickler(file, storages, len(content)).load()

        try:
            if load() != MAGIC or load() != PROTOCOL or not load()["little_endian"]:
                raise pickle.UnpicklingError("another format")
            tree, keys = load(), load()
            for key in keys:
                count = int.from_bytes(file.read(8), "little")
                data = file.read(4 * count)
                if count != len(storages[key]) or len(data) != 4 * count:
                    raise pickle.UnpicklingError("it is truncated")
                storages[key][:] = np.frombuffer(data, "<f4")
        except Exception as error:  # a damaged pickle can raise anything
            raise UserError(f"{path}: not a PyTorch checkpoint that can be read here ({error}); reinstall it") from None
    return tree


class _Unpickler(pickle._Unpickler):  # pickle's version in C allocates any size that the file names
    """Load float32 storages, tensors made of them and ordered dictionaries; refuse every other global."""

    def __init__(self, file, storages: dict[str, np.ndarray], size: int):
        super().__init__(file)
        self.storages, self.size = storages, size

    def find_class(self, module: str, name: str) -> Any:
        allowed = {
            "collections OrderedDict": OrderedDict,
            "torch FloatStorage": "float32",
            "torch._utils _rebuild_tensor_v2": _tensor,
        }
        if f"{module} {name}" not in allowed:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return allowed[f"{module} {name}"]

    def persistent_load(self, pid: Any) -> np.ndarray:
        """Return the storage, still empty: its elements come at the end of the file."""
        tag, dtype, key, _, count, view = pid
        if (tag, dtype, view) != ("storage", "float32", None) or not 0 <= 4 * count <= self.size:
            raise pickle.UnpicklingError(f"it holds a storage {pid}")
        return self.storages.setdefault(key, np.zeros(count, np.float32))


def _tensor(storage: np.ndarray, offset: int, shape: tuple, strides: tuple, *_: Any) -> np.ndarray:
    count = math.prod(shape)
    if not 0 <= offset <= offset + count <= len(storage):
        raise pickle.UnpicklingError("it holds a tensor that lies outside of its storage")
    view = storage[offset : offset + count].reshape(shape)
    if tuple(stride * 4 for stride in strides) != view.strides and count:
        raise pickle.UnpicklingError("it holds a tensor that is not contiguous")
    return view
