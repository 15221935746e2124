"""What training minimises: the initial parameters, the error of a batch, and samples to look at.

`ESTIMATOR` is the paper's: log-Mel → task → loss of flow matching. `sfjax.networks` lists all of them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from sfjax import amplitude_loss, audio, diffusion, flow, masks, separation_loss, sharding
from sfjax.config import Config, ModelConfig
from sfjax.errors import UserError
from sfjax.model import PRECONDITIONS, Estimator, EstimatorConfig
from sfjax.tasks.separate import ALIGNMENT

Batch = dict[str, Any]  # keys are `loader.ARRAYS`: waves, Mels and labels by name, lengths and task [batch]
PROCESSES = {"flow": flow, "diffusion": diffusion}  # config.process; diffusion is a baseline


class Objective(NamedTuple):
    """What training minimises for one network.

    `init(key)` makes parameters. `error(task)` is a function (parameters, batch, keys, t, dropout) → `flow.Error`.
    `draw(task, options)` is a function (parameters, batch, keys) → the Mels `condition`, `sample` and `target`, their
    true `frames`, and a `wave`; None if the network draws no pictures.
    """

    network: Any
    init: Callable
    error: Callable
    draw: Callable | None


class Trainable(NamedTuple):
    """One kind of network, a row of `sfjax.networks.NETWORKS`: how it is trained and loaded.

    `objective(config)` makes its `Objective`. `check(config)` raises `UserError` if samples cannot be drawn as
    the config says. `load(params, config)` makes what inference uses, and `initial(config)` a function from a key to
    the parameters that it takes (see `sfjax.networks.load`). `training(config, rule)` makes an optimizer and
    a training step from a `sfjax.train_step.UpdateRule`; None stands for the step of `sfjax.train_step`. A network that
    only helps a model has a `title` for messages, and `argument` names its parameter of `sfjax.load`. For example, the
    phase net has the title "phase net" and the argument "phase": `sfjax.load("runs/separate", phase="runs/phase")`.
    """

    objective: Callable
    check: Callable
    load: Callable
    initial: Callable
    training: Callable | None = None
    title: str = "model"
    argument: str = ""


def process(name: str) -> Any:
    """Return the module of a generative process by name. Raises `UserError` if it is unknown."""
    if name not in PROCESSES:
        raise UserError(f"unknown process {name!r}; choose from {', '.join(PROCESSES)}")
    return PROCESSES[name]


def estimation(network: Estimator, process: Any, spec: audio.MelSpec, amplitudes: float = 0.0) -> Objective:
    """Return the objective of the estimator, by flow matching or another process.

    `amplitudes` is the weight of `sfjax.amplitude_loss.error` beside the error of the process.
    """
    return Objective(
        network,
        functools.partial(_init, network),
        functools.partial(_error, network, process.loss, spec, amplitudes),
        functools.partial(_draw, network, process.sample, spec),
    )


def sample_mels(
    network: Estimator,
    params: Any,
    sampler: Callable,
    x0: Float[Array, "batch frames mels"],
    inputs: dict[str, Array],
    lengths: Int[Array, " batch"],
    **options: Any,
) -> Float[Array, "batch frames mels"]:
    """Sample Mels from noise `x0` under the network's `inputs`.

    `sampler` is the `sample` function of a process; `options` are the fields of config section `sample`.
    """

    def field(x, t, inputs, lengths):
        return network.apply({"params": params}, x, t, lengths=lengths, **inputs)

    return sampler(field, x0, inputs, lengths, **options)


def _objective(config: Config) -> Objective:
    _check_network(config)
    task: Any = config.task
    network = _network(config, adapter=config.lora, embedding=task.embedding_size)
    way = process(config.process)

    def draw(part, options):
        return _draw(network, way.sample, config.mel, part, options | task.sampling(part))

    return estimation(network, way, config.mel, amplitudes=config.amplitude)._replace(draw=draw)


def _network(config: ModelConfig, **options: Any) -> Estimator:
    task: Any = config.task
    assert isinstance(config.model, EstimatorConfig)  # `sfjax.config.read` chooses it for these tasks
    return Estimator(
        config.model,
        mels=config.mel.bands,
        phones=len(task.phones),
        copies=task.aligned_copies,
        dtype=config.precision.compute,
        **options,
    )


def _check_network(config):
    patch, precondition = config.model.patch, config.model.precondition
    if patch < 1:
        raise UserError(f"config.model.patch must be 1 or more frames, got {patch}; take 1 or 2")
    if config.task.aligned_copies and ALIGNMENT % patch:
        raise UserError(f"aligned copies need a model.patch of 1, 2 or 4 frames, got {patch}; take 2")
    joined = (part.kind for part in config.task.parts.values() if part.count > 1)
    if config.model.lookahead >= 0 and (task := next(joined, None)):
        raise UserError(
            f"task {task!r} cannot be causal, because its input repeats the mixture for each speaker, got "
            f"model.lookahead={config.model.lookahead}; set --config.model.lookahead=-1"
        )
    if precondition not in ("none", *PRECONDITIONS):
        raise UserError(f"unknown model.precondition {precondition!r}; choose from none, {', '.join(PRECONDITIONS)}")
    if precondition != "none" and precondition != config.process:
        raise UserError(
            f"model.precondition={precondition} fits process={precondition}, got process={config.process}; "
            "set it to none"
        )


def _check_sampling(config: ModelConfig) -> None:
    for part in config.task.parts.values():
        process(config.process).check(**dict(config.sample) | config.task.sampling(part))


def _load(params: Any, config: ModelConfig) -> tuple[Estimator, Any]:
    """Return the network without what only training uses; adapters are merged into `params`."""
    return _network(config), jax.device_put(params)


def _initial(config: ModelConfig) -> Callable:
    return functools.partial(_init, _network(config))


ESTIMATOR = Trainable(_objective, _check_sampling, _load, _initial)


def _init(network, key):
    frames = jnp.zeros((1, 8, network.mels))
    number = jnp.zeros((1, 8), jnp.int32)
    labels = {"phones": number if network.phones else None, "copy": number if network.copies else None}
    return network.init(key, frames, jnp.zeros(1), frames, jnp.full(1, 8), **labels)["params"]


def _error(network, loss, spec, amplitudes, task):
    def error(
        params: Any,
        batch: Batch,
        keys: Key[Array, " batch"],
        t: Float[Array, " batch"],
        dropout: Key[Array, ""] | None,
    ) -> flow.Error:
        lengths = batch["lengths"]

        def mel(wav, lengths):
            return audio.log_mel(wav, spec, jnp.minimum(lengths, wav.shape[1]))

        features = {name: sharding.by_example(mel, wav, lengths) for name, wav in batch["waves"].items()}
        features |= {"task": batch["task"], **batch["labels"]}
        keys = jax.vmap(functools.partial(jax.random.split, num=2))(keys)
        example = jax.vmap(task.example)(features, spec.num_frames(lengths), keys[:, 0])
        target, weight, count = example.pop("target"), example.pop("weight"), example.pop("length")
        target = jnp.where(masks.valid(count, target.shape[1])[..., None], target, 0.0)  # padding may hold any values
        compared, recording = example.pop("sources", None), example.pop("recording", None)
        x0 = jax.vmap(lambda key: flow.noise(key, target.shape[1], target.shape[2]))(keys[:, 1])
        rngs = {} if dropout is None else {"dropout": dropout}

        intermediates: dict[str, Any] = {}

        def field(x, t):
            options = dict(lengths=count, train=dropout is not None, rngs=rngs, mutable=["intermediates"])
            v, variables = network.apply({"params": params}, x, t, **options, **example)
            intermediates.update(variables.get("intermediates", {}))
            return v

        def with_amplitudes(squared, estimate):
            """Return the error of each frame as a function of x1."""

            def frame_error(x1):
                total = squared(x1)
                if amplitudes:
                    total = total + amplitudes * amplitude_loss.error(estimate, x1, weight, spec.std)
                if recording is not None:
                    share = amplitude_loss.share_error(estimate, x1, recording["mels"], weight, spec.std)
                    total = total + recording["mask"][:, None] * share
                return total

            return frame_error

        if compared is None:
            return loss(
                field, target, weight, x0, t, lambda squared, estimate: with_amplitudes(squared, estimate)(target)
            )
        bins = amplitude_loss.emphasis(compared.pop("mixture"), weight, spec.std)
        joined, number = separation_loss.Joined(emphasis=bins, **compared), task.compared_sources

        def best_order(squared, estimate):
            frame_error = with_amplitudes(squared, estimate)
            return separation_loss.error(
                frame_error, estimate, x1=target, t=t, joined=joined, count=number, std=spec.std
            )

        errors = loss(field, target, weight, x0, t, best_order)
        if not network.embedding:
            return errors
        (bins,) = intermediates["bins"]
        clusters = separation_loss.cluster_error(bins, target, joined, number) * joined.cluster
        return errors._replace(total=errors.total + (clusters * weight.sum(axis=1)).sum() * spec.bands)

    return error


def _draw(network, sampler, spec, task, options):
    def draw(params: Any, batch: Batch, keys: Key[Array, " batch"]) -> dict[str, Array]:
        waves, lengths = batch["waves"], batch["lengths"]
        features = {name: audio.log_mel(wav, spec, lengths) for name, wav in waves.items()} | batch["labels"]
        frames = spec.num_frames(lengths)
        example = jax.vmap(task.example)(features, frames, keys)
        target, weight, count = example.pop("target"), example.pop("weight"), example.pop("length")
        for only_error in ("sources", "recording"):
            example.pop(only_error, None)
        x0 = jax.vmap(lambda key: flow.noise(key, target.shape[1], target.shape[2]))(keys)
        x1 = sample_mels(network, params, sampler, x0, example, count, **options)
        x1 = jnp.where(weight[..., None] > 0, x1, target)  # shown frames keep their values
        spectrum = audio.stft(waves[task.phase], spec, lengths)
        first = jax.vmap(task.sources)(x1, frames)[:, :1, : spectrum.shape[1]]  # of several sources
        wave = audio.borrow_phase(first, spectrum, spec, lengths)[:, 0]
        return {"condition": example["condition"], "sample": x1, "target": target, "wave": wave, "frames": count}

    return draw
