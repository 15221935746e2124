"""Read a PyTorch checkpoint as numpy arrays, without PyTorch and without running its code.

The file is a zip archive: the pickle `data.pkl` holds the structure, and `data/0`, `data/1`, … hold the numbers. A
pickle can name any function for its reader to run. This reader allows only the functions that build tensors. It is
based on Python's unpickler written in Python, because the one in C allocates as much memory as the file asks for.
"""

from __future__ import annotations

import io
import math
import os
import pickle
import zipfile
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from sfjax.errors import UserError

LEGACY = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19"  # the magic number of PyTorch's files before they were archives
STORAGES = {
    "BFloat16Storage": ml_dtypes.bfloat16,
    "BoolStorage": np.bool_,
    "ByteStorage": np.uint8,
    "CharStorage": np.int8,
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "IntStorage": np.int32,
    "LongStorage": np.int64,
    "ShortStorage": np.int16,
}


def read(path: str | os.PathLike) -> dict[str, Any]:
    """Read a dict that `torch.save` wrote; each tensor becomes a separate numpy array, all else stays the same.

    Raises `UserError` if the file is damaged, has the format of PyTorch before version 1.6, or names a function that
    does not build tensors.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(64)
        if not start:
            raise UserError(f"{path}: expected a PyTorch checkpoint, found an empty file; copy it again")
        if LEGACY in start:
            raise UserError(
                f"{path}: has the format of PyTorch before version 1.6; save it again: "
                f"torch.save(torch.load('{path}', map_location='cpu'), '{path}')"
            )
        with zipfile.ZipFile(path) as archive:
            checkpoint = _Reader(path, archive).load()
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); check the path") from None
    except Exception as error:  # a damaged pickle can raise any exception
        reason = type(error).__name__ if not str(error) else str(error).splitlines()[0]
        raise UserError(f"{path}: not a PyTorch checkpoint, or a damaged one ({reason}); copy it again") from None
    if not isinstance(checkpoint, dict):
        raise UserError(f"{path}: expected a dict of tensors, found {type(checkpoint).__name__}; save a state_dict")
    return checkpoint


class _Storage(NamedTuple):
    """An array of numbers; tensors are views of parts of it."""

    name: str
    numbers: np.ndarray


class _Reader(pickle._Unpickler):  # pyright: ignore[reportAttributeAccessIssue]
    dispatch: dict[int, Any] = dict(pickle._Unpickler.dispatch)  # pyright: ignore[reportAttributeAccessIssue]

    def __init__(self, path, archive: zipfile.ZipFile):
        members = archive.infolist()
        if sum(member.file_size for member in members) > os.path.getsize(path):
            raise ValueError("its parts are larger than the file")
        pickles = [member.filename for member in members if member.filename.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError(f"expected a zip archive with one data.pkl, got {len(pickles)}")
        self.path, self.archive, self.root = path, archive, pickles[0].removesuffix("data.pkl")
        if f"{self.root}byteorder" in archive.namelist() and archive.read(f"{self.root}byteorder") != b"little":
            raise UserError(f"{path}: expected little-endian numbers; save it again on a little-endian machine")
        self.storages: dict[str, bytes] = {}
        super().__init__(io.BytesIO(archive.read(pickles[0])))

    def find_class(self, module: str, name: str) -> Any:
        """Return what the pickle names, if a pickle of tensors needs it."""
        allowed = {
            ("collections", "OrderedDict"): dict,
            ("torch._utils", "_rebuild_tensor_v2"): self._tensor,
            ("torch._utils", "_rebuild_parameter"): self._parameter,
        }
        if (module, name) in allowed:
            return allowed[module, name]
        if module == "torch" and name in STORAGES:
            return np.dtype(STORAGES[name])
        raise UserError(
            f"{self.path}: runs {module}.{name}, which no dict of tensors needs; save only the state_dict, and do not "
            f"trust this file"
        )

    def persistent_load(self, pid: Any) -> _Storage:
        """Return the storage that the pickle refers to as ("storage", type, name, device, count)."""
        kind, dtype, name, _, count = pid
        if kind != "storage" or not isinstance(dtype, np.dtype) or not isinstance(name, str):
            raise ValueError(f"invalid storage of {dtype}")
        if name not in self.storages:
            self.storages[name] = self.archive.read(f"{self.root}data/{name}")
        available = len(self.storages[name]) // dtype.itemsize
        if available < _checked_size(count):
            raise ValueError(f"storage {name} must have {count} numbers, got {available}")
        return _Storage(name, np.frombuffer(self.storages[name], dtype, count))

    def load_build(self):
        """Ignore the attributes that a pickle sets on an object: a dict of tensors needs none."""
        self.stack.pop()  # pyright: ignore[reportAttributeAccessIssue]

    dispatch[pickle.BUILD[0]] = load_build

    @staticmethod
    def _tensor(storage, offset, size, stride, *_):
        """Copy the part of a storage that a tensor views."""
        if not isinstance(storage, _Storage) or len(size) != len(stride):
            raise ValueError("a tensor without numbers")
        offset = _checked_size(offset)
        size, stride = [_checked_size(n) for n in size], [_checked_size(n) for n in stride]
        numbers = storage.numbers
        if not math.prod(size):
            return np.zeros(size, numbers.dtype)
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if last >= len(numbers) or math.prod(size) > len(numbers):
            raise ValueError(f"a tensor of size {size} exceeds storage {storage.name} of {len(numbers)} numbers")
        steps = [step * numbers.itemsize if n > 1 else 0 for n, step in zip(size, stride, strict=True)]
        return np.lib.stride_tricks.as_strided(numbers[offset:], size, steps).copy()

    @staticmethod
    def _parameter(tensor, *_):
        return tensor


def _checked_size(number: Any) -> int:
    if type(number) is not int or number < 0:
        raise ValueError(f"invalid size {number!r}")
    return number
