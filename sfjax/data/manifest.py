"""Read and write manifests: Parquet files with one row per utterance, which locates and describes its audio.

| column | type | content |
|---|---|---|
| path | string | sound file, or `FILE#N` (see `sfjax.audio_io`), absolute or relative to the manifest's folder |
| start, frames | int64 | position and length of the utterance, in samples of the file |
| rate | int32 | sample rate of the file in Hz |
| speaker, text, split, kind | string or null | description; a row without a split belongs to every split |
| noisy | string or null, optional | noisy recording of the same utterance, same start and frames |
| sources, gains | lists of strings and of numbers, optional | speakers' files whose scaled sum is a mixture |
| noise, noise_gain | string or null and number, optional | noise file that is added to this sum |
| enrolment, enrolment_start, enrolment_frames | string and int64, optional | recording of the first source's speaker |
| name | string, optional | name of the recording, where the path does not tell it |
| speakers | list of strings, optional | speakers of a mixture |
| estimate | string, optional | Mels that a model predicted for the recording, written by `sfjax cache-mels` |
| phones, lengths | lists of strings and of int32, optional | phones with silences, and the frames of each phone |
| words | list of strings, optional | aligned words of these phones |
| protocol | string, optional | test protocol for this row: cross, continued or edited |
| prompt, prompt_start, prompt_frames | string and int64, optional | recording with the voice to use, and its crop |
| prompt_phones, prompt_lengths, prompt_words | as phones, lengths, words, optional | content of this crop |
| anew | list of two int32 or null, optional | first and end index of the words to generate again |

All other columns are kept unchanged.
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

from sfjax import overwrite
from sfjax.errors import UserError

pc: Any = compute  # pyarrow adds its functions at import, where type checkers do not see them
NAMES = pa.dictionary(pa.int32(), pa.string())  # few distinct values over many rows
REQUIRED = {"path": pa.string(), "start": pa.int64(), "frames": pa.int64(), "rate": pa.int32()}
NULLABLE = {"speaker": NAMES, "text": pa.string(), "split": NAMES, "kind": NAMES}
OPTIONAL = {
    "noisy": pa.string(),
    "sources": pa.list_(pa.string()),
    "gains": pa.list_(pa.float64()),
    "noise": pa.string(),
    "noise_gain": pa.float64(),
    "enrolment": pa.string(),
    "enrolment_start": pa.int64(),
    "enrolment_frames": pa.int64(),
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
FILES = {"path", "noisy", "noise", "enrolment", "estimate", "prompt"}  # columns with one path per row


@dataclasses.dataclass(frozen=True)
class Manifest:
    """Rows of a manifest as Arrow columns, which pickle as plain buffers; paths are relative to `folder`."""

    folder: str
    table: pa.Table

    def __len__(self) -> int:
        return self.table.num_rows

    def row(self, i: int) -> dict[str, Any]:
        """Return row `i` with all columns and absolute paths. Raises `IndexError` outside the manifest."""
        values = {name: self.table.column(name)[i].as_py() for name in self.table.column_names}
        for name in FILES & values.keys():
            if values[name] is not None:
                values[name] = os.path.join(self.folder, values[name])
        if values.get("sources"):
            values["sources"] = [os.path.join(self.folder, path) for path in values["sources"]]
        return values

    @property
    def columns(self) -> list[str]:
        """Names of all columns; optional columns only if the file has them."""
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
        """Sorted names of the speakers; rows without a speaker add nothing."""
        return sorted(pc.drop_null(pc.unique(self.table.column("speaker").cast(pa.string()))).to_pylist())

    @functools.cached_property
    def speaker_codes(self) -> Int32[np.ndarray, " rows"]:
        """Speaker of each row as an index into `speakers`, −1 for unknown speakers."""
        speakers = pa.array(self.speakers, pa.string())
        codes = pc.index_in(self.table.column("speaker").cast(pa.string()), value_set=speakers)
        return codes.fill_null(-1).to_numpy()

    @functools.cached_property
    def source_counts(self) -> list[int]:
        """Distinct numbers of sources of the mixtures, ascending; needs the column `sources`."""
        return sorted(pc.drop_null(pc.unique(pc.list_value_length(self.table.column("sources")))).to_pylist())


def recording_name(row: dict[str, Any]) -> str:
    """Return the name of a row's recording: its `name`, or else its path."""
    return row.get("name") or row["path"]


def build(path: str | os.PathLike, rows: list[dict[str, Any]]) -> Manifest:
    """Build the manifest that will be written to `path` from its rows.

    Raises `UserError` if there are no rows, or if a row lacks a required column or holds a value of a wrong type.
    """
    if not rows:
        raise UserError(f"{path}: a manifest needs at least one row, got none; look at the rejects for the reason")
    names = dict.fromkeys(name for row in rows for name in row)
    others = [name for name in names if name not in REQUIRED | NULLABLE]
    columns = {}
    for name in [*REQUIRED, *NULLABLE, *others]:
        # with an integer type, Arrow would round 0.5 down here; without one it infers the type and the cast below fails
        kind = (OPTIONAL | dict.fromkeys(["path", *NULLABLE], pa.string())).get(name)
        try:
            columns[name] = pa.array([row.get(name) for row in rows], kind)
        except (pa.ArrowException, OverflowError) as error:
            reason = _first_line(error)
            raise UserError(f"{path}: {name!r} must be {kind or 'of one type'} ({reason}); correct the rows") from None
    return Manifest(os.path.abspath(os.path.dirname(path)), _typed(pa.table(columns), path))


def join(path: str | os.PathLike, parts: list[Manifest]) -> Manifest:
    """Join manifests, which must be in the folder of `path`, into one."""
    folder = os.path.abspath(os.path.dirname(path))
    for part in parts:
        if part.folder != folder:
            raise UserError(
                f"{path}: all parts must be in its folder, got one in {part.folder}; prepare it again there"
            )
    table = pa.concat_tables([part.table for part in parts], promote_options="permissive").unify_dictionaries()
    return Manifest(folder, _typed(table, path))


def write(path: str | os.PathLike, rows: list[dict[str, Any]] | Manifest) -> None:
    """Write a manifest, or rows by way of `build`; the file appears complete or not at all."""
    table = (rows if isinstance(rows, Manifest) else build(path, rows)).table
    with replacing(path) as temporary:
        pq.write_table(table.replace_schema_metadata(overwrite.PARQUET), temporary, compression="zstd")


def read(path: str | os.PathLike, *, split: str | None, columns: Collection[str] | None = None) -> Manifest:
    """Read the rows of a manifest that belong to `split` (None: all rows), in the order of the file.

    Required columns are always read, other columns only if `columns` names them (None: all columns). Raises `UserError`
    if the file is missing or is no manifest, or if the split has no rows.
    """
    if not Path(path).is_file():
        raise UserError(f"{path}: expected a manifest, found no such file; make one with `sfjax prepare`")
    selected = {*REQUIRED, *(columns or ())}
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if missing := [name for name in REQUIRED if name not in names]:
                raise UserError(
                    f"{path}: a manifest needs the columns {', '.join(missing)}, found only {', '.join(names)}; "
                    "run `sfjax prepare`"
                )
            table = file.read(None if columns is None else [name for name in names if name in {*selected, "split"}])
    except (pa.ArrowException, OSError) as error:
        reason = _first_line(error)
        raise UserError(f"{path}: expected a Parquet file ({reason}); make one with `sfjax prepare`") from None
    table = _typed(table, path)
    if split is not None:
        table = table.filter(pa.array(rows_of_split(table, split, path)))
    if columns is not None:
        table = table.select([name for name in table.column_names if name in selected])
    return Manifest(os.path.abspath(os.path.dirname(path)), table)


def rows_of_split(table: pa.Table, split: str, path: str | os.PathLike) -> Bool[np.ndarray, " rows"]:
    """Return which rows of a table of `path` belong to `split`. Raises `UserError` if none do."""
    splits = table.column("split").cast(pa.string())
    belongs = pc.or_kleene(pc.equal(splits, split), pc.is_null(splits)).to_numpy()
    if not belongs.any():
        counts = sorted((entry["values"], entry["counts"]) for entry in pc.value_counts(splits).to_pylist())
        choices = ", ".join(f"{name!r} ({count} rows)" for name, count in counts)
        raise UserError(f"{path}: no rows for split {split!r}; choose from {choices}")
    return belongs


def _typed(table: pa.Table, path: str | os.PathLike) -> pa.Table:
    """Cast a table to the manifest's types and add the nullable columns that it lacks."""
    if not table.num_rows:
        raise UserError(f"{path}: a manifest needs at least one row, found none; run `sfjax prepare` on some audio")
    for name, kind in (REQUIRED | NULLABLE | OPTIONAL).items():
        if name in table.column_names:
            try:
                column = _cast(table.column(name), kind)
            except pa.ArrowException as error:
                raise UserError(f"{path}: {name!r} must be {kind} ({_first_line(error)}); correct the column") from None
            table = table.set_column(table.column_names.index(name), name, column)
        elif name in NULLABLE:
            table = table.append_column(name, pa.nulls(table.num_rows, pa.string()).dictionary_encode().cast(kind))
    for name, least in {"path": None, "start": 0, "frames": 1, "rate": 1}.items():
        column = table.column(name)
        too_low = pc.equal(column, "") if least is None else pc.less(column, least)
        bad = pc.sum(pc.or_kleene(pc.is_null(column), too_low)).as_py()
        if bad:
            rule = "name a file" if least is None else f"be at least {least}"
            raise UserError(f"{path}: {name!r} must {rule} in every row, {bad} rows break this; correct or drop them")
    return table


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if column.type == kind:
        return column
    return column.cast(pa.string()).dictionary_encode() if kind == NAMES else column.cast(kind)


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0].rstrip(". ") if str(error) else type(error).__name__


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path to write to, which replaces `path` if the block succeeds and is removed if it fails.

    Raises `UserError` if the file cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        reason = error.strerror or _first_line(error)
        raise UserError(f"{path}: could not be written ({reason}); free space or choose another path") from None
    finally:
        temporary.unlink(missing_ok=True)
