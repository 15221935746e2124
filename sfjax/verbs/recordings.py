"""`sfjax enhance` and `sfjax separate`: sound files in, sound files out."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from sfjax.errors import UserError, complain
from sfjax.verbs.verb import Verb, load_model, model_flags, sampling, sampling_flags


def _add_enhance(one):
    one.add_argument("files", nargs="+", type=Path, metavar="FILE")
    one.add_argument("-o", "--output", required=True, type=Path, help="folder for the results, named as the inputs")
    model_flags(one, required=True)
    sampling_flags(one)


def _run_enhance(arguments):
    targets = lambda file: [arguments.output / file.name]
    return _treat(arguments, "enhancing", lambda model: model.enhancing(), targets)


def _add_separate(one):
    one.add_argument("files", nargs="+", type=Path, metavar="FILE")
    one.add_argument("-o", "--output", required=True, type=Path, help="folder for the results, s1/FILE, s2/FILE …")
    one.add_argument("--speakers", type=int, default=2, help="as many as the model learned to separate")
    model_flags(one, required=True)
    sampling_flags(one)


def _run_separate(arguments):
    targets = lambda file: [arguments.output / f"s{i}" / file.name for i in range(1, arguments.speakers + 1)]
    return _treat(arguments, "separating", lambda model: model.separating(arguments.speakers), targets)


def _treat(arguments, doing, task_of, targets):
    from tqdm import tqdm

    files = _targets(arguments.files, targets)
    model = load_model(arguments)
    task = task_of(model)
    print(f"{doing} with {model.name}", file=sys.stderr)
    with tqdm(unit="s", unit_scale=True, desc=doing, disable=None) as bar:
        failed = model.treat_files(task, files, seed=arguments.seed, progress=bar.update, **sampling(arguments))
    for reason in failed.values():
        complain(reason)
    print(f"{len(files) - len(failed)} of {len(files)} files written to {arguments.output}", file=sys.stderr)
    return 2 if failed else 0


def _targets(files, targets):
    taken: dict[Path, Path] = {}
    for file in files:
        for target in targets(file):
            if target in taken:
                raise UserError(f"{taken[target]} and {file} would both be written to {target}; take two calls")
            if os.path.exists(file) and os.path.exists(target) and target.samefile(file):
                raise UserError(f"{file} would be overwritten by its own result; choose another folder")
            taken[target] = file
    return [(file, targets(file)) for file in files]


ENHANCE = Verb(
    "enhance", "Clean recordings.", "sfjax enhance noisy.wav -o clean --model runs/enhance", _add_enhance, _run_enhance
)
SEPARATE = Verb(
    "separate", "Every speaker of a mixture.", "sfjax separate mix.wav --speakers 2 -o apart --model runs/separate",
    _add_separate, _run_separate,
)  # fmt: skip
