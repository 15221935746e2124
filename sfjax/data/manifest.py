"""The manifest: one Parquet row for each utterance, saying where its audio lies and what is known of it.

| column | type | what it holds |
|---|---|---|
| path | string | sound file, or `FILE#N` as of `sfjax.container`, absolute or relative to the manifest's folder |
| start, frames | int64 | the crop that is the utterance, in the file's own samples |
| rate | int32 | sample rate of the file in Hz |
| speaker, text, split, kind | string or null | what is known; a row without a split belongs to every split |
| noisy | string or null, optional | noisy recording of the same utterance, same start and frames |
| sources, gains | lists of strings and of numbers, optional | the speakers' files, of which a mixture is the sum |
| noise, noise_gain | string or null and number, optional | what is added to that sum |
| name | string, optional | what the recording is called, where its path does not tell |
| speakers | list of strings, optional | who speaks in a mixture |
| estimate | string, optional | Mels that a model made of the recording, as `sfjax predict` writes them |
| phones, lengths | lists of strings and of int32, optional | what is said, with silences, and frames of each phone |
| words | list of strings, optional | the words of these phones, as they were aligned |
| protocol | string, optional | how this row is to be said in a test: cross, continued or edited |
| prompt, prompt_start, prompt_frames | string and int64, optional | the recording whose voice is to say it, its crop |
| prompt_phones, prompt_lengths, prompt_words | as those of the row, optional | what is said in that crop |
| anew | list of two int32 or null, optional | the first of the words to be said anew, and the end of them |

Any further column is kept as it is.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as compute
import pyarrow.parquet as pq
from jaxtyping import Bool, Float64, Int32, Int64

from sfjax.errors import UserError

pc: Any = compute  # made at import, where a type checker sees nothing
NAMES = pa.dictionary(pa.int32(), pa.string())  # few distinct values over many rows
REQUIRED = {"path": pa.string(), "start": pa.int64(), "frames": pa.int64(), "rate": pa.int32()}
NULLABLE = {"speaker": NAMES, "text": pa.string(), "split": NAMES, "kind": NAMES}
OPTIONAL = {
    "noisy": pa.string(),
    "sources": pa.list_(pa.string()),
    "gains": pa.list_(pa.float64()),
    "noise": pa.string(),
    "noise_gain": pa.float64(),
    "name": pa.string(),
    "speakers": pa.list_(pa.string()),
    "estimate": pa.string(),
    "phones": pa.list_(pa.string()),
    "lengths": pa.list_(pa.int32()),
    "words": pa.list_(pa.string()),
    "protocol": pa.string(),
    "prompt": pa.string(),
    "prompt_start": pa.int64(),
    "prompt_frames": pa.int64(),
    "prompt_phones": pa.list_(pa.string()),
    "prompt_lengths": pa.list_(pa.int32()),
    "prompt_words": pa.list_(pa.string()),
    "anew": pa.list_(pa.int32()),
}
FILES = {"path", "noisy", "noise", "estimate", "prompt"}  # columns of one path


@dataclasses.dataclass(frozen=True)
class Manifest:
    """Rows of a manifest as Arrow columns, which pickle as plain buffers; `folder` is where its paths start from."""

    folder: str
    table: pa.Table

    def __len__(self) -> int:
        return self.table.num_rows

    def row(self, i: int) -> dict[str, Any]:
        """Row `i` with every column, its paths made absolute; `IndexError` outside the manifest."""
        values = {name: self.table.column(name)[i].as_py() for name in self.table.column_names}
        for name in FILES & values.keys():
            if values[name] is not None:
                values[name] = os.path.join(self.folder, values[name])
        if values.get("sources"):
            values["sources"] = [os.path.join(self.folder, path) for path in values["sources"]]
        return values

    @property
    def columns(self) -> list[str]:
        """Names of all columns; optional ones only if the file has them."""
        return self.table.column_names

    @property
    def frames(self) -> Int64[np.ndarray, " rows"]:
        """Length of each row in samples of its own file."""
        return self.table.column("frames").to_numpy()

    @property
    def rates(self) -> Int32[np.ndarray, " rows"]:
        """Sample rate of each row's file in Hz."""
        return self.table.column("rate").to_numpy()

    @functools.cached_property
    def seconds(self) -> Float64[np.ndarray, " rows"]:
        """Length of each row in seconds."""
        return self.frames / self.rates

    @functools.cached_property
    def speakers(self) -> list[str]:
        """The names of the speakers, sorted; rows without one add nothing."""
        return sorted(pc.drop_null(pc.unique(self.table.column("speaker").cast(pa.string()))).to_pylist())

    @functools.cached_property
    def speaker_codes(self) -> Int32[np.ndarray, " rows"]:
        """The speaker of each row as an index into `speakers`, −1 where it is not known."""
        speakers = pa.array(self.speakers, pa.string())
        codes = pc.index_in(self.table.column("speaker").cast(pa.string()), value_set=speakers)
        return codes.fill_null(-1).to_numpy()

    @functools.cached_property
    def source_counts(self) -> list[int]:
        """The numbers of sources that mixtures have, ascending; needs the column `sources`."""
        return sorted(pc.drop_null(pc.unique(pc.list_value_length(self.table.column("sources")))).to_pylist())


def called(row: dict[str, Any]) -> str:
    """What the recording of a row is called: its `name`, or else its path."""
    return row.get("name") or row["path"]


def build(path: str | os.PathLike, rows: list[dict[str, Any]]) -> Manifest:
    """Rows as the manifest that `path` is to be.

    `UserError` if there is no row, or if a row lacks a required column or holds a value of another type.
    """
    if not rows:
        raise UserError(f"{path}: a manifest wants at least one row, got none; look at the rejects for the reason")
    further = [name for name in dict.fromkeys(name for row in rows for name in row) if name not in REQUIRED | NULLABLE]
    columns = {}
    for name in [*REQUIRED, *NULLABLE, *further]:
        # Arrow cuts 0.5 down to an integer when told the type here; left to infer it, the cast that follows refuses
        kind = (OPTIONAL | dict.fromkeys(["path", *NULLABLE], pa.string())).get(name)
        try:
            columns[name] = pa.array([row.get(name) for row in rows], kind)
        except (pa.ArrowException, OverflowError) as error:
            raise UserError(f"{path}: {name!r} wants {kind or 'one type'} ({_line(error)}); mend the rows") from None
    return Manifest(os.path.abspath(os.path.dirname(path)), _checked(pa.table(columns), path))


def joined(path: str | os.PathLike, parts: list[Manifest]) -> Manifest:
    """The rows of several manifests, which lie in the folder of `path`, in one."""
    folder = os.path.abspath(os.path.dirname(path))
    for part in parts:
        if part.folder != folder:
            raise UserError(f"{path}: its parts have to lie beside it, one lies in {part.folder}; paths start there")
    table = pa.concat_tables([part.table for part in parts], promote_options="permissive").unify_dictionaries()
    return Manifest(folder, _checked(table, path))


def write(path: str | os.PathLike, rows: list[dict[str, Any]] | Manifest) -> None:
    """Writes a manifest, or what `build` makes of rows; the file appears whole or not at all."""
    table = (rows if isinstance(rows, Manifest) else build(path, rows)).table
    with replacing(path) as part:
        pq.write_table(table, part, compression="zstd")


def read(path: str | os.PathLike, *, split: str | None, columns: Collection[str] | None = None) -> Manifest:
    """The rows of a manifest that belong to `split` (all of them when None), in the order of the file.

    Of the columns that a manifest may lack only `columns` are read, all when None. Raises `UserError` if the file is
    missing or no manifest, or if the split has no rows.
    """
    if not Path(path).is_file():
        raise UserError(f"{path}: expected a manifest, found no such file; make one with `sfjax prepare`")
    kept = {*REQUIRED, *(columns or ())}
    try:
        with pq.ParquetFile(path) as file:
            there = file.schema_arrow.names
            if missing := [name for name in REQUIRED if name not in there]:
                wanted, found = ", ".join(missing), ", ".join(there)
                raise UserError(f"{path}: a manifest wants {wanted}, found only {found}; run `sfjax prepare`")
            table = file.read(None if columns is None else [name for name in there if name in {*kept, "split"}])
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: expected a Parquet file ({_line(error)}); make one with `sfjax prepare`") from None
    table = _checked(table, path)
    if split is not None:
        table = table.filter(pa.array(belonging(table, split, path)))
    if columns is not None:
        table = table.select([name for name in table.column_names if name in kept])
    return Manifest(os.path.abspath(os.path.dirname(path)), table)


def belonging(table: pa.Table, split: str, path: str | os.PathLike) -> Bool[np.ndarray, " rows"]:
    """Which rows of a table of `path` belong to `split`; `UserError` if none do."""
    splits = table.column("split").cast(pa.string())
    belongs = pc.or_kleene(pc.equal(splits, split), pc.is_null(splits)).to_numpy()
    if not belongs.any():
        found = sorted((entry["values"], entry["counts"]) for entry in pc.value_counts(splits).to_pylist())
        have = ", ".join(f"{name!r} ({count} rows)" for name, count in found)
        raise UserError(f"{path}: no rows for split {split!r}, it has {have}; name one of these")
    return belongs


def _checked(table: pa.Table, path: str | os.PathLike) -> pa.Table:
    """The table with the manifest's types; nullable columns that are missing are added."""
    if not table.num_rows:
        raise UserError(f"{path}: a manifest wants at least one row, found none; run `sfjax prepare` on some audio")
    for name, kind in (REQUIRED | NULLABLE | OPTIONAL).items():
        if name in table.column_names:
            try:
                column = _cast(table.column(name), kind)
            except pa.ArrowException as error:
                raise UserError(f"{path}: {name!r} wants {kind} ({_line(error)}); mend the column") from None
            table = table.set_column(table.column_names.index(name), name, column)
        elif name in NULLABLE:
            table = table.append_column(name, pa.nulls(table.num_rows, pa.string()).dictionary_encode().cast(kind))
    for name, least in {"path": None, "start": 0, "frames": 1, "rate": 1}.items():
        column = table.column(name)
        low = pc.equal(column, "") if least is None else pc.less(column, least)
        bad = pc.sum(pc.or_kleene(pc.is_null(column), low)).as_py()
        if bad:
            wanted = "a name" if least is None else f"at least {least}"
            raise UserError(f"{path}: {name!r} wants {wanted} in every row, {bad} rows have less; mend or drop them")
    return table


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if column.type == kind:
        return column
    return column.cast(pa.string()).dictionary_encode() if kind == NAMES else column.cast(kind)


def _line(error: BaseException) -> str:
    return str(error).splitlines()[0].rstrip(". ") if str(error) else type(error).__name__


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """A name to write to, which becomes `path` when the block ends well and is removed when it does not.

    `UserError` if the disk refuses.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        with open(part, "rb") as written:
            os.fsync(written.fileno())
        os.replace(part, path)
    except OSError as error:
        why = error.strerror or _line(error)
        raise UserError(f"{path}: could not be written ({why}); free space or choose another place") from None
    finally:
        part.unlink(missing_ok=True)
