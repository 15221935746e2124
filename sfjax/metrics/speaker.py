"""Speaker similarity: the cosine between what a speaker encoder makes of two recordings.

SIM-o compares with the original prompt; SIM-r with the prompt made again from its Mel by the same vocoder, so that what
the vocoder does to a voice does not count. As with word errors, figures of two encoders do not compare.
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
from sfjax.metrics.perceptual import Unscorable
from sfjax.metrics.wer import RATE, resampled

SHORTEST = 0.4  # seconds of a recording that a speaker is looked for in


@runtime_checkable
class SpeakerEncoder(Protocol):
    """A speaker encoder: a vector of length 1 for the voice of a wave at `rate` Hz."""

    name: str

    def __call__(self, wav: Float[np.ndarray, " samples"], rate: int) -> Float[np.ndarray, " size"]: ...


@functools.cache
def encoder(name: str) -> SpeakerEncoder:
    """The speaker encoder called 'resemblyzer' or 'wavlm:FOLDER'; loaded once in a process.

    Raises `UserError` if there is none of that name or it cannot be loaded.
    """
    kind, _, rest = name.partition(":")
    if name == "resemblyzer":
        return Resemblyzer()
    if kind == "wavlm" and rest:
        from sfjax.metrics.local import WavLM

        return WavLM(rest)
    raise UserError(f"a speaker encoder is 'resemblyzer' or 'wavlm:FOLDER', got {name!r}")


def similarity(a: Float[np.ndarray, " size"], b: Float[np.ndarray, " size"]) -> float:
    """The cosine between the vectors of two recordings, at most 1."""
    return float(np.dot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b)))


def audible(wav: Float[np.ndarray, " samples"], rate: int) -> Float[np.ndarray, " resampled"]:
    """The wave at 16 kHz. Raises `Unscorable` if it is shorter than 0.4 s, silent or not finite."""
    wav = resampled(wav, rate)
    if len(wav) < SHORTEST * RATE:
        raise Unscorable(f"the recording lasts {len(wav) / RATE:.2f} s, a speaker wants at least {SHORTEST} s")
    if np.ptp(wav) == 0:
        raise Unscorable("the recording is silent")
    return wav


# Resemblyzer, computed in numpy

BANDS = 40
WINDOW, HOP = 400, 160  # samples
LEVEL = -30.0  # dB of full scale, to which quieter recordings are raised
PART, STEP = 160, 77  # frames of a part of a recording, and from one to the next: 1.3 parts a second
COVERED = 0.75  # share of the last part that the recording must fill
LAYERS, WIDTH = 3, 256


class Resemblyzer:
    """The encoder of the package resemblyzer, from the weights in it but without PyTorch: 256 values, none negative.

    The package also cuts out what a voice activity detector takes for silence; that is left out here. Recordings below
    −30 dB of full scale are raised to it, as there. `UserError` if the package is missing or its weights are not what
    they were. Source: Wan et al., arXiv 1710.10467; resemblyzer 0.1.
    """

    name = "resemblyzer"

    def __init__(self):
        found = importlib.util.find_spec("resemblyzer")  # imports nothing: the package itself needs PyTorch
        if found is None or not found.submodule_search_locations:
            raise UserError("this encoder needs the weights of resemblyzer: pip install --no-deps resemblyzer")
        path = Path(found.submodule_search_locations[0], "pretrained.pt")
        shapes = {"linear.weight": (WIDTH, WIDTH), "linear.bias": (WIDTH,)}
        for k in range(LAYERS):
            shapes[f"lstm.weight_ih_l{k}"] = (4 * WIDTH, WIDTH if k else BANDS)
            shapes[f"lstm.weight_hh_l{k}"] = (4 * WIDTH, WIDTH)
            shapes |= {f"lstm.bias_{which}_l{k}": (4 * WIDTH,) for which in ("ih", "hh")}
        try:
            weights = read(path)["model_state"]
            self.weights = {name: weights[name].astype(np.float32) for name in shapes}
        except (OSError, KeyError) as error:
            raise UserError(f"{path}: expected the weights of resemblyzer, got {error!r}; reinstall it") from None
        wrong = [name for name, shape in shapes.items() if self.weights[name].shape != shape]
        if wrong:
            raise UserError(f"{path}: {wrong[0]} has shape {self.weights[wrong[0]].shape}, wanted {shapes[wrong[0]]}")

    def __call__(self, wav: Float[np.ndarray, " samples"], rate: int) -> Float[np.ndarray, " size"]:
        wav = audible(wav, rate)
        wav = wav * max(1.0, 10 ** (LEVEL / 20) / np.sqrt(np.mean(wav.astype(np.float64) ** 2)))
        frames = len(wav) // HOP + 1
        starts = list(range(0, max(1, frames - PART + STEP + 1), STEP))
        if len(starts) > 1 and len(wav) / HOP - starts[-1] < COVERED * PART:
            starts.pop()
        mel = _power_mel(np.pad(wav, (0, max(0, (starts[-1] + PART) * HOP - len(wav)))))
        x = np.stack([mel[start : start + PART] for start in starts], axis=1)
        with threadpoolctl.threadpool_limits(1, "blas"):  # products too small to share: 20 times slower where they wait
            for number in range(LAYERS):
                x = self._lstm(x, number)
        parts = np.maximum(x[-1] @ self.weights["linear.weight"].T + self.weights["linear.bias"], 0)
        mean = (parts / np.linalg.norm(parts, axis=1, keepdims=True)).mean(axis=0)
        return mean / np.linalg.norm(mean)

    def _lstm(self, x: Float[np.ndarray, "frames parts inputs"], number: int) -> Float[np.ndarray, "frames parts _"]:
        """The hidden states of one layer; PyTorch's order of gates."""
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        into, back, *biases = (self.weights[f"lstm.{name}_l{number}"] for name in names)
        given = x @ into.T + sum(biases)
        hidden = cell = np.zeros((x.shape[1], WIDTH), np.float32)
        out = np.empty((*x.shape[:2], WIDTH), np.float32)
        for time, now in enumerate(given):
            gates = now + hidden @ back.T
            let_in, keep, fresh, let_out = np.split(gates, 4, axis=1)
            cell = _sigmoid(keep) * cell + _sigmoid(let_in) * np.tanh(fresh)
            out[time] = hidden = _sigmoid(let_out) * np.tanh(cell)
        return out


def _sigmoid(x):
    return 0.5 + 0.5 * np.tanh(0.5 * x)


def _power_mel(wav: Float[np.ndarray, " samples"]) -> Float[np.ndarray, "frames bands"]:
    import librosa  # slow to import (numba)

    mel = librosa.feature.melspectrogram(y=wav, sr=RATE, n_fft=WINDOW, hop_length=HOP, n_mels=BANDS)
    return mel.T.astype(np.float32)


# PyTorch's format before 1.6: five pickles, then for each storage its number of elements and they themselves

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


def read(path: Path) -> dict[str, Any]:
    """What a PyTorch checkpoint of the old format holds, with numpy arrays for tensors; runs nothing that is in it.

    Raises `UserError` if it is of another format, cut short, or holds more than containers and contiguous float32
    tensors.
    """
    storages: dict[str, np.ndarray] = {}
    content = path.read_bytes()
    with io.BytesIO(content) as file:
        try:
            load = lambda: _Unpickler(file, storages, len(content)).load()
            if load() != MAGIC or load() != PROTOCOL or not load()["little_endian"]:
                raise pickle.UnpicklingError("another format")
            tree, keys = load(), load()
            for key in keys:
                count = int.from_bytes(file.read(8), "little")
                data = file.read(4 * count)
                if count != len(storages[key]) or len(data) != 4 * count:
                    raise pickle.UnpicklingError("it is cut short")
                storages[key][:] = np.frombuffer(data, "<f4")
        except Exception as error:  # a damaged pickle fails in any way
            raise UserError(f"{path}: not a PyTorch checkpoint that can be read here ({error}); reinstall it") from None
    return tree


class _Unpickler(pickle._Unpickler):  # in C it allocates whatever the file tells it to
    """Knows float32 storages, tensors made of them and ordered dictionaries, and refuses every other global."""

    def __init__(self, file, storages: dict[str, np.ndarray], size: int):
        super().__init__(file)
        self.storages, self.size = storages, size

    def find_class(self, module: str, name: str) -> Any:
        known = {
            "collections OrderedDict": OrderedDict,
            "torch FloatStorage": "float32",
            "torch._utils _rebuild_tensor_v2": _tensor,
        }
        if f"{module} {name}" not in known:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return known[f"{module} {name}"]

    def persistent_load(self, pid: Any) -> np.ndarray:
        """The storage, still to be filled: the elements come last in the file."""
        what, kind, key, _, count, view = pid
        if (what, kind, view) != ("storage", "float32", None) or not 0 <= 4 * count <= self.size:
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
