"""`sfjax train` and `sfjax plan`: a config's program, run here or compiled for elsewhere."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

from sfjax import overrides
from sfjax.errors import UserError
from sfjax.verbs.verb import Verb


def _add_train(one):
    _add_config(one)
    one.add_argument("--workdir", required=True, type=Path, help="folder of the run")


def _run_train(arguments):
    from sfjax import sharding, train

    sharding.join()
    train.run(overrides.config(arguments.config, arguments.overrides), arguments.workdir)


def _add_plan(one):
    _add_config(one)
    one.add_argument("--topology", required=True, help="v5e:16x16, v5p:4x4x4 or v6e:8x8; cpu:32 for any 32 devices")
    one.add_argument("--memory", type=float, help="GiB of a device, for cpu:N")
    one.add_argument("-o", "--output", type=Path, metavar="FILE.json", help="the figures, in bytes and seconds")
    one.add_argument("--utilisation", type=float, default=0.4, help="share of the peak rate to plan with")


def _run_plan(arguments):
    config = overrides.config(arguments.config, arguments.overrides)
    if not 0 < arguments.utilisation <= 1:
        raise UserError(f"--utilisation wants a share of the peak rate, 0 to 1, got {arguments.utilisation}")

    from sfjax import model, plan, sharding, train

    made = train.program(config)
    if not isinstance(made.network, model.Estimator):
        raise UserError(
            f"plan wants an estimator; {arguments.config} trains a {type(made.network).__name__}; take another task's"
        )
    devices, chip = plan.devices(arguments.topology)
    mesh = sharding.mesh(devices, **config.mesh)
    pieces = sharding.parts(mesh) * max(config.accumulate, 1)
    if config.data.multiple % pieces:
        config.data.multiple = math.lcm(config.data.multiple, pieces)
        print(f"batches divide over this mesh with --config.data.multiple={config.data.multiple}")
    batch = train.batch_shapes(config, made, mesh)
    examples, samples = (
        len(batch["lengths"]),
        max(round(wave.shape[1] / made.task.columns[name]) for name, wave in batch["waves"].items()),
    )
    seconds = samples / made.spec.sample_rate
    print(f"a step of {examples} × {seconds:g} s on {arguments.topology}, compiling", flush=True)
    like, step = train.on_mesh(made, mesh)
    flops = plan.flops(
        like.params, like.frozen, width=made.network.width, layers=made.network.layers, batch=examples,
        tokens=-(-made.spec.frames(samples) // config.model.get("patch", 1)),
    )  # fmt: skip
    report = plan.plan(
        step.lower(like, batch), like, batch, mesh=mesh, chip=chip, memory=arguments.memory,
        flops=flops, audio=examples * seconds, updates=config.optim.updates, utilisation=arguments.utilisation,
    )  # fmt: skip
    print(report.text())
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(dataclasses.asdict(report), indent=2) + "\n")
    return 2 if report.failure else 0


def _add_config(one):
    one.add_argument("--config", required=True, metavar="FILE.py[:SIZE]", help="then --config.SECTION.FIELD=VALUE")


TRAIN = Verb(
    "train", "Train by a config, or go on where a run stopped.",
    "sfjax train --config=configs/pretrain.py:small --workdir=runs/pretrain --config.data.train=speech.parquet",
    _add_train, _run_train,
)  # fmt: skip
PLAN = Verb(
    "plan", "Compile the training step for machines that are not here: memory, FLOPs, traffic, time at best.",
    "sfjax plan --config=configs/pretrain.py:large --topology v5e:16x16", _add_plan, _run_plan,
)  # fmt: skip
