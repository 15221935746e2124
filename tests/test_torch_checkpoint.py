"""PyTorch checkpoints are read as numpy arrays, and no file can make the reader run other code or read bad memory."""

import io
import pickle
import zipfile
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import pytest

from sfjax.errors import UserError
from sfjax.vocoder import torch_checkpoint


class Name(NamedTuple):
    """A global as a pickle names it."""

    module: str
    name: str


class Call(NamedTuple):
    """A call that a pickle asks for, and attributes that the result is to get."""

    function: Name
    arguments: tuple
    state: Any = None


class Storage(NamedTuple):
    """The reference to a storage."""

    kind: str
    name: str
    count: Any


class Writer(pickle._Pickler):
    """Writes what PyTorch would, without it."""

    def save(self, obj, save_persistent_id=True):
        if isinstance(obj, Name):
            self.write(pickle.GLOBAL + f"{obj.module}\n{obj.name}\n".encode())
        elif isinstance(obj, Call):
            self.save(obj.function)
            self.save(obj.arguments)
            self.write(pickle.REDUCE)
            if obj.state is not None:
                self.save(obj.state)
                self.write(pickle.BUILD)
        else:
            super().save(obj, save_persistent_id)

    def persistent_id(self, obj):
        return ("storage", Name("torch", obj.kind), obj.name, "cpu", obj.count) if isinstance(obj, Storage) else None


def tensor(storage, offset, size, stride):
    hooks = Call(Name("collections", "OrderedDict"), ())
    return Call(Name("torch._utils", "_rebuild_tensor_v2"), (storage, offset, size, stride, False, hooks))


def archive(path, structure, storages, *, compression=zipfile.ZIP_STORED, byteorder="little"):
    """Writes a file as `torch.save` does: a structure of calls, and storages by name."""
    buffer = io.BytesIO()
    Writer(buffer, protocol=2).dump(structure)
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("model/data.pkl", buffer.getvalue())
        file.writestr("model/byteorder", byteorder)
        for name, numbers in storages.items():
            file.writestr(f"model/data/{name}", np.asarray(numbers).tobytes())
        file.writestr("model/version", "3\n")
    return path


def save(path, arrays, *, around=lambda state: state):
    """Writes named float32 arrays as PyTorch writes a state_dict."""
    state, storages = {}, {}
    for number, (name, value) in enumerate(arrays.items()):
        value = np.ascontiguousarray(value, np.float32)
        stride = tuple(step // 4 for step in value.strides)
        state[name] = tensor(Storage("FloatStorage", str(number), value.size), 0, value.shape, stride)
        storages[str(number)] = value
    return archive(path, around(state), storages)


DTYPES = {
    "FloatStorage": np.float32,
    "DoubleStorage": np.float64,
    "HalfStorage": np.float16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
    "BFloat16Storage": ml_dtypes.bfloat16,
}


@pytest.mark.parametrize("kind", DTYPES)
def test_every_type_of_number_is_read_as_itself(tmp_path, kind):
    numbers = np.array([0, 1, 1, 0, 1, 0]).astype(DTYPES[kind])
    numbers[1:3] = np.array([3.5, 7]).astype(DTYPES[kind])
    found = torch_checkpoint.read(
        archive(tmp_path / "a.pt", {"a": tensor(Storage(kind, "0", 6), 0, (6,), (1,))}, {"0": numbers})
    )
    assert found["a"].dtype == DTYPES[kind]
    np.testing.assert_array_equal(found["a"], numbers)


def test_tensors_show_the_part_of_a_storage_that_they_name(tmp_path):
    numbers = np.arange(12, dtype=np.float32)
    storage = Storage("FloatStorage", "0", 12)
    parts = {
        "whole": tensor(storage, 0, (3, 4), (4, 1)),
        "turned": tensor(storage, 0, (4, 3), (1, 4)),
        "column": tensor(storage, 2, (3,), (4,)),
        "scalar": tensor(storage, 11, (), ()),
        "empty": tensor(storage, 0, (0, 5), (5, 1)),
        "last": tensor(storage, 11, (1, 1), (10**30, 7)),
        "parameter": Call(Name("torch._utils", "_rebuild_parameter"), (tensor(storage, 4, (2,), (1,)), True, {})),
        "nothing": tensor(Storage("FloatStorage", "1", 0), 0, (0,), (1,)),
    }
    found = torch_checkpoint.read(archive(tmp_path / "a.pt", parts, {"0": numbers, "1": numbers[:0]}))
    square = numbers.reshape(3, 4)
    wanted = {
        "whole": square,
        "turned": square.T,
        "column": square[:, 2],
        "scalar": numbers[11],
        "empty": np.zeros((0, 5)),
        "last": numbers[11:, None],
        "parameter": numbers[4:6],
        "nothing": np.zeros(0),
    }
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value)
        assert found[name].shape == value.shape
    found["whole"][:] = 0
    np.testing.assert_array_equal(found["column"], square[:, 2])  # each is a copy of its own


def test_what_stands_around_tensors_stays(tmp_path):
    ordered = Call(Name("collections", "OrderedDict"), ([["weight", 1.5]],), {"_metadata": {"version": 1}})
    structure = {"generator": ordered, "steps": 7, "note": "ü", "rates": [8, (2, None)], "on": True}
    found = torch_checkpoint.read(archive(tmp_path / "a.pt", structure, {}))
    assert found == structure | {"generator": {"weight": 1.5}}


def test_attributes_that_a_file_sets_reach_nothing(tmp_path):
    one = tensor(Storage("FloatStorage", "0", 2), 0, (2,), (1,))._replace(state=(None, {"shape": (10**6,)}))
    found = torch_checkpoint.read(archive(tmp_path / "a.pt", {"a": one}, {"0": np.ones(2, np.float32)}))
    assert found["a"].shape == (2,)


@pytest.mark.parametrize(
    "module, name, arguments",
    [
        ("os", "system", ("touch {}",)),
        ("posix", "system", ("touch {}",)),
        ("builtins", "eval", ("open('{}', 'w')",)),
        ("builtins", "open", ("{}", "w")),
        ("numpy", "save", ("{}", 1)),
        ("collections", "OrderedDict.__class__", ()),
        ("torch", "load", ("{}",)),
        ("torch", "STORAGES", ()),
        ("torch.storage", "_load_from_bytes", (b"",)),
        ("torch", "ComplexFloatStorage", ()),
        ("sfjax.vocoder.torch_checkpoint", "read", ("{}",)),
    ],
)
def test_a_file_cannot_run_anything(tmp_path, module, name, arguments):
    trace = tmp_path / "trace"
    arguments = tuple(one.format(trace) if isinstance(one, str) else one for one in arguments)
    archive(tmp_path / "a.pt", {"a": Call(Name(module, name), arguments)}, {})
    with pytest.raises(UserError, match=f"runs {module}.{name}, .*state_dict"):
        torch_checkpoint.read(tmp_path / "a.pt")
    assert not trace.exists()


def test_the_attack_of_this_test_is_real(tmp_path):
    """What is refused above does run where pickles are trusted."""
    trace = tmp_path / "trace"
    buffer = io.BytesIO()
    Writer(buffer, protocol=2).dump(Call(Name("builtins", "open"), (str(trace), "w")))
    pickle.loads(buffer.getvalue()).close()
    assert trace.exists()


FLOATS = Storage("FloatStorage", "0", 6)


@pytest.mark.parametrize(
    "one, reason",
    [
        (tensor(FLOATS, 0, (7,), (1,)), r"size \[7\] exceeds storage 0 of 6 numbers"),
        (tensor(FLOATS, 0, (2, 3), (4, 1)), "exceeds storage 0"),
        (tensor(FLOATS, 6, (1,), (1,)), "exceeds storage 0"),
        (tensor(FLOATS, 6, (), ()), "exceeds storage 0"),
        (tensor(FLOATS, 0, (2,), (2**62,)), "exceeds storage 0"),
        (tensor(FLOATS, 0, (10**6, 10**6), (0, 0)), "exceeds storage 0"),
        (tensor(FLOATS, 5, (2,), (-1,)), "invalid size -1"),
        (tensor(FLOATS, -1, (2,), (1,)), "invalid size -1"),
        (tensor(FLOATS, 0, (-2,), (1,)), "invalid size -2"),
        (tensor(FLOATS, 0, (True,), (1,)), "invalid size True"),
        (tensor(FLOATS, 0, (2.0,), (1,)), "invalid size 2.0"),
        (tensor(FLOATS, 0, (2, 3), (1,)), "a tensor without numbers"),
        (tensor("FLOATS", 0, (2,), (1,)), "a tensor without numbers"),
        (tensor(Storage("FloatStorage", "0", 7), 0, (7,), (1,)), "must have 7 numbers, got 6"),
        (tensor(Storage("DoubleStorage", "0", 6), 0, (6,), (1,)), "must have 6 numbers, got 3"),
        (tensor(Storage("FloatStorage", "0", -1), 0, (6,), (1,)), "invalid size -1"),
        (tensor(Storage("FloatStorage", "../../data.pkl", 1), 0, (1,), (1,)), "no item named"),
        (tensor(Storage("FloatStorage", "1", 6), 0, (6,), (1,)), "no item named 'model/data/1'"),
        (tensor(Storage("FloatStorage", 0, 6), 0, (6,), (1,)), "invalid storage of"),
        (Call("collections", ()), "not callable"),
    ],
)
def test_a_tensor_that_lies_about_its_storage_is_refused(tmp_path, one, reason):
    archive(tmp_path / "a.pt", {"a": one}, {"0": np.zeros(6, np.float32)})
    with pytest.raises(UserError, match=f"damaged one .*{reason}") as refusal:
        torch_checkpoint.read(tmp_path / "a.pt")
    assert "\n" not in str(refusal.value)


def _cut(path):
    path.write_bytes(path.read_bytes()[:-30])


def _pickle_cut(path):
    _with(path, {"model/data.pkl": zipfile.ZipFile(path).read("model/data.pkl")[:-5]})


def _with(path, files):
    with zipfile.ZipFile(path, "w") as file:
        for name, content in files.items():
            file.writestr(name, content)


@pytest.mark.parametrize(
    "damage, reason",
    [
        (lambda path: path.write_bytes(b""), "found an empty file"),
        (lambda path: path.write_text("generator"), "not a zip file"),
        (lambda path: path.unlink(), "No such file"),
        (lambda path: (path.unlink(), path.mkdir()), "Is a directory"),
        (_cut, "not a zip file"),
        (_pickle_cut, "damaged one"),
        (lambda path: path.write_bytes(path.read_bytes().replace(bytes(24), b"\1" * 24)), "Bad CRC"),
        (lambda path: _with(path, {"a.txt": ""}), "one data.pkl, got 0"),
        (lambda path: _with(path, {"a/data.pkl": "", "b/data.pkl": ""}), "one data.pkl, got 2"),
        (lambda path: _with(path, {"model/data.pkl": b"\x80\x02R."}), "damaged one"),
        (lambda path: _with(path, {"model/data.pkl": b"\x80\x02cos\n."}), "runs os"),
        (lambda path: _with(path, {"model/data.pkl": b"\x82\x01."}), "damaged one"),
        (
            lambda path: path.write_bytes(b"\x80\x02" + torch_checkpoint.LEGACY + b"."),
            r"version 1.6; save it again: torch.save",
        ),
        (lambda path: archive(path, [1], {}), "expected a dict of tensors, found list"),
        (lambda path: archive(path, {}, {}, byteorder="big"), "little-endian"),
        (lambda path: archive(path, {"a": "b" * 9999}, {}, compression=zipfile.ZIP_DEFLATED), "larger than the file"),
    ],
)
def test_a_damaged_or_foreign_file_is_one_line(tmp_path, damage, reason):
    path = save(tmp_path / "a.pt", {"a": np.zeros(6)})
    damage(path)
    with pytest.raises(UserError, match=reason) as refusal:
        torch_checkpoint.read(path)
    assert str(refusal.value).startswith(f"{path}: ") and "\n" not in str(refusal.value)


def test_pytorch_itself_writes_such_files(tmp_path):
    torch = pytest.importorskip("torch")
    base = torch.arange(12.0).reshape(3, 4)
    layer = torch.nn.Linear(2, 3)
    saved = {"a": base, "t": base.T, "c": base[:, 1], "layer": layer.state_dict(), "b": base.bfloat16(), "n": 3}
    torch.save(saved | {"weight": layer.weight}, tmp_path / "a.pt")
    found = torch_checkpoint.read(tmp_path / "a.pt")
    for name in ("a", "t", "c"):
        np.testing.assert_array_equal(found[name], saved[name].numpy())
    np.testing.assert_array_equal(found["b"].astype(np.float32), base.numpy())
    np.testing.assert_array_equal(found["layer"]["weight"], layer.weight.detach().numpy())
    np.testing.assert_array_equal(found["weight"], layer.weight.detach().numpy())
    assert found["n"] == 3
    torch.save(saved, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(UserError, match="save it again"):
        torch_checkpoint.read(tmp_path / "old.pt")
