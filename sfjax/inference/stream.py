"""Enhance a recording while it arrives: a causal model, block by block, with a small state."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Complex, Float, Int, Key

from sfjax import audio, flow, masks
from sfjax.errors import UserError
from sfjax.inference import waveform
from sfjax.model import Estimator, EstimatorConfig
from sfjax.transformer import PAST


class Latency(NamedTuple):
    """The parts of the algorithmic latency, in samples."""

    window: int
    token: int
    lookahead: int

    @property
    def total(self) -> int:
        """Return the number of samples after an input sample that its output can depend on, plus one."""
        return sum(self)


def latency(spec: audio.MelSpec, config: EstimatorConfig) -> Latency:
    """Compute how far the output of a causal model is behind its input.

    An output sample is a sum of windows; the last one ends up to `window` samples later. A token waits for its last
    frame, and the network for `lookahead` frames after it.
    """
    return Latency(spec.window, spec.hop * (config.patch - 1), spec.hop * config.lookahead)


class Stream:
    """Enhance the samples of one recording in order.

    `push` takes any number of samples and returns those that are finished; `flush` ends the recording and returns the
    rest. Together they are as long as the recording. At the model's sample rate, they equal `Model.enhance` of the
    whole recording, unless it is so long that this takes chunks. After n samples, at least n − `latency.total` have
    been returned.

    `samples` counts the samples of a block, which the network computes at once: pushes of this size take equal time.
    The program is compiled when the stream is made.
    """

    def __init__(self, program: Program, params: Any, seed: int, name: str):
        config, spec = program.network.config, program.own
        self.name, self.rate, self.samples = name, spec.sample_rate, config.patch * spec.hop
        self.latency = latency(spec, config)
        self._program, self._params, self._key = program, params, jax.random.key(seed)
        self._margin = (spec.window - spec.hop) // 2  # samples that are reflected at both ends, as in `audio.stft`
        self._lead = self._margin + config.lookahead * spec.hop  # output before the first sample
        self._waiting = np.zeros(0, np.float32)  # samples that do not fill a block
        self._state: State | None = None
        self._pushed = self._returned = 0
        self._ended = False
        self._step(program.start(np.zeros(spec.window - spec.hop, np.float32)), np.zeros(self.samples, np.float32), 0)

    def __repr__(self) -> str:
        return f"<Stream of {self.name} at {self.rate} Hz: {1000 * self.latency.total / self.rate:.0f} ms behind>"

    def push(self, samples: Any) -> Float[np.ndarray, " _"]:
        """Take the next samples, [samples], and return those that are finished.

        They are floats in [-1, 1] or integers. Raises `UserError` for others, and after `flush`.
        """
        samples = self._checked(samples)
        self._pushed += len(samples)
        self._waiting = np.concatenate([self._waiting, samples])
        if self._state is None and len(self._waiting) > self._margin:
            self._begin()
        return self._advance()

    def flush(self) -> Float[np.ndarray, " _"]:
        """End the recording and return its last samples."""
        self._check_open()
        self._ended = True
        hop = self._program.own.hop
        length = max(self._pushed, self._program.own.window)  # zeros are appended to a shorter recording
        self._waiting = np.pad(self._waiting, (0, -(-length // hop) * hop - self._pushed))
        if self._state is None:
            self._begin()
        assert self._state is not None
        before = np.concatenate([np.asarray(self._state.samples), self._waiting])
        self._waiting = np.concatenate([self._waiting, before[-self._margin - 1 : -1][::-1]])
        pieces = [self._advance()]
        frames = len(self._waiting) // hop  # fewer than a block holds
        self._waiting = np.pad(self._waiting, (0, self.samples - len(self._waiting)))
        while self._returned < self._pushed:
            pieces.append(self._block(frames))
            self._waiting, frames = np.zeros(self.samples, np.float32), 0
        return np.concatenate(pieces)

    def _checked(self, samples):
        self._check_open()
        if np.ndim(samples) != 1:
            raise UserError(f"expected mono samples [samples], got shape {np.shape(samples)}; average the channels")
        samples = waveform.mono(samples, self.rate)[0]
        if (peak := float(np.abs(samples).max(initial=0.0))) > waveform.LOUD:
            raise UserError(f"samples must be in [-1, 1], got up to {peak:g}; divide them by their full scale")
        return samples

    def _check_open(self):
        if self._ended:
            raise UserError("the stream has ended; start another one with model.stream()")

    def _begin(self):
        """Reflect the first samples, and put all but whole blocks into the state."""
        reflected = np.concatenate([self._waiting[1 : self._margin + 1][::-1], self._waiting])
        history = self._program.own.window - self._program.own.hop
        self._state = self._program.start(reflected[:history])
        self._waiting = reflected[history:]

    def _advance(self):
        """Compute all whole blocks of the waiting samples."""
        pieces = [np.zeros(0, np.float32)]
        while self._state is not None and len(self._waiting) >= self.samples:
            pieces.append(self._block(self._program.network.config.patch))
        return np.concatenate(pieces)

    def _block(self, frames):
        """Compute a block, whose first `frames` frames lie in the recording."""
        self._state, wave = self._step(self._state, self._waiting[: self.samples], frames)
        self._waiting = self._waiting[self.samples :]
        skipped = min(self._lead, len(wave))
        self._lead -= skipped
        wave = wave[skipped : skipped + self._pushed - self._returned]
        self._returned += len(wave)
        return wave

    def _step(self, state, samples, frames):
        state, wave = _step(self._params, state, samples, np.int32(frames), self._key, program=self._program)
        return state, np.asarray(wave)


class State(NamedTuple):
    """What a stream keeps between two blocks."""

    past: Any  # of the network: keys, values and inputs of convolutions
    samples: Float[Array, " samples"]  # the last ones, window − hop
    spectrum: Complex[Array, "frames bins"]  # the last `lookahead` frames, for which the network has no output yet
    inside: Bool[Array, " frames"]  # which of them lie in the recording
    sums: Float[Array, "2 samples"]  # of overlapping windows and of their weights, window − hop
    frame: Int[Array, ""]  # number of the next frame


@dataclasses.dataclass(frozen=True)
class Program:
    """What defines the compiled step: `spec` is the model's, `own` the same at the rate of the stream."""

    network: Estimator
    task: Any
    spec: audio.MelSpec
    own: audio.MelSpec
    reconstruct: str

    def start(self, samples: Float[np.ndarray, " samples"]) -> State:
        """Return the state before the first block, which follows `samples`."""
        ahead, history = self.network.config.lookahead, self.own.window - self.own.hop
        block = jnp.zeros((1, self.network.config.patch, self.spec.bands))
        length = jnp.zeros(1, jnp.int32)
        shapes = jax.eval_shape(self.network.init, jax.random.key(0), block, jnp.zeros(1), block, length)
        return State(
            past=jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes[PAST]),
            samples=jnp.asarray(samples),
            spectrum=jnp.zeros((ahead, self.own.n_fft // 2 + 1), jnp.complex64),
            inside=jnp.zeros(ahead, bool),
            sums=jnp.zeros((2, history)),
            frame=jnp.zeros((), jnp.int32),
        )

    def model_bins(self, spectrum: Complex[Array, "frames bins"]) -> Complex[Array, "1 frames _"]:
        """Return the bins that the model knows, as of a recording at its own rate: bins are equally far apart in Hz."""
        scale = self.spec.sample_rate / self.own.sample_rate
        return spectrum[None, :, : self.spec.n_fft // 2 + 1] * scale


@functools.partial(jax.jit, static_argnames="program", donate_argnames="state")
def _step(
    params: Any,
    state: State,
    samples: Float[Array, " samples"],
    count: Int[Array, ""],
    key: Key[Array, ""],
    *,
    program: Program,
) -> tuple[State, Float[Array, " samples"]]:
    """Compute the next block of output; `count` frames of the block lie in the recording."""
    network, spec, own = program.network, program.spec, program.own
    patch, ahead = network.config.patch, network.config.lookahead
    joined = jnp.concatenate([state.samples, samples])
    spectrum = audio.spectra(joined[None], own)[0]
    key = jax.random.fold_in(key, 0)  # of the first source, as in `sfjax.inference.model`

    def noise(first):
        return flow.noise(key, patch, spec.bands, first)[None]

    features = {program.task.phase: audio.log_mel_of(program.model_bins(spectrum), spec)[0]}
    inputs = jax.tree.map(lambda leaf: leaf[None], program.task.condition(features, count))
    v, variables = network.apply(
        {"params": params, PAST: state.past},
        noise(state.frame),
        jnp.zeros(1),
        lengths=count[None],
        mutable=[PAST],
        **inputs,
    )
    # the output of the network, and from here on all else, is `ahead` frames old
    mels = noise(state.frame - ahead) + v
    spectra = jnp.concatenate([state.spectrum, spectrum])
    inside = jnp.concatenate([state.inside, masks.valid(count, patch)])
    gains = audio.GAINS[program.reconstruct](mels[:, None], program.model_bins(spectra[:patch]), spec)
    frames, weight = audio.windows(audio.gain_spectra(gains, spectra[None, :patch], own)[0], own)
    pair = jnp.stack([frames[0], jnp.broadcast_to(weight, frames[0].shape)])
    sums = audio.overlap_add(jnp.where(inside[:patch, None], pair, 0.0), own)
    sums = sums.at[:, : state.sums.shape[1]].add(state.sums)
    size = len(samples)
    state = State(variables[PAST], joined[size:], spectra[patch:], inside[patch:], sums[:, size:], state.frame + patch)
    return state, sums[0, :size] / jnp.maximum(sums[1, :size], audio.TINY)


def start(model: Any, sample_rate: Any, *, seed: int) -> Stream:
    """Start a stream of a causal model; see `sfjax.inference.model.Model.stream`."""
    network, spec = model.network, model.spec
    task = model.enhancing()
    if not network.config.causal:
        raise UserError(
            f"{model.name} sees the whole recording, a stream needs a causal model; train one with configs/live.py"
        )
    options = model.sampling({}, task)
    if model.process is not flow or (options["solver"], options["steps"], options["guidance"]) != ("euler", 1, 0.0):
        raise UserError(
            f"a stream takes one Euler step of flow matching without guidance, {model.name} has "
            f"{options['steps']} of {options['solver']} with guidance {options['guidance']:g}; see configs/live.py"
        )
    if not model.has_gains:
        raise UserError(
            f"a stream needs spectral gains, got {model.reconstruct} or a phase net; set reconstruct='mask'"
        )
    rate = spec.sample_rate if sample_rate is None else waveform.checked_rate(sample_rate)
    own = audio.at_rate(spec, rate)
    same_times = own.hop * spec.sample_rate == spec.hop * rate and own.n_fft * spec.sample_rate == spec.n_fft * rate
    if rate < spec.sample_rate or not same_times:
        raise UserError(
            f"a stream needs a sample rate of {spec.sample_rate} Hz or a multiple of 1000 Hz above it, got {rate}; "
            f"resample to {spec.sample_rate}"
        )
    return Stream(Program(network, task, spec, own, model.reconstruct), model.params, seed, model.name)
