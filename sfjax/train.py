"""The training loop: it takes a config and a work folder, and writes checkpoints and metrics."""

from __future__ import annotations

import contextlib
import functools
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from sfjax import audio, checkpoint, lora, optim, sharding, train_step
from sfjax.config import Config, read
from sfjax.data import inventory, loader
from sfjax.errors import UserError
from sfjax.export import release
from sfjax.metric_writer import Journal, Silence, Trace
from sfjax.networks import NETWORKS
from sfjax.objective import Batch, Objective
from sfjax.preemption import Interrupt
from sfjax.tasks import Task
from sfjax.train_step import State
from sfjax.validation import Validation

OWN = (*optim.PHONES, "copy_table", "embedding")  # parameters that only some tasks have


class Program(NamedTuple):
    """What a config trains: `init(key)` and `start(params)` make a State, `step(state, batch)` trains on a batch.

    `check()` raises `UserError` if samples cannot be drawn as the config says.
    """

    config: Config
    objective: Objective
    init: Callable
    start: Callable
    step: Callable
    check: Callable

    @property
    def spec(self) -> audio.MelSpec:
        """How log-Mel spectrograms are computed."""
        return self.config.mel

    @property
    def task(self) -> Task:
        """The task."""
        return self.config.task

    @property
    def network(self) -> Any:
        """The network that is trained."""
        return self.objective.network


def make_program(config: Any) -> Program:
    """Return the program of a config, for any mesh.

    `config` is a ConfigDict with the fields of `configs/default.py`. Raises `UserError` for values that cannot work.
    """
    config = read(config)
    trainable = NETWORKS[config.task.network]
    objective = trainable.objective(config)
    tx = optim.optimizer(**config.optim)
    rate = optim.schedule(**{name: config.optim[name] for name in ("peak", "end", "warmup", "updates")})
    step = functools.partial(
        train_step.step,
        seed=config.seed,
        error=objective.error(config.task),
        tx=tx,
        rate=rate,
        policy=config.precision,
        decay=config.ema,
        pieces=config.accumulate,
        t0_fraction=config.t0_fraction,
    )
    if trainable.training and (training := trainable.training(config, tx, rate)):
        tx, step = training
    start = functools.partial(train_step.start, tx=tx, policy=config.precision, adapter=config.lora)

    def init(key):
        return start(objective.init(key))

    return Program(config, objective, init, start, step, check=functools.partial(trainable.check, config))


def on_mesh(program: Program, mesh: Mesh) -> tuple[State, Callable]:
    """Return shapes and shardings of a program's state on a mesh, and its jitted step; the step donates the state."""
    shapes = jax.eval_shape(program.init, jax.random.key(0))
    places = sharding.shardings(shapes, mesh)
    like = jax.tree.map(lambda s, p: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=p), shapes, places)
    across, whole = sharding.batch(mesh), sharding.replicated(mesh)

    @sharding.activations(mesh)
    def step(state, batch):
        return program.step(state, batch)

    return like, jax.jit(step, in_shardings=(places, across), out_shardings=(places, whole), donate_argnums=0)


def batch_shapes(program: Program, mesh: Mesh) -> Batch:
    """Return shapes and shardings of the longest batch that a program's step takes."""
    config, task, spec = program.config, program.task, program.spec
    plan = loader.Plan((), (), config.data.buckets, config.data.seconds, config.data.multiple, config.seed)
    _check_sizes(plan, sharding.parts(mesh), config.accumulate)
    longest = int(np.argmax(config.data.buckets))
    examples, samples = plan.size(longest), config.data.buckets[longest] * spec.sample_rate
    frames, place = spec.num_frames(round(samples)), sharding.batch(mesh)

    def shape(dtype, *sizes):
        return jax.ShapeDtypeStruct((examples, *sizes), dtype, sharding=place)

    return {
        "waves": {name: shape(jnp.float32, round(samples * share)) for name, share in task.columns.items()},
        "mels": {name: shape(jnp.float32, count, frames, spec.bands) for name, count in task.predicted.items()},
        "labels": {name: shape(jnp.int32, round(frames * share)) for name, share in task.labels.items()},
        "lengths": shape(jnp.int32),
        "task": shape(jnp.int32),
    }


def run(config: Any, workdir: str | Path, *, out: Any = None) -> State:
    """Train by `config` in `workdir`, or resume from its newest checkpoint; return the last state.

    `config` is a ConfigDict with the fields of `configs/default.py`. Log lines go to `out`, a text file, by default
    standard error. SIGINT and SIGTERM end the run after the current step, saved, with `KeyboardInterrupt` and
    `Preempted`. Raises `UserError` for everything that a user can correct, before compiling where possible. Every
    process of a run calls this with the same config.
    """
    out = out or sys.stderr

    # What is trained, on which data and devices
    resolved = inventory.with_phones(config)
    program = make_program(resolved)
    config = program.config
    jax.config.update("jax_debug_nans", config.debug.nans)
    read_train, read_valid = readers(program)
    program.check()
    mesh = sharding.mesh(**config.mesh)
    _check_sizes(read_train.plan, sharding.parts(mesh), config.accumulate)
    sharding.agree(resolved.to_json_best_effort(sort_keys=True), "config")
    if jax.process_index() == 0:
        checkpoint.write_config(workdir, resolved.to_dict())
    sharding.meet("config")
    like, train_one = on_mesh(program, mesh)
    across = sharding.batch(mesh)

    with contextlib.ExitStack() as stack:
        folder = checkpoint.place(workdir, config.run.checkpoints)
        saved = stack.enter_context(
            checkpoint.Checkpoints(folder, keep=config.run.keep, keep_every=config.run.keep_every)
        )
        interrupt = stack.enter_context(Interrupt())
        trace = stack.enter_context(Trace(Path(workdir) / "tensorboard", *config.debug.profile))

        def say(line):
            if jax.process_index() == 0:
                print(line, file=out)

        # Resume this workdir, or start from another's parameters, or from scratch
        state = _first_state(program, saved, like, say)
        first, last = int(state.step), config.optim.updates
        journal = (
            Journal(workdir, first=first, out=out, every=config.run.log) if jax.process_index() == 0 else Silence()
        )
        validate = Validation(program, read_valid, across)
        reading = loader.batches(read_train, first=first, last=last, workers=config.run.workers)
        batches = stack.enter_context(contextlib.closing(reading))
        pending, bad, seen, began = None, 0, 0, time.perf_counter()

        for number in range(first, last):
            trace.before(number)
            waited = time.perf_counter()
            batch = next(batches)
            waited = time.perf_counter() - waited
            on_device = sharding.place({name: batch[name] for name in loader.ARRAYS}, across)  # the one crossing in
            with jax.transfer_guard("disallow"):
                state, metrics = train_one(state, on_device)
                if pending is not None:  # the step before, read while this one runs
                    _after(journal, pending, config)
            pending = (number, metrics, batch["names"], batch["seconds"], waited)

            bad, seen = bad + len(batch["bad"]), seen + len(batch["names"])
            journal.bad_files(batch["bad"])
            if bad > max(config.run.max_bad * seen, config.run.max_bad * 1000):
                raise UserError(
                    f"{bad} of {seen} files were bad, more than run.max_bad={config.run.max_bad}; they are listed "
                    f"in {journal.bad_path}; run `sfjax prepare` again or raise the limit"
                )
            done = number + 1
            leaving = interrupt.asked(done) or done == last or done == config.run.stop
            if done % config.run.validate == 0 or done == last:
                with journal.pause():
                    journal.valid(done, validate(state, journal, done))
            if done % config.run.save == 0 or leaving:
                saved.save(done, state)
            if leaving:
                break
        if pending is not None:
            _after(journal, pending, config)
        saved.wait()
        journal.close(int(state.step), time.perf_counter() - began)
    interrupt.end()
    return state


def readers(program: Program) -> tuple[loader.Reader, dict[str, loader.Reader]]:
    """Return the reader of training batches, and the readers of validation batches by task; none if there are none."""
    config, task = program.config, program.task
    valid = config.data.valid or config.data.train
    train = _reader(program, task, _sources(program, config.data.train, config.data.split))
    if not config.run.valid_batches:
        return train, {}
    sources = _sources(program, valid, config.data.valid_split)
    by_task = {name: tuple(source for source in sources if source.task == i) for i, name in enumerate(task.parts)}
    return train, {name: _reader(program, task.parts[name], found) for name, found in by_task.items() if found}


def _sources(program, manifests, split):
    config, task, spec = program.config, program.task, program.spec
    return loader.sources(
        manifests,
        split=split,
        columns={name: part.columns for name, part in task.parts.items()},
        predicted=task.predicted,
        labels={name: part.labels for name, part in task.parts.items()},
        phones=task.phones,
        mix=config.mix,
        degrade=config.degrade,
        mixture=config.mixture,
        rate=spec.sample_rate,
        hop=spec.hop,
    )


def _reader(program, task, sources):
    data, spec = program.config.data, program.spec
    plan = loader.Plan(
        tuple(source.manifest.seconds / source.share for source in sources),
        tuple(source.weight for source in sources),
        data.buckets,
        data.seconds,
        data.multiple,
        program.config.seed,
    )
    share = (jax.process_index(), jax.process_count())
    return loader.Reader(
        sources, plan, task.columns, program.task.predicted, task.labels, spec.sample_rate, spec.hop, spec.bands, share
    )


def _check_sizes(plan, parts, pieces):
    if pieces < 1:
        raise UserError(f"config.accumulate must be the number of pieces of a batch, 1 or more, got {pieces}")
    for bucket, seconds in enumerate(plan.buckets):
        size = plan.size(bucket)
        if size % (parts * pieces):
            raise UserError(
                f"a batch of {size} examples of {seconds} s does not divide into mesh {parts} × accumulate {pieces}; "
                f"set --config.data.multiple={parts * pieces}"
            )


def _first_state(program, saved, like, say):
    """The state of the newest checkpoint; else one with the parameters of `init_from`; else one from scratch."""
    config, adapter, places = program.config, program.config.lora, jax.tree.map(lambda leaf: leaf.sharding, like)
    state = saved.newest(like, pass_damaged=config.run.pass_damaged, say=say)
    if state is not None and adapter is None:
        return state
    if adapter is not None and not config.init_from:
        raise UserError("LoRA needs a base model; set --config.init_from to its run")
    if state is not None:
        base, _ = release.weights(config.init_from, ema=True)
        frozen = jax.device_put(lora.split(base, adapter)[1], places.frozen)
        checkpoint.check_frozen(frozen, saved.digests(int(state.step)), str(saved.folder))
        return state.replace(frozen=frozen)
    params = lora.join(places.params, places.frozen)
    fresh = jax.jit(program.objective.init, out_shardings=params)(jax.random.key(config.seed))
    if config.init_from:
        base, trained = release.weights(config.init_from, ema=True)
        _check_same_function(config, trained.config)
        # parameters that only some tasks have start afresh, and are dropped where the task does not have them
        base = {name: leaf for name, leaf in base.items() if name in fresh or name not in OWN}
        needed = {name: leaf for name, leaf in lora.base(fresh).items() if name in base or name not in OWN}
        if jax.tree.map(jnp.shape, needed) != jax.tree.map(jnp.shape, base):
            raise UserError(f"{config.init_from} holds another network than --config.model describes; use its size")
        base_places = lora.base(params)
        fresh = lora.join(jax.device_put(base, {name: base_places[name] for name in base}), fresh)
    return jax.jit(program.start, out_shardings=places)(fresh)


def _check_same_function(config, trained):
    """Parameters of equal shapes compute another function where one of these fields differs."""
    for field in ("heads", "precondition"):
        before, now = trained["model"].get(field), getattr(config.model, field, None)
        if before != now:
            raise UserError(
                f"{config.init_from} was trained with model.{field}={before}, got {now}; set "
                f"--config.model.{field}={before}"
            )
    if different := audio.differences(audio.MelSpec(**trained["mel"]), config.mel):
        raise UserError(f"{config.init_from} was trained on other Mels ({different}); use its section mel")


def _after(journal, pending, config):
    """Log the metrics of a finished step, and end the run if it has stopped learning."""
    number, metrics, names, seconds, waited = pending
    began = time.perf_counter()
    metrics = {name: float(value) for name, value in jax.device_get(metrics).items()}
    waits = {"data": waited, "device": time.perf_counter() - began}
    clipped = metrics["gradient_norm"] > config.optim.clip > 0
    journal.step(number + 1, config.optim.updates, metrics, seconds=seconds, waits=waits, clipped=clipped)
    if metrics["streak"] >= config.run.max_streak:
        raise UserError(
            f"no finite gradient in {config.run.max_streak} steps, the last {number + 1}, on {', '.join(names[:4])} …; "
            "lower the learning rate or look at these files"
        )
