"""The one loop: a config and a workdir in, checkpoints and curves out."""

from __future__ import annotations

import contextlib
import functools
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float

from sfjax import audio, checkpoint, flow, lora, optim, precision, release, sharding, tasks
from sfjax.data import inventory, loader
from sfjax.errors import UserError
from sfjax.interrupt import Interrupt
from sfjax.journal import Journal, Silence, Trace
from sfjax.model import PRECONDITIONS, Estimator
from sfjax.objective import Batch, Objective, estimation
from sfjax.process import process
from sfjax.tasks.separate import ALIGNMENT
from sfjax.text import durations
from sfjax.validation import Validation
from sfjax.vocoder import gan, networks, phase

OWN = (*optim.PHONES, "copy_table", "embedding")  # parameters of some tasks alone


class State(flax.struct.PyTreeNode):
    """All that a run carries from step to step.

    `step` counts batches, `skipped` those whose gradients were not finite, `streak` the last ones of these in a row;
    `scale` is that of the loss. `params` are those that are trained, `ema` their average; `frozen` are the others,
    which checkpoints leave out.
    """

    step: Any  # typed Any because shapes, shardings and restore targets stand in the same tree
    params: Any
    ema: Any
    frozen: Any
    opt_state: Any
    scale: Any
    skipped: Any
    streak: Any


def start(
    params: Any, tx: optax.GradientTransformation, policy: precision.Policy, adapter: lora.Adapter | None
) -> State:
    """A state at step 0 with the given parameters, of which a run with this adapter trains some."""
    zero = lambda: jnp.zeros((), jnp.int32)
    params, frozen = lora.split(params, adapter)
    ema = jax.tree.map(jnp.copy, params)
    return State(zero(), params, ema, frozen, tx.init(params), precision.start(policy), zero(), zero())


def step(
    state: State,
    batch: Batch,
    *,
    seed: int,
    error: Callable,
    tx: optax.GradientTransformation,
    rate: optax.Schedule,
    policy: precision.Policy,
    decay: float,
    pieces: int,
    early: float,
) -> tuple[State, dict[str, Float[Array, ""]]]:
    """One batch: the gradient of total error over total count, in `pieces` one after the other, and an update.

    Masks, times and noise follow from (seed, step, example). A step without finite gradients changes nothing but the
    counters.
    """
    now = jax.random.fold_in(jax.random.key(seed), state.step)
    count, values = len(batch["lengths"]), sum(x.size for x in jax.tree.leaves((batch["waves"], batch["labels"])))
    keys = jax.vmap(lambda i: jax.random.fold_in(now, i))(jnp.arange(count))
    keys, key_t = jnp.unstack(jax.vmap(jax.random.split)(keys), axis=1)
    t = flow.early_times(jax.vmap(jax.random.uniform)(key_t), early)
    dropout = jax.random.split(jax.random.fold_in(now, count), pieces)

    # the gradient is that of scale · (about the mean error): a power of two, so that nothing is rounded
    unit = state.scale.value / 2 ** math.ceil(math.log2(values))

    def piece_error(params, piece):
        found = error(lora.join(params, state.frozen), *piece)
        return found.total * unit, (found.total, found.count)

    def add(sums, piece):
        gradient, (total, count) = jax.grad(piece_error, has_aux=True)(state.params, piece)
        return jax.tree.map(jnp.add, sums, (total, count, gradient)), None

    examples = (batch, keys, t)
    if pieces == 1:
        gradient, (total, count) = jax.grad(piece_error, has_aux=True)(state.params, (*examples, dropout[0]))
    else:
        # every piece takes its share of each device's examples
        cut = jax.tree.map(lambda x: x.reshape(-1, pieces, *x.shape[1:]).swapaxes(0, 1), examples)
        zeros = (jnp.zeros(()), jnp.zeros(()), jax.tree.map(jnp.zeros_like, state.params))
        (total, count, gradient), _ = jax.lax.scan(add, zeros, (*cut, dropout))
    gradient = jax.tree.map(lambda g: g / unit / count, gradient)
    norm = optax.tree.norm(gradient)
    finite = jnp.isfinite(norm) & jnp.isfinite(total)

    gradient = jax.tree.map(lambda g: jnp.where(finite, g, 0.0), gradient)
    updates, opt_state = tx.update(gradient, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    ema = optim.average(state.ema, params, state.step - state.skipped, decay)
    old = (state.params, state.ema, state.opt_state)
    params, ema, opt_state = jax.tree.map(lambda new, old: jnp.where(finite, new, old), (params, ema, opt_state), old)
    bad = (~finite).astype(jnp.int32)
    metrics = {
        "loss": total / count,
        "gradient_norm": norm,
        "learning_rate": rate(state.step - state.skipped),
        "loss_scale": state.scale.value,
        "skipped": state.skipped + bad,
        "streak": (state.streak + 1) * bad,
    }
    scale, streak = precision.adjust(state.scale, finite, policy), (state.streak + 1) * bad
    return State(state.step + 1, params, ema, state.frozen, opt_state, scale, state.skipped + bad, streak), metrics


class Program(NamedTuple):
    """What a config trains: `init(key)` and `start(params)` make a State, `step(state, batch)` advances it.

    `check()` raises `UserError` if samples cannot be drawn as the config says.
    """

    spec: audio.MelSpec
    task: Any
    objective: Objective
    adapter: lora.Adapter | None
    init: Callable
    start: Callable
    step: Callable
    check: Callable

    @property
    def network(self) -> Any:
        """The network that is trained."""
        return self.objective.network


def program(config: Any) -> Program:
    """The program of a config, for any mesh."""
    spec, task, policy = audio.MelSpec(**config.mel), tasks.make(**config.task), precision.policy(config.precision)
    adapter, how = lora.make(**config.lora), process(config.process)
    if not 0 <= config.early <= 1:
        raise UserError(f"early wants a share from 0 to 1, got {config.early}; take 0 for even times")
    if not 0 <= config.amplitude < math.inf:
        raise UserError(f"amplitude wants a weight of 0 or more, got {config.amplitude}; take 0 for the paper's loss")
    made = _objective(config, task, spec, adapter, how, policy.compute)
    tx = rule = optim.optimizer(**config.optim)
    rate = optim.schedule(**{name: config.optim[name] for name in ("peak", "end", "warmup", "updates")})
    advance = functools.partial(
        step, seed=config.seed, error=made.error(task), tx=tx, rate=rate, policy=policy, decay=config.ema,
        pieces=config.accumulate, early=config.early,
    )  # fmt: skip
    if isinstance(task, tasks.Vocode) and networks.is_adversarial(config):
        tx = gan.optimizers(rule)
        advance = functools.partial(
            gan.step, section=config.vocoder, task=task, spec=spec, seed=config.seed, rule=rule, rate=rate,
            decay=config.ema,
        )  # fmt: skip
    begin = functools.partial(start, tx=tx, policy=policy, adapter=adapter)
    return Program(
        spec, task, made, adapter,
        init=lambda key: begin(made.init(key)),
        start=begin,
        step=advance,
        check=lambda: how.check(**config.sample),
    )  # fmt: skip


def _objective(config, task, spec, adapter, how, dtype):
    phones = len(tasks.phones(task))
    if isinstance(task, tasks.Phase):
        return phase.objective(phase.PhaseNet(**config.phase, spec=spec, dtype=dtype))
    if isinstance(task, tasks.Vocode):
        return networks.objective(config, spec)
    if isinstance(task, tasks.Durations):
        return durations.objective(
            durations.DurationModel(**config.model, phones=phones, size=config.mel.bands, dtype=dtype)
        )
    _check_network(config, task)
    network = Estimator(
        **config.model, mels=config.mel.bands, adapter=adapter, phones=phones, copies=tasks.copies(task),
        embedding=tasks.embedding(task), dtype=dtype,
    )  # fmt: skip
    return estimation(network, how, spec, amplitudes=config.amplitude)


def _check_network(config, task):
    patch, precondition = config.model.patch, config.model.precondition
    if patch < 1:
        raise UserError(f"model.patch wants 1 or more frames, got {patch}; take 1 or 2")
    if tasks.copies(task) and ALIGNMENT % patch:
        raise UserError(f"aligned copies need a model.patch of 1, 2 or 4 frames, got {patch}; take 2")
    if precondition not in ("none", *PRECONDITIONS):
        raise UserError(f"unknown model.precondition {precondition!r}; choose from none, {', '.join(PRECONDITIONS)}")
    if precondition != "none" and precondition != config.process:
        raise UserError(
            f"model.precondition={precondition} fits process={precondition}, got process={config.process}; "
            "set it to none"
        )


def _check_same_function(config, trained):
    """Parameters of equal shapes compute something else where one of these fields differs."""
    for field in ("heads", "precondition"):
        before, now = trained["model"].get(field), config.model.get(field)
        if before != now:
            raise UserError(
                f"{config.init_from} was trained with model.{field}={before}, got {now}; set "
                f"--config.model.{field}={before}"
            )


def on_mesh(made: Program, mesh: Mesh) -> tuple[State, Callable]:
    """The shapes and shardings of a program's state on a mesh, and its jitted step, to which the state is donated."""
    shapes = jax.eval_shape(made.init, jax.random.key(0))
    places = sharding.shardings(shapes, mesh)
    like = jax.tree.map(lambda s, p: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=p), shapes, places)
    across, whole = sharding.batch(mesh), sharding.replicated(mesh)

    @sharding.activations(mesh)
    def step(state, batch):
        return made.step(state, batch)

    return like, jax.jit(step, in_shardings=(places, across), out_shardings=(places, whole), donate_argnums=0)


def batch_shapes(config: Any, made: Program, mesh: Mesh) -> Batch:
    """The shapes and shardings of the longest batch that a program's step takes."""
    plan = loader.Plan((), (), config.data.buckets, config.data.seconds, config.data.multiple, config.seed)
    _check_sizes(plan, sharding.parts(mesh), config.accumulate)
    longest = int(np.argmax(config.data.buckets))
    examples, samples = plan.size(longest), config.data.buckets[longest] * made.spec.sample_rate
    place = sharding.batch(mesh)
    one = lambda dtype, *shape: jax.ShapeDtypeStruct((examples, *shape), dtype, sharding=place)
    waves = {name: one(jnp.float32, round(samples * share)) for name, share in made.task.columns.items()}
    frames = made.spec.frames(round(samples))
    mels = {
        name: one(jnp.float32, count, frames, made.spec.bands) for name, count in tasks.predicted(made.task).items()
    }
    labels = {name: one(jnp.int32, round(frames * share)) for name, share in tasks.labels(made.task).items()}
    return {"waves": waves, "mels": mels, "labels": labels, "lengths": one(jnp.int32), "task": one(jnp.int32)}


def run(config: Any, workdir: str | Path, *, out: Any = None) -> State:
    """Trains by `config` in `workdir`, or goes on from its newest checkpoint; returns the last state.

    It says how it goes on `out`, a text file, or on standard error.

    `config` is a ConfigDict with the fields of `configs/default.py`. SIGINT and SIGTERM end the run after the step
    under way, saved, with `KeyboardInterrupt` and `Preempted`. Raises `UserError` for whatever a user can put right,
    before anything is compiled where that is possible. Every process of a run calls it with the same config.
    """
    out = out or sys.stderr

    # What is trained, on what, and where it lives
    jax.config.update("jax_debug_nans", config.debug.nans)
    config = inventory.with_phones(config)
    made = program(config)
    read, read_valid = readers(config, made.task, made.spec)
    made.check()
    mesh = sharding.mesh(**config.mesh)
    _check_sizes(read.plan, sharding.parts(mesh), config.accumulate)
    sharding.agree(config.to_json_best_effort(sort_keys=True), "config")
    if jax.process_index() == 0:
        checkpoint.write_config(workdir, config.to_dict())
    sharding.meet("config")
    like, train_step = on_mesh(made, mesh)
    across = sharding.batch(mesh)

    with contextlib.ExitStack() as stack:
        folder = checkpoint.place(workdir, config.run.checkpoints)
        saved = stack.enter_context(
            checkpoint.Checkpoints(folder, keep=config.run.keep, keep_every=config.run.keep_every)
        )
        interrupt = stack.enter_context(Interrupt())
        trace = stack.enter_context(Trace(Path(workdir) / "tensorboard", *config.debug.profile))
        # Resume this workdir, or start from another's parameters, or from scratch
        say = lambda line: print(line, file=out) if jax.process_index() == 0 else None
        state = _first_state(config, saved, like, made, say)
        first, last = int(state.step), config.optim.updates
        journal = (
            Journal(workdir, first=first, out=out, every=config.run.log) if jax.process_index() == 0 else Silence()
        )
        validate = Validation(config, made, read_valid, across)
        reading = loader.batches(read, first=first, last=last, workers=config.run.workers)
        batches = stack.enter_context(contextlib.closing(reading))
        pending, bad, seen, began = None, 0, 0, time.perf_counter()

        for number in range(first, last):
            trace.before(number)
            waited = time.perf_counter()
            batch = next(batches)
            waited = time.perf_counter() - waited
            on_device = sharding.place({name: batch[name] for name in loader.ARRAYS}, across)  # the one crossing in
            with jax.transfer_guard("disallow"):
                state, metrics = train_step(state, on_device)
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


def readers(config: Any, task: Any, spec: audio.MelSpec) -> tuple[loader.Reader, dict[str, loader.Reader]]:
    """The readers of training batches and, by the name of each task, of validation batches; none if there are none."""
    parts = tasks.parts(task)
    columns = {name: part.columns for name, part in parts.items()}
    labels = {name: tasks.labels(part) for name, part in parts.items()}
    share = (jax.process_index(), jax.process_count())

    def sources(manifests, split):
        return loader.sources(
            manifests, split=split, columns=columns, predicted=tasks.predicted(task), labels=labels,
            phones=tasks.phones(task), mix=config.mix, degrade=config.degrade, mixture=config.mixture,
            rate=spec.sample_rate, hop=spec.hop,
        )  # fmt: skip

    def reader(found, columns, labels):
        plan = loader.Plan(
            tuple(source.manifest.seconds / source.share for source in found),
            tuple(source.weight for source in found),
            config.data.buckets, config.data.seconds, config.data.multiple, config.seed,
        )  # fmt: skip
        return loader.Reader(
            found, plan, columns, tasks.predicted(task), labels, spec.sample_rate, spec.hop, spec.bands, share
        )

    train = reader(sources(config.data.train, config.data.split), task.columns, tasks.labels(task))
    if not config.run.valid_batches:
        return train, {}
    valid = sources(config.data.valid or config.data.train, config.data.valid_split)
    by_task = {name: tuple(one for one in valid if one.task == i) for i, name in enumerate(parts)}
    return train, {name: reader(found, columns[name], labels[name]) for name, found in by_task.items() if found}


def _check_sizes(plan, parts, pieces):
    if pieces < 1:
        raise UserError(f"config.accumulate wants the pieces that a batch is cut into, 1 or more, got {pieces}")
    for bucket, seconds in enumerate(plan.buckets):
        size = plan.size(bucket)
        if size % (parts * pieces):
            raise UserError(
                f"a batch of {size} examples of {seconds} s does not divide into mesh {parts} × accumulate {pieces}; "
                f"set --config.data.multiple={parts * pieces}"
            )


def _first_state(config, saved, like, made, say):
    state = saved.newest(like, pass_damaged=config.run.pass_damaged, say=say)
    adapter, places = made.adapter, jax.tree.map(lambda leaf: leaf.sharding, like)
    if state is not None and adapter is None:
        return state
    if adapter is not None and not config.init_from:
        raise UserError("adapters want a model to stand beside; set --config.init_from to its run")
    if state is not None:
        base, _ = release.weights(config.init_from, ema=True)
        frozen = jax.device_put(lora.split(base, adapter)[1], places.frozen)
        checkpoint.check_frozen(frozen, saved.digests(int(state.step)), str(saved.folder))
        return state.replace(frozen=frozen)
    params = lora.join(places.params, places.frozen)
    fresh = jax.jit(made.objective.init, out_shardings=params)(jax.random.key(config.seed))
    if config.init_from:
        base, trained = release.weights(config.init_from, ema=True)
        _check_same_function(config, trained.config)
        # a model that knows no phones, or no copies of a recording, learns them; one that needs none forgets them
        base = {name: leaf for name, leaf in base.items() if name in fresh or name not in OWN}
        kept = {name: leaf for name, leaf in lora.base(fresh).items() if name in base or name not in OWN}
        here, there = (jax.tree.map(lambda leaf: leaf.shape, tree) for tree in (kept, base))
        if here != there:
            raise UserError(f"{config.init_from} holds another network than --config.model describes; use its size")
        there = lora.base(params)
        fresh = lora.join(jax.device_put(base, {name: there[name] for name in base}), fresh)
    return jax.jit(made.start, out_shardings=places)(fresh)


def _after(journal, pending, config):
    """Reads the metrics of a step that is done, and ends the run if it has stopped learning."""
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
