"""Load the weights of a run or an exported folder, with adapters merged; export a folder to publish.

An exported folder holds `config.json`, the part of the run's resolved config that defines and explains the network,
with a section `exported`; `model.safetensors`, the parameters by path; `README.md`, the model card; and `SHA256SUMS`,
the digests that the other files are checked against before use. For a LoRA run, it holds only the adapters and the
digests of the base model, so that they cannot be merged into another model.

Wherever a model is named, an address of `sfjax.export.locate` works too.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from flax.traverse_util import flatten_dict, unflatten_dict

from sfjax import audio, checkpoint, lora, objective, tasks
from sfjax.config import read_model
from sfjax.errors import UserError
from sfjax.export import locate, model_card
from sfjax.export.locate import AGAIN, CARD, FILES, SUMS, TENSORS
from sfjax.vocoder import hifigan

FORMAT = 1  # of exported folders; increase it when this program would misread the new ones
DTYPES = {"float32": np.float32, "bfloat16": jnp.bfloat16, "float16": np.float16}
NAMES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}  # of types, in the header of safetensors
MACHINE = ("debug", "mesh", "run")  # fields of a config that are not exported
PATHS = {"data": ("train", "valid"), "mix": ("noise",), "degrade": ("rooms",), "mixture": ("noise",)}  # exported empty
EXPORTED = {"format": int, "step": int, "averaged": bool, "frozen": dict, "figures": dict}


class Trained(NamedTuple):
    """The result of a run: `params` as numpy arrays, its config, the digests of frozen parameters, and its step."""

    params: Any
    config: dict[str, Any]
    frozen: Mapping[str, int]
    step: int
    name: str


def config(name: str | os.PathLike) -> dict[str, Any]:
    """Read the config of a run or of an exported folder, whose files are checked first.

    Raises `UserError` if it is neither.
    """
    folder = locate.folder_of(name)
    locate.check_files(name, folder)
    return _read_config(name, folder)


def _read_config(name, folder):
    """Read the config of a run, or of an exported folder if this program knows all that is in it."""
    config, path = checkpoint.read_config(folder), folder / checkpoint.CONFIG
    is_exported = locate.is_exported(name, folder)
    if ("exported" in config) != is_exported:
        expected = "its section exported" if is_exported else f"{SUMS} beside it"
        raise UserError(f"{path}: expected {expected}, found none; {AGAIN}")
    if not is_exported:
        return config
    exported = config["exported"] if isinstance(config["exported"], dict) else {}
    number = exported.get("format")
    if type(number) is int and number > FORMAT:
        raise UserError(f"{path}: is of format {number}, this sfjax knows those up to {FORMAT}; install a newer one")
    wrong = [field for field, kind in EXPORTED.items() if type(exported.get(field)) is not kind]
    sections = ("data", "infer", "lora", "mel", "model", "optim", "phase", "sample", "task", "vocoder")
    wrong += [section for section in sections if type(config.get(section)) is not dict]
    wrong += [section for section in PATHS if type(config.get(section, {})) is not dict]
    wrong += [] if isinstance(config.get("init_from"), str) else ["init_from"]
    if wrong or number != FORMAT:
        raise UserError(f"{path}: expected other values of {', '.join(wrong or ['format'])}; {AGAIN}")
    try:
        objective.process(config["process"])
        read_model(config)
    except (UserError, TypeError, KeyError) as error:
        raise UserError(f"{path}: {error}; export it with the sfjax that reads it") from None
    return config


def trained(name: str | os.PathLike, *, ema: bool, step: int | None = None) -> Trained:
    """Load what a run or an exported folder holds.

    Of a run it is the newest checkpoint or the one of `step`, with averaged parameters if `ema`. Raises `UserError` if
    the folder is neither.
    """
    folder = locate.folder_of(name)
    locate.check_files(name, folder)
    config = _read_config(name, folder)
    if "exported" in config:
        exported = config["exported"]
        if step not in (None, exported["step"]):
            raise UserError(f"{name} holds only step {exported['step']}, got {step}; leave the step out")
        if exported["averaged"] and not ema:
            raise UserError(f"{name} holds only averaged parameters; leave ema=False (--no-ema) out")
        return Trained(_read_tensors(folder / TENSORS), config, exported["frozen"], exported["step"], str(name))
    params, digests, step = checkpoint.params(folder, ema=ema, step=step)
    frozen = {path: value for path, value in digests.items() if path.startswith("frozen/")}
    return Trained(params, config, frozen, step, str(name))


def _read_tensors(path):
    _read_header(path)
    try:
        flat = safetensors.numpy.load_file(path)
        return unflatten_dict({name: leaf.astype(np.float32) for name, leaf in flat.items()}, sep="/")
    except (OSError, safetensors.SafetensorError, IndexError) as error:  # IndexError: both a and a/b are leaves
        raise UserError(f"{path}: cannot be read ({error}); {AGAIN}") from None


def _read_header(path) -> list[jax.ShapeDtypeStruct]:
    """Read the shapes and types that a file of tensors states in its header."""
    try:
        with safetensors.safe_open(path, "numpy") as file:
            stated = [(tensor.get_dtype(), tensor.get_shape()) for tensor in map(file.get_slice, file.keys())]
    except (OSError, safetensors.SafetensorError) as error:
        raise UserError(f"{path}: cannot be read ({error}); {AGAIN}") from None
    if unknown := {dtype for dtype, _ in stated} - NAMES.keys():
        raise UserError(f"{path}: holds numbers of type {min(unknown)}, not {', '.join(NAMES)}; {AGAIN}")
    return [jax.ShapeDtypeStruct(shape, DTYPES[NAMES[dtype]]) for dtype, shape in stated]


def weights(folder: str | os.PathLike, *, ema: bool, step: int | None = None) -> tuple[Any, Trained]:
    """Load a network's parameters, with adapters merged into their base model, and what was trained."""
    loaded = trained(folder, ema=ema, step=step)
    if lora.make(**loaded.config["lora"]) is None:
        return loaded.params, loaded
    base = loaded.config["init_from"]
    # an exported folder holds only the name of its base folder, which is no path on this machine
    if not locate.is_address(base) and ("exported" in loaded.config or not os.path.isdir(base)):
        raise UserError(f"{folder} adapts {base}, which is not here; load that model with this adapter (--adapter)")
    return adapted(weights(base, ema=True)[0], loaded), loaded


def adapted(base: Any, adapters: Trained) -> Any:
    """Merge adapters into the parameters of their base model. Raises `UserError` for another base."""
    adapter = lora.make(**adapters.config["lora"])
    if adapter is None:
        raise UserError(f"{adapters.name} holds no adapters but a whole network; load it as a model (--model)")
    frozen = lora.split(base, adapter)[1]
    checkpoint.check_frozen(frozen, adapters.frozen, adapters.name)
    try:
        return jax.device_get(lora.merge(lora.join(adapters.params, frozen), adapter))
    except (KeyError, TypeError) as error:
        raise UserError(f"{adapters.name}: its adapters do not fit ({error}); export them again") from None


def export(
    name: str | os.PathLike,
    dest: str | os.PathLike,
    *,
    ema: bool,
    step: int | None,
    dtype: str,
    notes: str | os.PathLike | None = None,
    reconstruct: str | None = None,
    force: bool = False,
    **sample: Any,
) -> Path:
    """Export what a run trained as `dtype` (of `DTYPES`) into the folder `dest`, whole or not at all; return `dest`.

    `reconstruct` and the sampling options `sample` become its defaults, unless they are None. The Markdown file `notes`
    becomes the end of the model card: data, licences, attributions and scores. An exported folder at `dest` is
    replaced, with `force` also if its files were changed since; any other folder that is not empty raises `UserError`.
    """
    if dtype not in DTYPES:
        raise UserError(f"unknown type {dtype!r}; choose from {', '.join(DTYPES)}")
    dest = Path(dest).resolve()
    if os.path.lexists(dest) and not _is_replaceable(dest):
        raise UserError(f"{dest}: holds other things than an exported model; choose another folder")
    if not force and (dest / SUMS).is_file():
        _check_unchanged(dest)
    notes_text = None if notes is None else _read_notes(notes)
    loaded = trained(name, ema=ema, step=step)
    flat = flatten_dict(inference_params(loaded.params), sep="/")
    flat = {path: np.asarray(leaf, DTYPES[dtype], order="C") for path, leaf in flat.items()}
    if not_finite := [path for path, leaf in flat.items() if not np.isfinite(leaf).all()]:
        raise UserError(f"{name}: {not_finite[0]} is not finite as {dtype}; take float32 or another step")
    before = loaded.config.get("exported") or {
        "averaged": ema,
        "figures": _last_validation(locate.folder_of(name), loaded.step),
    }
    exported = before | {"format": FORMAT, "step": loaded.step, "frozen": dict(loaded.frozen)}
    public = _public_config(_with_defaults(loaded.config, reconstruct, sample)) | {"exported": exported}
    with whole(dest) as part:
        safetensors.numpy.save_file(flat, part / TENSORS)
        (part / checkpoint.CONFIG).write_text(json.dumps(public, indent=2) + "\n")
        # safetensors makes its file readable for its owner only
        (part / TENSORS).chmod((part / checkpoint.CONFIG).stat().st_mode)
        about = _about(public, exported, flat.values())
        (part / CARD).write_text(model_card.text(dest.name, public, about, notes_text), encoding="utf-8")
        (part / SUMS).write_text("".join(f"{locate.digest(part / file)}  {file}\n" for file in FILES))
    return dest


def _check_unchanged(dest: Path) -> None:
    """Raise `UserError` if files of an exported folder, such as the card, were changed since the export."""
    try:
        locate.check_files(dest, dest)
    except UserError as error:
        raise UserError(f"{error}; --force replaces the folder") from None


def inference_params(params: Any) -> Any:
    """Return the parameters that are used after training.

    These are all but the discriminators and the embedding of `sfjax.separation_loss`.
    """
    return {name: leaf for name, leaf in hifigan.released(params).items() if name != "embedding"}


def _with_defaults(config, reconstruct, sample):
    """Return a config with other defaults of inference, which are checked."""
    options = config["sample"] | {name: value for name, value in sample.items() if value is not None}
    objective.process(config["process"]).check(**options)
    reconstruction = {} if reconstruct is None else {"reconstruct": audio.reconstruction(reconstruct)}
    return config | {"sample": options, "infer": config["infer"] | reconstruction}


def _is_replaceable(dest):
    names = {path.name for path in dest.iterdir()} if dest.is_dir() else {""}
    return not names or (SUMS in names and names <= {*FILES, SUMS})


def _read_notes(path):
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: expected notes as a Markdown file, found none ({error}); check the path") from None


def _last_validation(folder, step):
    """Return the last validation losses that a run wrote up to a step, with their own step."""
    path, last = folder / "metrics.jsonl", {}
    for line in path.read_text().split("\n")[:-1] if path.is_file() else ():  # a run may have written half a line
        entry = json.loads(line)
        losses = {name.removeprefix("valid_"): value for name, value in entry.items() if name.startswith("valid_")}
        if losses and entry["step"] <= step:
            last = {"step": entry["step"]} | {name: round(value, 5) for name, value in losses.items()}
    return last


def _public_config(config):
    """Return a config without paths and machine settings; of the base folder only its name remains."""
    public = {name: value for name, value in config.items() if name not in MACHINE}
    blank = {name: public[name] | dict.fromkeys(fields, "") for name, fields in PATHS.items() if name in public}
    base = config["init_from"]
    return public | blank | {"init_from": base if locate.is_address(base) else Path(base).name}


@contextlib.contextmanager
def whole(dest: Path) -> Iterator[Path]:
    """Yield a folder to fill; it becomes `dest` when the block succeeds and is removed when it fails."""
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
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{dest}: could not be written ({reason}); free space or choose another folder") from None
    finally:
        if old.exists() and not dest.exists():
            os.replace(old, dest)
        for folder in (part, old):
            shutil.rmtree(folder, ignore_errors=True)


def info(name: str | os.PathLike) -> dict[str, Any]:
    """Describe a run's newest checkpoint or an exported folder, without reading its parameters.

    `wrong` is None, or the error on loading a folder whose files have changed since they were exported.
    """
    folder, wrong = locate.folder_of(name), None
    try:
        locate.check_files(name, folder)
    except UserError as error:
        wrong = str(error)
    config = _read_config(name, folder)
    if "exported" in config:
        about = _about(config, config["exported"], _read_header(folder / TENSORS))
        path = folder / CARD
        licence = model_card.stated(path.read_text(encoding="utf-8", errors="replace")) if path.is_file() else []
    else:
        step, leaves = _newest_leaves(folder, config)
        facts = {"step": step, "averaged": True, "figures": _last_validation(folder, step)}
        about, licence = _about(config, facts, leaves), []
    return {"name": str(name), "exported": "exported" in config, **about, "licence": licence, "wrong": wrong}


def _about(config, facts, leaves):
    """Describe a model for `sfjax.export.model_card`.

    `facts` are the fields of config section `exported`; `leaves` are the tensors or their shapes.
    """
    task, leaves = tasks.make(**config["task"]), list(leaves)
    rank = config["lora"]["rank"]
    return {
        "task": task.description,
        "parameters": sum(leaf.size for leaf in leaves),
        "types": " and ".join(sorted({np.dtype(leaf.dtype).name for leaf in leaves})),
        "bytes": sum(leaf.size * np.dtype(leaf.dtype).itemsize for leaf in leaves),
        "step": facts["step"],
        "averaged": facts["averaged"],
        "rank": rank,
        "base": config["init_from"] if rank else None,
        "mel": config["mel"],
        "phones": len(task.phones),
        "figures": facts["figures"],
        "sample": {} if model_card.helps(task) else config["sample"] | _own_guidance(task),
    }


def _own_guidance(task):
    """Return the guidance of the parts of a task that have their own, for the model card."""
    return {
        f"{name} {option}": value for name, part in task.parts.items() for option, value in task.sampling(part).items()
    }


def _newest_leaves(folder, config):
    """Return the step of a run's newest checkpoint, and the shapes and types of its averaged parameters."""
    import orbax.checkpoint as ocp

    checkpoints = checkpoint.choose_folder(folder, config["run"]["checkpoints"])
    steps = [int(path.name) for path in checkpoints.iterdir() if path.name.isdigit()] if checkpoints.is_dir() else []
    if not steps:
        raise UserError(f"{folder}: the run has no finished checkpoint yet")
    newest = checkpoints / str(max(steps))
    try:
        tree = ocp.PyTreeCheckpointHandler().metadata(newest / "state").tree["ema"]
    except Exception as error:
        raise UserError(f"{newest}: the checkpoint is damaged ({error}){checkpoint.BEFORE}") from None
    shapes = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(inference_params(tree))]
    return max(steps), shapes


def card_lines(name: str | os.PathLike) -> list[str]:
    """Return the first two lines on data and licences in the card of a model that is named by an address."""
    if not locate.is_address(name):
        return []
    return model_card.stated((locate.folder_of(name) / CARD).read_text(encoding="utf-8", errors="replace"))[:2]
