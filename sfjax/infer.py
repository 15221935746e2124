"""A trained model at work: recordings in, recordings out, whatever their rate and length, in bounded memory."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float, Int, Key, Shaped

from sfjax import audio, companions, editing, flow, precision, release, tasks, voice
from sfjax.chunks import Chunk, Job, cut, padded
from sfjax.companions import Phase
from sfjax.editing import Edit
from sfjax.errors import UserError
from sfjax.model import Estimator
from sfjax.process import process
from sfjax.text import pronounce
from sfjax.text.phones import Line
from sfjax.vocoder.hifigan import Vocoder
from sfjax.vocoder.phase import PhaseNet, spectra_to_waves
from sfjax.voice import Speech
from sfjax.weights import ENHANCER


def load(
    folder: str | Path = ENHANCER,
    *,
    ema: bool = True,
    step: int | None = None,
    wave: str | None = None,
    adapter: str | Path | None = None,
    phase: str | Path | None = None,
    vocoder: str | Path | None = None,
    timing: str | Path | None = None,
) -> Model:
    """The model of a run or of an exported folder: averaged parameters (or raw ones) of its newest checkpoint (or that
    of `step`). A folder may be called by name: sfjax://enhance and the other names of `sfjax.weights` are in this
    package, hf://OWNER/NAME and hf://OWNER/NAME@REVISION on a hub.

    `wave` says how Mels and a recording become a wave, other than the run does: one of `sfjax.audio.WAVES`. `adapter`
    is another such folder, whose adapters join it for what they were trained for; `phase` one with a phase
    net, which makes its waves from those of a recording; `vocoder` one with a vocoder, or a published HiFi-GAN, which
    makes waves from nothing; `timing` one with a model of durations. Raises `UserError` for what is none of these.
    """
    params, found = release.weights(folder, ema=ema, step=step)
    model = _model(params, found)
    model = model if adapter is None else model.adapted(adapter)
    return dataclasses.replace(
        model,
        wave=model.wave if wave is None else audio.known(wave),
        phase=None if phase is None else companions.load_phase(phase),
        vocoder=None if vocoder is None else companions.load_vocoder(vocoder, model.spec),
        timing=None if timing is None else companions.load_timing(timing),
    )


def _model(params, found):
    config = found.config
    task = tasks.make(**config["task"])
    for kind, flag in ((tasks.Phase, "phase"), (tasks.Vocode, "vocoder"), (tasks.Durations, "timing")):
        if isinstance(task, kind):
            raise UserError(f"{found.name} was trained to {tasks.names(task)}, to help a model; give it as --{flag}")
    spec = audio.MelSpec(**config["mel"])
    dtype = precision.policy(config["precision"]).compute
    phones = len(tasks.phones(task))
    network = Estimator(
        **config["model"], mels=spec.bands, phones=phones, copies=tasks.copies(task), dtype=dtype
    )  # adapters are merged
    section = dict(config["infer"])
    wave = audio.known(section.pop("wave"))
    return Model(
        network, jax.device_put(release.used(params)), task, process(config["process"]), spec,
        config["sample"], section, wave, f"{found.name}, step {found.step}",
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Model:
    """A network with its parameters and how it is used; `options` are the defaults of sampling (config `sample`), and
    `wave` names one of `sfjax.audio.WAVES`, for which a `phase` net stands in."""

    network: Estimator
    params: Any
    task: Any
    process: Any
    spec: audio.MelSpec
    options: dict[str, Any]
    chunking: dict[str, Any]
    wave: str
    name: str
    phase: Phase | None = None
    vocoder: Vocoder | None = None
    timing: Callable | None = None  # a `sfjax.voice.Timing`

    def adapted(self, folder: str | Path) -> Model:
        """This network with the adapters of a run or of an exported folder, for what they were trained for."""
        found = release.trained(folder, ema=True)
        helpers = dict(phase=self.phase, vocoder=self.vocoder, timing=self.timing)
        return dataclasses.replace(_model(release.adapted(self.params, found), found), **helpers)

    def enhance(
        self, noisy: Float[np.ndarray, ...], sample_rate: int, *, seed: int = 0, **options: Any
    ) -> Float[np.ndarray, " samples"]:
        """Clean speech from a noisy recording at any rate in Hz; same rate and length.

        `options` replace those of config section `sample`: solver, steps, guidance, sway, tolerance. Raises `UserError`
        for a wave that is not one-dimensional, finite, audible and longer than a window.
        """
        return self.treat(self.enhancing(), noisy, sample_rate, seed=seed, **options)[0]

    def separate(
        self, mixture: Float[np.ndarray, ...], sample_rate: int, *, speakers: int = 2, seed: int = 0, **options: Any
    ) -> Float[np.ndarray, "speakers samples"]:
        """Each speaker of a mixture; all else as in `enhance`."""
        return self.treat(self.separating(speakers), mixture, sample_rate, seed=seed, **options)

    def speak(
        self,
        text: str,
        *,
        prompt: tuple[Float[np.ndarray, ...], int, str | Line] | None = None,
        lexicon: dict[str, tuple[str, ...]] | None = None,
        lines: Sequence[Line] | None = None,
        speed: float = 1.0,
        seed: int = 0,
        **options: Any,
    ) -> Speech:
        """A text, spoken in the voice of a prompt: its wave, its rate in Hz and what is said in it.

        What is said is a text, which pocketsphinx aligns, or an alignment as a line. The words are those of `lexicon`,
        by default CMU's; others are spelled by rule. `lines` fix how long each phone lasts (`sfjax.text.timing`);
        `options` as in `enhance`. Raises `UserError` for what cannot be said.
        """
        return voice.speak(
            self, text, prompt=voice.prompt(*prompt, model=self) if prompt else None, lexicon=_lexicon(lexicon),
            speed=speed, lines=lines, seed=seed, options=options,
        )  # fmt: skip

    def edit(
        self,
        recording: Shaped[np.ndarray, ...],
        sample_rate: int,
        *,
        old: str | Line,
        new: str,
        lexicon: dict[str, tuple[str, ...]] | None = None,
        speed: float = 1.0,
        seed: int = 0,
        **options: Any,
    ) -> Edit:
        """A recording in which `new` is said instead of `old`, its text or its alignment as a line.

        The rest of it stays as it is, sample for sample; all else as in `speak`.
        """
        return editing.edit(
            self, recording, sample_rate, old=old, new=new, lexicon=_lexicon(lexicon), speed=speed, seed=seed,
            options=options,
        )  # fmt: skip

    def infill(
        self,
        recording: Shaped[np.ndarray, ...],
        sample_rate: int,
        *,
        gaps: Sequence[tuple[int, int]],
        seed: int = 0,
        **options: Any,
    ) -> Shaped[np.ndarray, ...]:
        """A recording whose `gaps`, spans of samples, are filled; the rest stays as it is, sample for sample."""
        return editing.infill(self, recording, sample_rate, gaps=gaps, seed=seed, options=options)

    @property
    def phones(self) -> tuple[str, ...]:
        """The phones that this model knows; none if it was not trained to speak."""
        return tasks.phones(self.task)

    def filling(self) -> Any:
        """The task of finding frames of a recording, as this model learned it; `UserError` if it did not."""
        found = tasks.choose(self.task, tasks.Speak) or tasks.choose(self.task, tasks.Pretrain)
        if found is None:
            raise UserError(f"{self.name} was trained to {tasks.names(self.task)}, not to speak or to fill gaps")
        return found

    def enhancing(self) -> tasks.Enhance:
        """The task of enhancement, as this model learned it; `UserError` if it did not."""
        found = tasks.choose(self.task, tasks.Enhance)
        if found is None:
            raise UserError(f"{self.name} was trained to {tasks.names(self.task)}, not to enhance")
        return found

    def separating(self, speakers: int) -> tasks.Separate:
        """The task of separating so many speakers, as this model learned it; `UserError` if it did not."""
        found = tasks.choose(self.task, tasks.Separate, speakers=speakers)
        if found is None:
            raise UserError(f"{self.name} was trained to {tasks.names(self.task)}, not to separate {speakers} speakers")
        return found

    def treat(
        self, task: Any, wave: Float[np.ndarray, ...], sample_rate: int, *, seed: int = 0, **options: Any
    ) -> Float[np.ndarray, "sources samples"]:
        """What `task`, also one of your own, makes of a recording; all else as in `enhance`."""
        wave = np.asarray(wave, np.float32)
        if wave.ndim != 1 or not np.isfinite(wave).all():
            raise UserError(f"expected a finite one-dimensional wave, got shape {wave.shape}; average its channels")
        pieces: list[np.ndarray] = []
        job = Job("wave", lambda: iter([audio.resample(wave, sample_rate, self.spec.sample_rate)]), pieces.append)
        self.run([job], task, seed=seed, **options)
        if job.failure:
            raise UserError(job.failure)
        done = [audio.resample(one, self.spec.sample_rate, sample_rate) for one in np.concatenate(pieces, axis=1)]
        return np.stack([np.pad(one[: len(wave)], (0, max(len(wave) - len(one), 0))) for one in done])

    def run(
        self,
        jobs: Iterable[Job],
        task: Any,
        *,
        seed: int,
        progress: Callable[[float], Any] = lambda seconds: None,
        **options: Any,
    ) -> None:
        """Runs the chunks of all jobs through the sampler, in batches that cross job borders."""
        options = self.sampling(options)
        chunks = self._chunks(jobs)
        while group := list(itertools.islice(chunks, self.chunking["batch"])):
            waves = self._sample(task, [chunk for _, chunk in group], seed, options)
            for (job, chunk), wave in zip(group, waves, strict=True):
                job.take(chunk, wave)
                progress((len(chunk.wave) - (job.overlap if chunk.first else 0)) / self.spec.sample_rate)

    def sampling(self, changes: dict[str, Any]) -> dict[str, Any]:
        """The options of sampling with some changed, those that are not None; `UserError` if they cannot work."""
        unknown = set(changes) - set(self.options)
        if unknown:
            raise UserError(f"unknown option {sorted(unknown)[0]!r}; choose from {', '.join(self.options)}")
        options = self.options | {name: value for name, value in changes.items() if value is not None}
        self.process.check(**options)
        return options

    def _chunks(self, jobs) -> Iterator[tuple[Job, Chunk]]:
        size, overlap = (round(self.chunking[name] * self.spec.sample_rate) for name in ("seconds", "overlap"))
        size, overlap = (n // self.spec.hop * self.spec.hop for n in (size, overlap))
        for job in jobs:
            try:
                for chunk in cut(job.blocks(), size, overlap, self.spec.window):
                    if job.failure:
                        break
                    job.overlap = overlap
                    yield job, chunk
            except UserError as error:
                job.fail(str(error))

    def _together(self, chunks):
        """Chunks as one batch: waves, lengths and the number of the first frame of each."""
        longest = max(len(chunk.wave) for chunk in chunks)
        frames = padded(
            self.spec.frames(longest), round(self.chunking["seconds"] * self.spec.sample_rate / self.spec.hop)
        )
        count = 1 << (len(chunks) - 1).bit_length()
        waves = np.zeros((count, frames * self.spec.hop), np.float32)
        lengths, first = np.full(count, self.spec.window, np.int32), np.zeros(count, np.int32)
        for i, chunk in enumerate(chunks):
            waves[i, : len(chunk.wave)] = chunk.wave
            lengths[i], first[i] = len(chunk.wave), chunk.first // self.spec.hop
        return waves, lengths, first

    def _sample(self, task, chunks, seed, options) -> list[np.ndarray]:
        net = self.phase and self.phase.network
        out = _waves(
            self.params, self.phase and self.phase.params, *self._together(chunks), jax.random.key(seed),
            network=self.network, sampler=self.process.sample, task=task, spec=self.spec,
            options=tuple(sorted(options.items())), wave=self.wave, phase=net,
        )  # fmt: skip
        return [wave[:, : len(chunk.wave)] for wave, chunk in zip(np.asarray(out), chunks, strict=False)]

    def mels(
        self, task: Any, waves: list[Float[np.ndarray, " _"]], *, seed: int, **options: Any
    ) -> list[Float[np.ndarray, "sources _ mels"]]:
        """The Mels that the model makes of recordings at its own rate, none longer than a chunk."""
        made = _mels(
            self.params, *self._together([Chunk(0, wave, True) for wave in waves]), jax.random.key(seed),
            network=self.network, sampler=self.process.sample, task=task, spec=self.spec,
            options=tuple(sorted(self.sampling(options).items())),
        )[0]  # fmt: skip
        return [mel[:, : self.spec.frames(len(wave))] for mel, wave in zip(np.asarray(made), waves, strict=False)]


def _lexicon(given):
    return pronounce.default_lexicon() if given is None else given


@functools.partial(jax.jit, static_argnames=("network", "sampler", "task", "spec", "options"))
def _mels(
    params: Any,
    waves: Float[Array, "batch samples"],
    lengths: Int[Array, " batch"],
    first: Int[Array, " batch"],
    key: Key[Array, ""],
    *,
    network: Estimator,
    sampler: Callable,
    task: Any,
    spec: audio.MelSpec,
    options: tuple,
) -> tuple[Float[Array, "batch sources frames mels"], Complex[Array, "batch frames bins"]]:
    """The Mels that the task makes of recordings, and the spectra of these; `first` numbers a wave's first frame."""
    spectrum = audio.stft(waves, spec, lengths)
    count = (lengths + spec.hop - 1) // spec.hop
    inputs = jax.vmap(task.condition)({task.phase: audio.log_mel(waves, spec, lengths)}, count)
    keys = jax.vmap(lambda source: jax.random.fold_in(key, source))(jnp.arange(task.count))
    noise = lambda f: jax.vmap(lambda key: flow.noise(key, spectrum.shape[1], spec.bands, f))(keys)
    x0 = jax.vmap(lambda f, n: task.joined(noise(f), n))(first, count)
    apply = lambda x, t, inputs, lengths: network.apply({"params": params}, x, t, lengths=lengths, **inputs)
    x1 = sampler(apply, x0, inputs, task.joined_length(count), **dict(options))
    return jax.vmap(task.sources)(x1, count)[:, :, : spectrum.shape[1]], spectrum


@functools.partial(jax.jit, static_argnames=("network", "sampler", "task", "spec", "options", "wave", "phase"))
def _waves(
    params: Any,
    phase_params: Any,
    waves: Float[Array, "batch samples"],
    lengths: Int[Array, " batch"],
    first: Int[Array, " batch"],
    key: Key[Array, ""],
    *,
    spec: audio.MelSpec,
    wave: str,
    phase: PhaseNet | None,
    **how: Any,
) -> Float[Array, "batch sources samples"]:
    """Recordings to what the task makes of them, all on the device, by a phase net or one of `audio.WAVES`."""
    mels, spectrum = _mels(params, waves, lengths, first, key, spec=spec, **how)
    if phase is None:
        return audio.WAVES[wave](mels, spectrum, spec, lengths)
    spectra = phase.apply({"params": phase_params}, mels, spectrum, (lengths + spec.hop - 1) // spec.hop)
    return spectra_to_waves(spectra, spec, lengths)


def bound(
    clean: Float[np.ndarray, "sources samples"],
    recording: Float[np.ndarray, " samples"],
    spec: audio.MelSpec,
    wave: str,
    phase: Phase | None,
) -> Float[np.ndarray, "sources samples"]:
    """What a model that knew the clean Mels would make of a recording, by one of `audio.WAVES` or a phase net."""
    count, samples = clean.shape
    padded = np.zeros((count + 1, -(-samples // spec.sample_rate) * spec.sample_rate), np.float32)  # few programs
    padded[:, :samples] = [*clean, recording]
    network, params = phase or (None, None)
    made = _bound(params, padded[:-1], padded[-1:], jnp.int32(samples), spec=spec, wave=wave, network=network)
    return np.asarray(made)[:, :samples]


@functools.partial(jax.jit, static_argnames=("spec", "wave", "network"))
def _bound(
    params: Any,
    clean: Float[Array, "sources samples"],
    recording: Float[Array, "1 samples"],
    length: Int[Array, ""],
    *,
    spec: audio.MelSpec,
    wave: str,
    network: PhaseNet | None,
) -> Float[Array, "sources samples"]:
    lengths = jnp.full(len(clean), length)
    mels, spectrum = audio.log_mel(clean, spec, lengths)[None], audio.stft(recording, spec, lengths[:1])
    if network is None:
        return audio.WAVES[wave](mels, spectrum, spec, lengths[:1])[0]
    spectra = network.apply({"params": params}, mels, spectrum, (lengths[:1] + spec.hop - 1) // spec.hop)
    return spectra_to_waves(spectra, spec, lengths[:1])[0]
