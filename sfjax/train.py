"""The training loop: it takes a config and a work folder, and writes checkpoints and metrics."""

import contextlib
import copy
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
from jaxtyping import Array

from sfjax import audio, checkpoint, lora, optim, run_overview, sharding, train_step
from sfjax.config import Config, DataConfig, read
from sfjax.data import inventory, loader
from sfjax.data.examples import Simulation
from sfjax.errors import UserError
from sfjax.export import release
from sfjax.metric_writer import Journal, Silence, Trace
from sfjax.networks import NETWORKS
from sfjax.objective import Batch, Objective
from sfjax.preemption import Interrupt
from sfjax.tasks import Task
from sfjax.train_step import State, UpdateRule
from sfjax.validation import Validation
from sfjax.watchdog import Watchdog

TASK_PARAMETERS = (*optim.PHONES, "copy_table", "embedding")  # only some tasks have them
FEW = 1000  # files; so many are taken as seen at the start, where one bad file would be a large share


class Program(NamedTuple):
    """What is trained. `random_state(key)` and `initial_state(params)` make a State; `step(state, batch)` trains it."""

    objective: Objective
    random_state: Callable[..., State]
    initial_state: Callable[..., State]
    step: Callable[..., tuple[State, dict[str, Array]]]

    @property
    def network(self) -> Any:
        """The network that is trained."""
        return self.objective.network


class Step(NamedTuple):
    """A step that was started: its number from 1, metrics on the devices, files, seconds of audio and of waiting."""

    done: int
    metrics: dict[str, Array]
    names: list[str]
    seconds: float
    waited: float


def make_program(config: Config) -> Program:
    """Return the program of a config, for any mesh. Raises `UserError` for values that cannot work."""
    trainable = NETWORKS[config.task.network]
    objective = trainable.objective(config)
    trainable.check(config)
    rate = optim.schedule(
        peak=config.optim.peak, end=config.optim.end, warmup=config.optim.warmup, updates=config.optim.updates
    )
    tx = optim.optimizer(
        rate,
        clip=config.optim.clip,
        b1=config.optim.b1,
        b2=config.optim.b2,
        decay=config.optim.decay,
        phones=config.optim.phones,
        muon=config.optim.muon,
    )
    rule = UpdateRule(tx, rate, config.precision, config.ema)
    step = functools.partial(
        train_step.step,
        seed=config.seed,
        error=objective.error(config.task),
        rule=rule,
        pieces=config.accumulate,
        t0_fraction=config.t0_fraction,
    )
    if trainable.training and (training := trainable.training(config, rule)):
        tx, step = training
    initial_state = functools.partial(train_step.initial_state, tx=tx, policy=config.precision, adapter=config.lora)

    def random_state(key):
        return initial_state(objective.init(key))

    return Program(objective, random_state, initial_state, step)


def readers(config: Config) -> tuple[loader.Reader, dict[str, loader.Reader]]:
    """Return the reader of training batches, and the readers of validation batches by task; none if there are none.

    Each process reads its own share. Raises `UserError` if a manifest lacks what its task needs.
    """
    options: dict[str, Any] = dict(
        spec=config.mel,
        data=config.data,
        simulation=Simulation(config.mix, config.degrade, config.mixture, config.enrolment),
        seed=config.seed,
        process=(jax.process_index(), jax.process_count()),
    )
    training = loader.training_reader(config.task, **options)
    return training, loader.validation_readers(config.task, **options) if config.run.valid_batches else {}


def on_mesh(program: Program, mesh: Mesh) -> tuple[State, Callable]:
    """Return shapes and shardings of a program's state on a mesh, and its jitted step; the step donates the state."""
    shapes = jax.eval_shape(program.random_state, jax.random.key(0))
    places = sharding.shardings(shapes, mesh)
    like = jax.tree.map(lambda s, p: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=p), shapes, places)
    across, whole = sharding.batch(mesh), sharding.replicated(mesh)

    @sharding.activations(mesh)
    def step(state, batch):
        return program.step(state, batch)

    return like, jax.jit(step, in_shardings=(places, across), out_shardings=(places, whole), donate_argnums=0)


def batch_shapes(task: Task, spec: audio.MelSpec, data: DataConfig, mesh: Mesh, *, pieces: int) -> Batch:
    """Return shapes and shardings of the longest batch of config section `data` that a step takes on a mesh.

    Raises `UserError` if batches do not divide among the devices, each taking its share in `pieces`.
    """
    plan = loader.Plan((), (), data.buckets, data.seconds, data.multiple, seed=0)
    plan.check_divides(sharding.parts(mesh), pieces)
    longest = int(np.argmax(data.buckets))
    examples, samples = plan.size(longest), data.buckets[longest] * spec.sample_rate
    frames, across = spec.num_frames(round(samples)), sharding.batch(mesh)

    def shape(dtype, *sizes):
        return jax.ShapeDtypeStruct((examples, *sizes), dtype, sharding=across)

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
    out, is_first = out or sys.stderr, jax.process_index() == 0

    # The config, read once
    resolved = inventory.with_phones(config)
    config = read(resolved)
    if config.lora is not None and not config.init_from:
        raise UserError("LoRA needs a base model; set --config.init_from to its run")
    jax.config.update("jax_debug_nans", config.debug.nans)

    # What is trained, on which devices and data
    mesh = sharding.mesh(**config.mesh)
    training, validating = readers(config)
    resolved = _with_updates(resolved, sum(training.plan.counts))
    config = read(resolved)
    program = make_program(config)
    training.plan.check_divides(sharding.parts(mesh), config.accumulate)
    like, train_one = on_mesh(program, mesh)
    sharding.check_processes_agree(resolved.to_json_best_effort(sort_keys=True), "config")
    if is_first:
        checkpoint.write_config(workdir, resolved.to_dict())
    sharding.wait_for_processes("config")

    with contextlib.ExitStack() as stack:
        folder = checkpoint.choose_folder(workdir, config.run.checkpoints)
        saved = stack.enter_context(
            checkpoint.Checkpoints(folder, keep=config.run.keep, keep_every=config.run.keep_every)
        )
        interrupt = stack.enter_context(Interrupt())
        watchdog = stack.enter_context(Watchdog(config.run.hang))

        def say(line):
            if is_first:
                print(line, file=out, flush=True)

        state = _restored_or_new(program, like, config, saved, say)
        first, last = int(state.step), config.optim.updates
        for line in run_overview.describe(like, training.plan, config, mesh):
            say(line)
        say(_starting_line(first, last, config.init_from))
        across = sharding.batch(mesh)
        validate = Validation(
            program.objective,
            validating,
            across,
            sample=dict(config.sample),
            batches=config.run.valid_batches,
            pictures=config.run.pictures,
        )
        reading = loader.batches(training, first=first, last=last, workers=config.run.workers)
        batches = stack.enter_context(contextlib.closing(reading))
        journal = Journal(workdir, first=first, last=last, every=config.run.log, out=out) if is_first else Silence()
        trace = stack.enter_context(Trace(Path(workdir) / "tensorboard", *config.debug.profile))
        pending, bad, seen, began = None, 0, 0, time.perf_counter()
        sizes = set()  # shapes of the batches so far; a step is compiled for each

        for number in range(first, last):
            trace.before(number)
            waited = time.perf_counter()
            batch = next(batches)
            waited = time.perf_counter() - waited
            arrays = {name: batch[name] for name in loader.ARRAYS}
            on_device = sharding.make_global(arrays, across)  # the one crossing in
            size = tuple(leaf.shape for leaf in jax.tree.leaves(arrays))
            with jax.transfer_guard("disallow"):
                with watchdog.pause(size not in sizes):  # compiling may take any time
                    state, metrics = train_one(state, on_device)
                sizes.add(size)
                if pending is not None:  # the step before, read while this one runs
                    _log(journal, pending, clip=config.optim.clip, max_streak=config.run.max_streak)
            done = number + 1
            pending = Step(done, metrics, batch["names"], batch["seconds"], waited)

            bad, seen = bad + len(batch["bad"]), seen + len(batch["names"])
            journal.log_bad_files(batch["bad"])
            if bad > config.run.max_bad * max(seen, FEW):
                raise UserError(
                    f"{bad} of {seen} files were bad, more than run.max_bad={config.run.max_bad}; they are listed "
                    f"in {journal.bad_path}; run `sfjax prepare` again or raise the limit"
                )
            if done % config.run.validate == 0 or done == last:
                with journal.pause(), watchdog.pause():
                    journal.log_validation(done, validate(state, journal, done))
            leaving = interrupt.asked(done) or done == last or done == config.run.stop
            if done % config.run.save == 0 or leaving:
                with watchdog.pause():
                    saved.save(done, state)
            if leaving:
                break
            watchdog.step()
        if pending is not None:
            _log(journal, pending, clip=config.optim.clip, max_streak=config.run.max_streak)
        saved.wait()
        journal.close(int(state.step), time.perf_counter() - began)
    interrupt.end()
    return state


def _with_updates(config, batches):
    """Return the config of a run with the updates that its epochs of `batches` batches take."""
    config = copy.deepcopy(config)
    config.optim.updates = optim.count_updates(batches, epochs=config.optim.epochs, updates=config.optim.updates)
    return config


def _starting_line(first, last, init_from):
    if first >= last:
        return f"the run has finished its {last} updates; to lengthen it, set a larger --config.optim.updates or epochs"
    if first:
        return f"resumed at step {first}; compiling …"
    return f"starting {'from ' + init_from if init_from else 'from scratch'}; compiling …"


def _restored_or_new(program, like, config, saved, say):
    """Return the newest state of a run, or its first one: with the parameters of `init_from`, or from scratch."""
    state = saved.newest(like, pass_damaged=config.run.pass_damaged, say=say)
    if state is not None and config.lora is None:
        return state
    base = release.weights(config.init_from, ema=True) if config.init_from else None
    if state is None:
        return _initial_state(program, like, config, base)
    return _with_frozen(state, like, config.lora, base, saved)


def _initial_state(program, like, config, base):
    """Return the state at step 0: with the parameters of the base model, or from scratch if that is None."""
    places = jax.tree.map(lambda leaf: leaf.sharding, like)
    params_places = lora.join(places.params, places.frozen)
    params = jax.jit(program.objective.init, out_shardings=params_places)(jax.random.key(config.seed))
    if base is not None:
        weights, trained = base
        _check_same_function(config, trained.config)
        # parameters that only some tasks have start afresh, and are dropped where the task does not have them
        weights = {name: leaf for name, leaf in weights.items() if name in params or name not in TASK_PARAMETERS}
        needed = {
            name: leaf for name, leaf in lora.base(params).items() if name in weights or name not in TASK_PARAMETERS
        }
        if jax.tree.map(jnp.shape, needed) != jax.tree.map(jnp.shape, weights):
            raise UserError(
                f"the network in {config.init_from} has other parameter shapes than --config.model; train with the "
                "size of that model, for example configs/enhance.py:box"
            )
        weights_places = lora.base(params_places)
        params = lora.join(jax.device_put(weights, {name: weights_places[name] for name in weights}), params)
    return jax.jit(program.initial_state, out_shardings=places)(params)


def _with_frozen(state, like, adapter, base, saved):
    """Return the state of a LoRA run with the frozen parameters of its base model, checked against the checkpoint."""
    weights, _ = base
    frozen = jax.device_put(lora.split(weights, adapter)[1], jax.tree.map(lambda leaf: leaf.sharding, like.frozen))
    checkpoint.check_frozen(frozen, saved.digests(int(state.step)), str(saved.folder))
    return state.replace(frozen=frozen)


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
        raise UserError(
            f"{config.init_from} uses other log-Mel settings than --config.mel ({different}); set them to the model's"
        )


def _log(journal, step, *, clip, max_streak):
    """Log the metrics of a finished step, and end the run if it has stopped learning."""
    began = time.perf_counter()
    metrics = {name: float(value) for name, value in jax.device_get(step.metrics).items()}
    waits = {"data": step.waited, "device": time.perf_counter() - began}
    clipped = metrics["gradient_norm"] > clip > 0
    journal.log_step(step.done, metrics, seconds=step.seconds, waits=waits, clipped=clipped)
    if metrics["streak"] >= max_streak:
        raise UserError(
            f"no finite gradient in {max_streak} steps, the last {step.done}, on {', '.join(step.names[:4])} …; "
            "lower the learning rate or look at these files"
        )
