"""Find the folder that a model's name means, and check the files of an exported folder.

A model is named by a folder, by `sfjax://NAME` (an exported folder in this package), or by `hf://OWNER/NAME` or
`hf://OWNER/NAME@REVISION` (an exported folder on a hub).
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from sfjax import checkpoint
from sfjax.errors import UserError

TENSORS, CARD, SUMS = "model.safetensors", "README.md", "SHA256SUMS"
FILES = (checkpoint.CONFIG, TENSORS, CARD)  # those that SHA256SUMS has to list
HUB = re.compile(r"hf:/{1,2}([\w.-]+/[\w.-]+)(?:@(.+))?")  # one slash if the name was a Path
BOX = re.compile(r"sfjax:/{1,2}(\w[\w-]*)")
OWN = Path(__file__).parents[1] / "weights"  # the models of this package, `sfjax.weights`
SUM = re.compile(r"([0-9a-f]{64}) [ *](.*)")
AGAIN = "fetch or export it again"


def folder_of(name: str | os.PathLike) -> Path:
    """Return the folder of a model: the given folder, one of this package, or the copy that the hub's client keeps."""
    if not is_address(name):
        return Path(name)
    if own := BOX.fullmatch(os.fspath(name)):
        if (OWN / own[1]).is_dir():
            return OWN / own[1]
        models = ", ".join(f"sfjax://{path.name}" for path in sorted(OWN.iterdir()) if (path / CARD).is_file())
        raise UserError(f"sfjax://{own[1]}: no such model in this package; choose from {models}")
    hub = HUB.fullmatch(os.fspath(name))
    if hub is None:
        raise UserError(f"{name}: expected sfjax://NAME, hf://OWNER/NAME or hf://OWNER/NAME@REVISION; check the name")
    return _download(f"hf://{hub[1]}", hub[1], hub[2])


def is_own(name: str | os.PathLike) -> bool:
    """Whether a name means a model of this package."""
    return BOX.fullmatch(os.fspath(name)) is not None


def is_address(name: str | os.PathLike) -> bool:
    """Whether a model is named by an address, which is the same on every machine, and not by its folder."""
    return os.fspath(name).startswith(("hf:/", "sfjax:/"))


def _download(name, repository, revision):
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError:
        raise UserError(f"{name} needs huggingface_hub: pip install 'sfjax[hub]'") from None
    try:
        files = [*FILES, SUMS]
        folder = Path(huggingface_hub.snapshot_download(repository, revision=revision, allow_patterns=files))
        missing = [file for file in files if not (folder / file).is_file()]
        if not missing:
            return folder
        reason = f"is no exported model, it lacks {', '.join(missing)}; check the name"
    except errors.RepositoryNotFoundError:
        reason = "no such repository, or it needs a login; check the name, or log in with `hf auth login`"
    except errors.RevisionNotFoundError:
        reason = f"has no revision {revision}; check its name, or leave it out"
    except errors.LocalEntryNotFoundError:
        reason = "the hub cannot be reached and no whole copy was kept; connect, or give a folder"
    except Exception as error:  # of the client, of its HTTP library, or of the disk
        reason = f"could not be fetched ({type(error).__name__}: {error}); try again, or give a folder"
    raise UserError(f"{name}: {' '.join(reason.split())}")


def is_exported(name: str | os.PathLike, folder: Path) -> bool:
    """Whether a folder was exported; otherwise it is a run."""
    return is_address(name) or os.path.lexists(folder / SUMS)


def check_files(name: str | os.PathLike, folder: Path) -> None:
    """Check the files of an exported folder against SHA256SUMS; a run has none.

    Raises `UserError` for a file that is missing, changed, not listed, or a link out of the folder.
    """
    if not is_exported(name, folder):
        return
    sums = folder / SUMS
    _check_is_file(name, sums)
    digests = {}
    for line in sums.read_text(encoding="utf-8", errors="replace").splitlines():
        match = SUM.fullmatch(line)
        if match is None or not re.fullmatch(r"\w[\w.-]*", match[2]):
            raise UserError(f"{sums}: expected digests of files in the same folder, found {line[:100]!r}; {AGAIN}")
        digests[match[2]] = match[1]
    if missing := [file for file in FILES if file not in digests]:
        raise UserError(f"{sums}: does not list {', '.join(missing)}; {AGAIN}")
    for file, expected in digests.items():
        _check_is_file(name, folder / file)
        if digest(folder / file) != expected:
            raise UserError(f"{folder / file}: checksum mismatch in {SUMS}: the file changed or is damaged; {AGAIN}")


def _check_is_file(name, path):
    if not path.is_file():  # dangling links, devices and folders are no files
        raise UserError(f"{path}: expected a file of an exported model, found none; {AGAIN}")
    # the hub's client keeps a folder of links to its files
    if not is_address(name) and not path.resolve().is_relative_to(path.parent.resolve()):
        raise UserError(f"{path}: is a link out of its folder; {AGAIN}")


def digest(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
