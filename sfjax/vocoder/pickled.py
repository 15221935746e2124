"""A checkpoint of PyTorch as numpy arrays, without PyTorch and without trusting the file.

The file is a zip archive: `data.pkl`, a pickle, holds the structure, and `data/0`, `data/1`, … hold the numbers. A
pickle can name any function for its reader to run; this reader knows those that tensors are made of and refuses the
others. It is Python's own unpickler in Python: the one in C allocates whatever the file tells it to.
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

LEGACY = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19"  # the number that PyTorch began its files with before they were archives
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
    """What `torch.save` wrote: a dict whose tensors are numpy arrays of their own; dicts, lists and numbers in it stay.

    Raises `UserError` if the file is damaged, of a format that PyTorch left with version 1.6, or wants to run anything
    but what builds tensors.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(64)
        if not start:
            raise UserError(f"{path}: expected a checkpoint of PyTorch, found an empty file; copy it again")
        if LEGACY in start:
            raise UserError(
                f"{path}: written in the format that PyTorch left with version 1.6; save it again: "
                f"torch.save(torch.load('{path}', map_location='cpu'), '{path}')"
            )
        with zipfile.ZipFile(path) as archive:
            found = _Reader(path, archive).load()
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); check the path") from None
    except Exception as error:  # whatever a pickle of nonsense ends in
        what = type(error).__name__ if not str(error) else str(error).splitlines()[0]
        raise UserError(f"{path}: no checkpoint of PyTorch, or a damaged one ({what}); copy it again") from None
    if not isinstance(found, dict):
        raise UserError(f"{path}: expected a dict of tensors, found {type(found).__name__}; save a state_dict")
    return found


class _Storage(NamedTuple):
    """A row of numbers, of which tensors show parts."""

    name: str
    numbers: np.ndarray


class _Reader(pickle._Unpickler):  # pyright: ignore[reportAttributeAccessIssue]
    dispatch: dict[int, Any] = dict(pickle._Unpickler.dispatch)  # pyright: ignore[reportAttributeAccessIssue]

    def __init__(self, path, archive: zipfile.ZipFile):
        inside = archive.infolist()
        if sum(part.file_size for part in inside) > os.path.getsize(path):
            raise ValueError("its parts are larger than the file")
        pickles = [part.filename for part in inside if part.filename.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError(f"a zip archive with {len(pickles)} files data.pkl in place of one")
        self.path, self.archive, self.root = path, archive, pickles[0].removesuffix("data.pkl")
        if f"{self.root}byteorder" in archive.namelist() and archive.read(f"{self.root}byteorder") != b"little":
            raise UserError(f"{path}: its bytes are in the other order; save it again on a little-endian machine")
        self.storages: dict[str, bytes] = {}
        super().__init__(io.BytesIO(archive.read(pickles[0])))

    def find_class(self, module: str, name: str) -> Any:
        """The few things that a pickle of tensors has to name."""
        known = {
            ("collections", "OrderedDict"): dict,
            ("torch._utils", "_rebuild_tensor_v2"): self._tensor,
            ("torch._utils", "_rebuild_parameter"): self._parameter,
        }
        if (module, name) in known:
            return known[module, name]
        if module == "torch" and name in STORAGES:
            return np.dtype(STORAGES[name])
        raise UserError(
            f"{self.path}: wants to run {module}.{name}, which no dict of tensors needs; save the state_dict alone, "
            f"and trust no file that asks for more"
        )

    def persistent_load(self, pid: Any) -> _Storage:
        """The storage that the pickle refers to: ("storage", type, name, device, count)."""
        kind, dtype, name, _, count = pid
        if kind != "storage" or not isinstance(dtype, np.dtype) or not isinstance(name, str):
            raise ValueError(f"a storage of {dtype}")
        if name not in self.storages:
            self.storages[name] = self.archive.read(f"{self.root}data/{name}")
        there = len(self.storages[name]) // dtype.itemsize
        if there < _whole(count):
            raise ValueError(f"storage {name} is to hold {count} numbers and holds {there}")
        return _Storage(name, np.frombuffer(self.storages[name], dtype, count))

    def load_build(self):
        """Drops the attributes that a pickle would set on an object: a dict of tensors has none that matter."""
        self.stack.pop()  # pyright: ignore[reportAttributeAccessIssue]

    dispatch[pickle.BUILD[0]] = load_build

    @staticmethod
    def _tensor(storage, offset, size, stride, *_):
        """A copy of the part of a storage that a tensor shows."""
        if not isinstance(storage, _Storage) or len(size) != len(stride):
            raise ValueError("a tensor without numbers")
        offset, size, stride = _whole(offset), [_whole(n) for n in size], [_whole(n) for n in stride]
        numbers = storage.numbers
        if not math.prod(size):
            return np.zeros(size, numbers.dtype)
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if last >= len(numbers) or math.prod(size) > len(numbers):
            raise ValueError(f"a tensor of size {size} reaches out of storage {storage.name} of {len(numbers)} numbers")
        steps = [step * numbers.itemsize if n > 1 else 0 for n, step in zip(size, stride, strict=True)]
        return np.lib.stride_tricks.as_strided(numbers[offset:], size, steps).copy()

    @staticmethod
    def _parameter(tensor, *_):
        return tensor


def _whole(number: Any) -> int:
    if type(number) is not int or number < 0:
        raise ValueError(f"a size of {number!r}")
    return number
