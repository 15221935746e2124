"""`sfjax train` and `sfjax plan`: train a model, or estimate memory and speed on other devices."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

from sfjax.cli.config_file import describe, load_config
from sfjax.cli.verb import Verb, check_outputs, force_flag
from sfjax.errors import UserError


def _add_train(parser):
    _add_config(parser)
    parser.add_argument("--workdir", required=True, type=Path, help="folder of the run")


def _run_train(arguments):
    from sfjax import sharding, train

    sharding.join_processes()
    train.run(load_config(arguments.config, arguments.overrides), arguments.workdir)


def _add_plan(parser):
    _add_config(parser)
    parser.add_argument(
        "--topology", required=True, help="devices: v5e:16x16, v5p:4x4x4, v6e:8x8 …, or cpu:32 for any 32 devices"
    )
    parser.add_argument("--memory", type=float, help="memory of a device in GiB, for cpu:N")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE.json", help="file for the figures, in bytes and seconds"
    )
    force_flag(parser)
    parser.add_argument(
        "--utilisation", type=float, default=0.4, help="share of the peak rate to assume, 0 to 1; default: 0.4"
    )


def _run_plan(arguments):
    config = load_config(arguments.config, arguments.overrides)
    if not 0 < arguments.utilisation <= 1:
        raise UserError(f"--utilisation must be a share of the peak rate, 0 to 1, got {arguments.utilisation}; set 0.4")

    check_outputs(arguments, arguments.output)

    from sfjax import overwrite, plan, sharding, tasks, train
    from sfjax.config import read
    from sfjax.data.manifest import replacing

    network = tasks.make(**config.task).network
    if network != "estimator":
        raise UserError(
            f"sfjax plan needs a config that trains an estimator, but {arguments.config} trains a {network}; choose "
            "another task's config"
        )
    devices, chip = plan.devices(arguments.topology)
    mesh = sharding.mesh(devices, **config.mesh)
    pieces = sharding.parts(mesh) * max(config.accumulate, 1)
    if config.data.multiple % pieces:
        config.data.multiple = math.lcm(config.data.multiple, pieces)
        print(f"using --config.data.multiple={config.data.multiple}, so that batches divide among these devices")
    config = read(config)
    program = train.make_program(config)
    batch = train.batch_shapes(config.task, config.mel, config.data, mesh, pieces=config.accumulate)
    examples = len(batch["lengths"])
    samples = max(round(wave.shape[1] / config.task.columns[name]) for name, wave in batch["waves"].items())
    seconds = samples / config.mel.sample_rate
    print(f"compiling a step of {examples} × {seconds:g} s for {arguments.topology}", flush=True)
    like, step = train.on_mesh(program, mesh)
    flops = plan.flops(
        like.params,
        like.frozen,
        width=program.network.config.width,
        layers=program.network.config.layers,
        batch=examples,
        tokens=-(-config.mel.num_frames(samples) // program.network.config.patch),
    )
    report = plan.plan(
        step.lower(like, batch),
        like,
        batch,
        mesh=mesh,
        chip=chip,
        memory=arguments.memory,
        work=plan.Work(flops, examples * seconds, config.optim.updates),
        utilisation=arguments.utilisation,
    )
    print(report.text())
    if arguments.output is not None:
        with replacing(arguments.output) as part:
            part.write_text(json.dumps(overwrite.FIELD | dataclasses.asdict(report), indent=2) + "\n", encoding="utf-8")
    return 2 if report.failure else 0


def _add_config(parser):
    parser.details = _fields
    parser.add_argument(
        "--config",
        required=True,
        metavar="FILE.py[:SIZE]",
        help="config; override its fields with --config.SECTION.FIELD=VALUE; with --help behind it, list its fields",
    )


def _fields(arguments):
    return f"\nfields of {arguments.config}:\n{describe(arguments.config)}" if arguments.config else ""


TRAIN = Verb(
    "train",
    "Train a model as a config describes, or resume a run.",
    "sfjax train --config=configs/pretrain.py:small --workdir=runs/pretrain --config.data.train=speech.parquet",
    _add_train,
    _run_train,
)
PLAN = Verb(
    "plan",
    "Estimate memory, FLOPs, traffic and shortest time of a training step on devices that you do not have here.",
    "sfjax plan --config=configs/pretrain.py:large --topology v5e:16x16",
    _add_plan,
    _run_plan,
)
