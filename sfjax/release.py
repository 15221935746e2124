"""What a run learned, as others use it: its weights with adapters merged, and a folder to give away.

An exported folder holds `config.json`, what of the run's resolved config makes and explains the network, with a section
`exported`; `model.safetensors`, the parameters by path; `README.md`, the model card; and `SHA256SUMS`, by which the
others are checked before anything of them is used. Of a run with adapters only what it trained is there, and the
digests of what it stood beside, so that it joins that model and no other.

Wherever a model is named, `sfjax://NAME` is such a folder in this package, and `hf://OWNER/NAME` and
`hf://OWNER/NAME@REVISION` are such folders on a hub.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import safetensors.numpy
from flax.traverse_util import flatten_dict, unflatten_dict

from sfjax import audio, card, checkpoint, lora, precision, process, tasks
from sfjax.errors import UserError
from sfjax.vocoder import gan

FORMAT = 1  # of exported folders; what this program would misread gets another number
TENSORS, CARD, SUMS = "model.safetensors", "README.md", "SHA256SUMS"
FILES = (checkpoint.CONFIG, TENSORS, CARD)  # those that SHA256SUMS has to list
DTYPES = {"float32": np.float32, "bfloat16": jnp.bfloat16, "float16": np.float16}
NAMES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}  # of types, in the header of safetensors
# What of a config leaves the machine: sections, less the fields in which paths stand
KEPT = {
    "precision": (), "process": (), "mel": (), "model": (), "task": (), "lora": (), "phase": (), "vocoder": (),
    "spectral": (), "sample": (), "infer": (), "seed": (), "optim": (), "ema": (), "accumulate": (),
    "data": ("train", "valid"), "mix": ("noise",), "degrade": ("rooms",), "mixture": ("noise",),
}  # fmt: skip
EXPORTED = {"format": int, "step": int, "averaged": bool, "frozen": dict, "figures": dict}
HUB = re.compile(r"hf:/{1,2}([\w.-]+/[\w.-]+)(?:@(.+))?")  # one slash where it has been a Path
BOX = re.compile(r"sfjax:/{1,2}(\w[\w-]*)")
OWN = Path(__file__).parent / "weights"  # the models of this package, `sfjax.weights`
SUM = re.compile(r"([0-9a-f]{64}) [ *](.*)")
AGAIN = "fetch or export it again"


class Trained(NamedTuple):
    """What a run trained: `params` as numpy arrays, its config, the digests of what was frozen, and its step."""

    params: Any
    config: dict[str, Any]
    frozen: Mapping[str, int]
    step: int
    name: str


def located(name: str | os.PathLike) -> Path:
    """The folder that a model's name means: itself, one of this package, or the copy that a hub's client keeps."""
    if not _named(name):
        return Path(name)
    if own := BOX.fullmatch(os.fspath(name)):
        if (OWN / own[1]).is_dir():
            return OWN / own[1]
        there = ", ".join(f"sfjax://{path.name}" for path in sorted(OWN.iterdir()) if (path / CARD).is_file())
        raise UserError(f"sfjax://{own[1]}: no such model in this package; choose from {there}")
    found = HUB.fullmatch(os.fspath(name))
    if found is None:
        raise UserError(f"{name}: expected sfjax://NAME, hf://OWNER/NAME or hf://OWNER/NAME@REVISION; mend the name")
    return _fetched(f"hf://{found[1]}", found[1], found[2])


def _named(name):
    """Whether a model is called by name, which means the same on every machine, and not by its folder."""
    return os.fspath(name).startswith(("hf:/", "sfjax:/"))


def _fetched(name, repository, revision):
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError:
        raise UserError(f"{name} needs huggingface_hub: pip install 'sfjax[hub]'") from None
    try:
        asked = [*FILES, SUMS]
        folder = Path(huggingface_hub.snapshot_download(repository, revision=revision, allow_patterns=asked))
        lacking = [file for file in asked if not (folder / file).is_file()]
        if not lacking:
            return folder
        why = f"is no exported model, it lacks {', '.join(lacking)}; check the name"
    except errors.RepositoryNotFoundError:
        why = "no such repository, or one that wants a login; check the name, or log in with `hf auth login`"
    except errors.RevisionNotFoundError:
        why = f"has no revision {revision}; check its name, or leave it out"
    except errors.LocalEntryNotFoundError:
        why = "the hub cannot be reached and no whole copy was kept; connect, or give a folder"
    except Exception as error:  # of the client, of what it speaks HTTP with, of the disk
        why = f"could not be fetched ({type(error).__name__}: {error}); try again, or give a folder"
    raise UserError(f"{name}: {' '.join(why.split())}")


def config(name: str | os.PathLike) -> dict[str, Any]:
    """The config of a run or of an exported folder, whose files are checked first; `UserError` if it is neither."""
    folder = located(name)
    _check(name, folder)
    return _understood(name, folder)


def _check(name, folder):
    """`UserError` unless the files of an exported folder are those that SHA256SUMS lists. A run has none."""
    if not _released(name, folder):
        return
    sums, found = folder / SUMS, {}
    _check_file(name, sums)
    for line in sums.read_text(encoding="utf-8", errors="replace").splitlines():
        match = SUM.fullmatch(line)
        if match is None or not re.fullmatch(r"\w[\w.-]*", match[2]):
            raise UserError(f"{sums}: expected digests of files in the same folder, found {line[:100]!r}; {AGAIN}")
        found[match[2]] = match[1]
    if missing := [file for file in FILES if file not in found]:
        raise UserError(f"{sums}: does not list {', '.join(missing)}; {AGAIN}")
    for file, digest in found.items():
        _check_file(name, folder / file)
        if _digest(folder / file) != digest:
            raise UserError(f"{folder / file}: is not the file that {SUMS} was made of; {AGAIN}")


def _check_file(name, path):
    if not path.is_file():  # links to nothing, devices and folders are none
        raise UserError(f"{path}: expected a file of an exported model, found none; {AGAIN}")
    # the hub's client keeps a folder of links to its files
    if not _named(name) and not path.resolve().is_relative_to(path.parent.resolve()):
        raise UserError(f"{path}: is a link out of its folder; {AGAIN}")


def _released(name, folder):
    return _named(name) or os.path.lexists(folder / SUMS)


def _digest(path):
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _understood(name, folder):
    """The config of a run, or that of an exported folder if this program knows all that is in it."""
    found, path = checkpoint.read_config(folder), folder / checkpoint.CONFIG
    if ("exported" in found) != _released(name, folder):
        wanted = "its section exported" if _released(name, folder) else f"{SUMS} beside it"
        raise UserError(f"{path}: expected {wanted}, found none; {AGAIN}")
    if "exported" not in found:
        return found
    exported = found["exported"] if isinstance(found["exported"], dict) else {}
    number = exported.get("format")
    if type(number) is int and number > FORMAT:
        raise UserError(f"{path}: is of format {number}, this sfjax knows those up to {FORMAT}; install a newer one")
    wrong = [field for field, kind in EXPORTED.items() if type(exported.get(field)) is not kind]
    sections = ("data", "infer", "lora", "mel", "model", "optim", "phase", "sample", "task", "vocoder")
    wrong += [section for section in sections if type(found.get(section)) is not dict]
    if wrong or number != FORMAT:
        raise UserError(f"{path}: expected other values of {', '.join(wrong or ['format'])}; {AGAIN}")
    try:
        tasks.make(**found["task"])
        audio.MelSpec(**found["mel"])
        lora.make(**found["lora"])
        precision.policy(found["precision"])
        process.process(found["process"])
        audio.known(found["infer"]["wave"])
    except (UserError, TypeError, KeyError) as error:
        raise UserError(f"{path}: {error}; export it with the sfjax that reads it") from None
    return found


def trained(name: str | os.PathLike, *, ema: bool, step: int | None = None) -> Trained:
    """What a run folder (its averaged parameters with `ema`, its newest checkpoint or that of `step`) or an exported
    folder holds; `UserError` if it is neither."""
    folder = located(name)
    _check(name, folder)
    found = _understood(name, folder)
    if "exported" in found:
        held = found["exported"]
        if step not in (None, held["step"]):
            raise UserError(f"{name} holds step {held['step']} alone, not {step}; leave the step out")
        if held["averaged"] and not ema:
            raise UserError(f"{name} holds averaged parameters alone; leave --no-ema out")
        return Trained(_read(folder / TENSORS), found, held["frozen"], held["step"], str(name))
    params, sums, step = checkpoint.params(folder, ema=ema, step=step)
    frozen = {name: value for name, value in sums.items() if name.startswith("frozen/")}
    return Trained(params, found, frozen, step, str(name))


def weights(folder: str | os.PathLike, *, ema: bool, step: int | None = None) -> tuple[Any, Trained]:
    """The network's parameters, adapters merged into the model that they were trained on, and what was trained."""
    found = trained(folder, ema=ema, step=step)
    if lora.make(**found.config["lora"]) is None:
        return found.params, found
    base = found.config["init_from"]
    # an exported folder knows its base by name, which is no place on this machine
    if not _named(base) and ("exported" in found.config or not os.path.isdir(base)):
        raise UserError(f"{folder} adapts {base}, which is not here; give that model as --model and this as --adapter")
    return adapted(weights(base, ema=True)[0], found), found


def adapted(base: Any, found: Trained) -> Any:
    """The parameters of a base with adapters that were trained beside it, merged; `UserError` for another base."""
    adapter = lora.make(**found.config["lora"])
    if adapter is None:
        raise UserError(f"{found.name} holds no adapters but a whole network; give it as --model")
    frozen = lora.split(base, adapter)[1]
    checkpoint.check_frozen(frozen, found.frozen, found.name)
    try:
        return jax.device_get(lora.merge(lora.join(found.params, frozen), adapter))
    except (KeyError, TypeError) as error:
        raise UserError(f"{found.name}: its adapters do not fit ({error}); export them again") from None


def _read(path):
    _header(path)
    try:
        flat = safetensors.numpy.load_file(path)
        return unflatten_dict({name: leaf.astype(np.float32) for name, leaf in flat.items()}, sep="/")
    except (OSError, safetensors.SafetensorError, IndexError) as error:  # the last: a/b beside a
        raise UserError(f"{path}: cannot be read ({error}); {AGAIN}") from None


def _header(path) -> list[jax.ShapeDtypeStruct]:
    """The shapes and types of what a file of tensors says that it holds."""
    try:
        with safetensors.safe_open(path, "numpy") as file:
            found = [(one.get_dtype(), one.get_shape()) for one in map(file.get_slice, file.keys())]
    except (OSError, safetensors.SafetensorError) as error:
        raise UserError(f"{path}: cannot be read ({error}); {AGAIN}") from None
    if wrong := {name for name, _ in found} - NAMES.keys():
        raise UserError(f"{path}: holds numbers of type {min(wrong)}, not {', '.join(NAMES)}; {AGAIN}")
    return [jax.ShapeDtypeStruct(shape, DTYPES[NAMES[name]]) for name, shape in found]


def export(
    name: str | os.PathLike,
    dest: str | os.PathLike,
    *,
    ema: bool,
    step: int | None,
    dtype: str,
    notes: str | os.PathLike | None = None,
    wave: str | None = None,
    **sample: Any,
) -> Path:
    """Writes what a run trained as `dtype` (of `DTYPES`) into the folder `dest`, whole or not at all; that folder.

    `wave` and the options of sampling in `sample`, those that are not None, become its defaults in place of the run's.
    The Markdown file `notes` tells in the model card of data, licences, attributions and scores. An exported folder
    that was there is replaced; `UserError` for any other that is not empty.
    """
    if dtype not in DTYPES:
        raise UserError(f"unknown type {dtype!r}; choose from {', '.join(DTYPES)}")
    dest = Path(dest).resolve()
    if os.path.lexists(dest) and not _replaceable(dest):
        raise UserError(f"{dest}: holds other things than an exported model; choose another folder")
    said, found = None if notes is None else _notes(notes), trained(name, ema=ema, step=step)
    flat = flatten_dict(used(found.params), sep="/")
    flat = {path: np.asarray(leaf, DTYPES[dtype], order="C") for path, leaf in flat.items()}
    if wrong := [path for path, leaf in flat.items() if not np.isfinite(leaf).all()]:
        raise UserError(f"{name}: {wrong[0]} is not finite as {dtype}; take float32 or another step")
    before = found.config.get("exported") or {"averaged": ema, "figures": _figures(located(name), found.step)}
    exported = before | {"format": FORMAT, "step": found.step, "frozen": dict(found.frozen)}
    public = _public(_measured(found.config, wave, sample)) | {"exported": exported}
    with whole(dest) as part:
        safetensors.numpy.save_file(flat, part / TENSORS)
        (part / checkpoint.CONFIG).write_text(json.dumps(public, indent=2) + "\n")
        (part / TENSORS).chmod((part / checkpoint.CONFIG).stat().st_mode)  # safetensors gives it to nobody else
        about = _about(public, exported, flat.values())
        (part / CARD).write_text(card.text(dest.name, public, about, said), encoding="utf-8")
        (part / SUMS).write_text("".join(f"{_digest(part / file)}  {file}\n" for file in FILES))
    return dest


def used(params: Any) -> Any:
    """The parameters that are used after training: no discriminators, and no embedding of bins (`sfjax.sources`)."""
    return {name: leaf for name, leaf in gan.released(params).items() if name != "embedding"}


def _measured(found, wave, sample):
    """A config with other defaults of inference, which are checked."""
    options = found["sample"] | {name: value for name, value in sample.items() if value is not None}
    process.process(found["process"]).check(**options)
    return found | {"sample": options, "infer": found["infer"] | ({} if wave is None else {"wave": audio.known(wave)})}


def _replaceable(dest):
    names = {path.name for path in dest.iterdir()} if dest.is_dir() else {""}
    return not names or (SUMS in names and names <= {*FILES, SUMS})


def _notes(path):
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: expected notes as a Markdown file, found none ({error}); check the path") from None


def _figures(folder, step):
    """The last validation losses that a run wrote up to a step, and when."""
    path, last = folder / "metrics.jsonl", {}
    for line in path.read_text().split("\n")[:-1] if path.is_file() else ():  # a run may have written half a line
        entry = json.loads(line)
        values = {name.removeprefix("valid_"): value for name, value in entry.items() if name.startswith("valid_")}
        if values and entry["step"] <= step:
            last = {"step": entry["step"]} | {name: round(value, 5) for name, value in values.items()}
    return last


def _public(found):
    """A config without what it says of the machine that it is from, and of its folders only their own names."""
    kept = {name: found[name] for name in KEPT if name in found}
    blanked = {name: kept[name] | dict.fromkeys(paths, "") for name, paths in KEPT.items() if paths and name in kept}
    start = found["init_from"]
    return kept | blanked | {"init_from": start if _named(start) else Path(start).name}


@contextlib.contextmanager
def whole(dest: Path) -> Iterator[Path]:
    """A folder to fill, which becomes `dest` when the block ends well and is removed when it does not."""
    part, old = (dest.with_name(f".{dest.name}.{os.getpid()}.{kind}") for kind in ("part", "old"))
    try:
        part.mkdir(parents=True)
        yield part
        for path in part.iterdir():
            with path.open("rb") as written:
                os.fsync(written.fileno())
        if dest.exists():
            os.replace(dest, old)
        os.replace(part, dest)
    except (OSError, safetensors.SafetensorError) as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(f"{dest}: could not be written ({why}); free space or choose another place") from None
    finally:
        if old.exists() and not dest.exists():
            os.replace(old, dest)
        for left in (part, old):
            shutil.rmtree(left, ignore_errors=True)


def info(name: str | os.PathLike) -> dict[str, Any]:
    """What a run's newest checkpoint or an exported folder is, without reading its parameters.

    `wrong` is what would be said on loading a folder whose files are not those that were exported, or None.
    """
    folder, wrong = located(name), None
    try:
        _check(name, folder)
    except UserError as error:
        wrong = str(error)
    found = _understood(name, folder)
    if "exported" in found:
        about = _about(found, found["exported"], _header(folder / TENSORS))
        path = folder / CARD
        licence = card.stated(path.read_text(encoding="utf-8", errors="replace")) if path.is_file() else []
    else:
        step, leaves = _saved(folder, found)
        held = {"step": step, "averaged": True, "figures": _figures(folder, step)}
        about, licence = _about(found, held, leaves), []
    return {"name": str(name), "exported": "exported" in found, **about, "licence": licence, "wrong": wrong}


def told(name: str | os.PathLike) -> list[str]:
    """The first lines of what the card of a model that is called by name says of its data and licences."""
    if not _named(name):
        return []
    return card.stated((located(name) / CARD).read_text(encoding="utf-8", errors="replace"))[:2]


def _about(found, held, leaves):
    """What `sfjax.card` tells of a model, from its config, section `exported` of it, and its tensors or shapes."""
    task, leaves = tasks.make(**found["task"]), list(leaves)
    rank = found["lora"]["rank"]
    return {
        "task": tasks.names(task), "parameters": sum(leaf.size for leaf in leaves),
        "types": " and ".join(sorted({np.dtype(leaf.dtype).name for leaf in leaves})),
        "bytes": sum(leaf.size * np.dtype(leaf.dtype).itemsize for leaf in leaves),
        "step": held["step"], "averaged": held["averaged"], "rank": rank, "base": found["init_from"] if rank else None,
        "mel": found["mel"], "phones": len(tasks.phones(task)), "sample": {} if card.helps(task) else found["sample"],
        "figures": held["figures"],
    }  # fmt: skip


def _saved(folder, found):
    """The step of a run's newest checkpoint, and the shapes and types of its averaged parameters."""
    place = checkpoint.place(folder, found["run"]["checkpoints"])
    steps = [int(path.name) for path in place.iterdir() if path.name.isdigit()] if place.is_dir() else []
    if not steps:
        raise UserError(f"{folder}: the run has no finished checkpoint yet")
    try:
        tree = ocp.PyTreeCheckpointHandler().metadata(place / str(max(steps)) / "state").tree["ema"]
    except Exception as error:
        raise UserError(f"{place / str(max(steps))}: the checkpoint is damaged ({error}){checkpoint.BEFORE}") from None
    shapes = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(used(tree))]
    return max(steps), shapes
