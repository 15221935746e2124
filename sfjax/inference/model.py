"""Load a model and use it on recordings of any sample rate and length, in bounded memory."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float, Int, Key, Shaped

from sfjax import audio, flow, masks, networks, tasks
from sfjax.config import SampleConfig, read_model, typed
from sfjax.errors import UserError
from sfjax.export import release
from sfjax.inference import auxiliary, bandwidth, editing, enrolment, stream, tts, waveform
from sfjax.inference.auxiliary import Phase
from sfjax.inference.band_filter import BandFilter
from sfjax.inference.chunking import NO_VOICE, Chunk, ChunkBatch, Job, Sources, cut, padded
from sfjax.inference.editing import Edit
from sfjax.inference.tts import Speech
from sfjax.inference.waveform import Recording
from sfjax.model import Estimator
from sfjax.networks import NETWORKS
from sfjax.objective import process, sample_mels
from sfjax.text import g2p
from sfjax.text.phones import Line
from sfjax.vocoder.hifigan import Vocoder
from sfjax.vocoder.phase_net import PhaseNet, spectra_to_waves
from sfjax.weights import DURATION_MODELS, ENHANCER, VOCODER


def load(
    folder: str | Path = ENHANCER,
    *,
    ema: bool = True,
    step: int | None = None,
    reconstruct: str | None = None,
    adapter: str | Path | None = None,
    phase: str | Path | None = None,
    vocoder: str | Path | None = None,
    duration_model: str | Path | None = None,
) -> Model:
    """Load the model of a run or of an exported folder.

    A run has averaged parameters (`ema`) and raw ones, of its newest checkpoint or of checkpoint `step`. `folder` may
    also be a name: sfjax://enhance and the other names of `sfjax.weights` are in this package, hf://OWNER/NAME and
    hf://OWNER/NAME@REVISION are on a hub.

    `reconstruct` is a key of `sfjax.audio.RECONSTRUCTIONS` and replaces the setting of the run. The other arguments are
    folders too: `adapter` with LoRA adapters for the model, `phase` with a phase net, `vocoder` with a vocoder or a
    published HiFi-GAN, `duration_model` with a duration model (default for sfjax://speak: sfjax://durations). Raises
    `UserError` if a folder does not hold its model.

    ```python
    model = sfjax.load()  # the enhancer of this package
    model.enhance(np.random.default_rng(0).normal(0.0, 0.1, 16_000).astype(np.float32), 16_000)
    ```
    """
    duration_model = duration_model or DURATION_MODELS.get(str(folder))
    params, trained = release.weights(folder, ema=ema, step=step)
    model = _model(params, trained)
    model = model if adapter is None else model.adapted(adapter)
    return dataclasses.replace(
        model,
        reconstruct=model.reconstruct if reconstruct is None else audio.reconstruction(reconstruct),
        phase=None if phase is None else auxiliary.load_phase(phase, model.spec),
        vocoder=None if vocoder is None else auxiliary.load_vocoder(vocoder, model.spec),
        duration_model=None if duration_model is None else auxiliary.load_duration_model(duration_model),
    )


def _model(params, trained):
    config = read_model(trained.config)
    task, trainable = config.task, NETWORKS[config.task.network]
    if trainable.argument:
        flag = trainable.argument.replace("_", "-")
        raise UserError(f"{trained.name} is a {trainable.title}, which helps a model; give it as --{flag}")
    network, params = networks.load(release.inference_params(params), config, trained.name)
    chunking = dict(config.infer)
    reconstruct = audio.reconstruction(chunking.pop("reconstruct"))
    return Model(
        network=network,
        params=params,
        task=task,
        process=process(config.process),
        spec=config.mel,
        options=dict(config.sample),
        chunking=chunking,
        reconstruct=reconstruct,
        name=f"{trained.name}, step {trained.step}",
        folder=trained.name,
    )


@dataclasses.dataclass(frozen=True, repr=False)
class Model:
    """A network with its parameters and its settings.

    `options` are the default sampling options (config section `sample`); see `sampling`. `reconstruct` is a key of
    `sfjax.audio.RECONSTRUCTIONS`; a `phase` net replaces it.
    """

    network: Estimator
    params: Any
    task: Any
    process: Any
    spec: audio.MelSpec
    options: dict[str, Any]
    chunking: dict[str, Any]
    reconstruct: str
    name: str
    phase: Phase | None = None
    vocoder: Vocoder | None = None
    duration_model: Callable | None = None  # a `sfjax.inference.tts.DurationPredictor`
    folder: str = ""  # the run, exported folder or address that it was loaded from

    def __repr__(self) -> str:
        count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(self.params))
        return f"<Model {self.name}: {self.task.description}, {count / 1e6:.1f} M parameters>"

    def adapted(self, folder: str | Path) -> Model:
        """Return this network with the adapters of a run or an exported folder, and with the task of the adapters."""
        adapter = release.trained(folder, ema=True)
        auxiliary_models = dict(phase=self.phase, vocoder=self.vocoder, duration_model=self.duration_model)
        return dataclasses.replace(_model(release.adapted(self.params, adapter), adapter), **auxiliary_models)

    def enhance(
        self,
        noisy: Recording,
        sample_rate: Any = None,
        *,
        to_rate: int | None = None,
        seed: int = 0,
        **options: Any,
    ) -> Float[np.ndarray, "*_"]:
        """Clean a noisy recording; the result has the same sample rate (Hz) and shape.

        The recording is an array with its sample rate, or the path of a sound file. Arrays may hold integers and
        several channels (`sfjax.inference.waveform.floats`). The network hears the average of the channels at its own
        rate, and its gains apply to all channels at `sample_rate`, also above the network's band. Models that generate
        a phase (`reconstruct="phase"` or a phase net) have no gains: their result is the average, [samples].

        A mono recording of a rate below `to_rate`, which is the model's rate, becomes [samples] at this rate: the
        model's vocoder, by default `sfjax://vocoder`, generates what lies above its band (`sfjax.inference.bandwidth`).

        `options` are sampling options: solver, steps, guidance, sway, tolerance; the defaults are in config section
        `sample`. Raises `UserError` if the recording is not finite, audible and longer than a window.

        ```python
        model = sfjax.load("sfjax://enhance")
        clean = model.enhance(np.random.default_rng(0).normal(0.0, 0.1, 48_000).astype(np.float32), 48_000, steps=2)
        ```
        """
        model = self if to_rate is None else self.with_vocoder()
        return model.treat(self.enhancing(), noisy, sample_rate, to_rate=to_rate, seed=seed, **options)[0]

    def with_vocoder(self) -> Model:
        """Return this model with its vocoder, or with the vocoder of this package if it has none."""
        vocoder = self.vocoder or auxiliary.load_vocoder(VOCODER, self.spec)
        return dataclasses.replace(self, vocoder=vocoder)

    def stream(self, sample_rate: Any = None, *, seed: int = 0) -> stream.Stream:
        """Start to enhance a recording that arrives block by block, if the model is causal (`configs/live.py`).

        The sample rate is the model's, or any multiple of 1000 Hz above it; at a higher rate, the gains of the model
        also apply above its band. Raises `UserError` for other rates and models.

        ```python
        stream = sfjax.load("runs/live").stream()
        clean = [stream.push(block) for block in np.split(noisy, 10)] + [stream.flush()]
        ```
        """
        return stream.start(self, sample_rate, seed=seed)

    def separate(
        self, mixture: Recording, sample_rate: Any = None, *, speakers: int = 2, seed: int = 0, **options: Any
    ) -> Float[np.ndarray, "speakers ..."]:
        """Separate the speakers of a mixture, each in the shape of the mixture; everything else is as in `enhance`.

        ```python
        model = sfjax.load("sfjax://separate")
        first, second = model.separate(np.random.default_rng(0).normal(0.0, 0.1, 16_000).astype(np.float32), 16_000)
        ```
        """
        return self.treat(self.separating(speakers), mixture, sample_rate, seed=seed, **options)

    def extract(
        self,
        mixture: Recording,
        sample_rate: Any = None,
        *,
        voice: Recording,
        voice_rate: Any = None,
        seed: int = 0,
        **options: Any,
    ) -> Float[np.ndarray, " samples"]:
        """Extract one speaker from a mixture; everything else is as in `enhance`.

        `voice` is a recording of the speaker, with its rate `voice_rate`, or a path. Its loudest five seconds are used.
        Raises `UserError` also if it is shorter than half a second, or silent.
        """
        enrolled = enrolment.enrolment(voice, voice_rate, self.spec)
        return self.treat(self.extracting(), mixture, sample_rate, voice=enrolled, seed=seed, **options)[0]

    def speak(
        self,
        text: str,
        *,
        prompt: tuple[Recording, Any, str | Line] | tuple[str | Path, str | Line] | None = None,
        lexicon: dict[str, tuple[str, ...]] | None = None,
        lines: Sequence[Line] | None = None,
        speed: float = 1.0,
        seed: int = 0,
        **options: Any,
    ) -> Speech:
        """Speak a text in the voice of a prompt.

        `prompt` is a recording, its sample rate in Hz, and its text or its alignment as a `Line`, or a path and one of
        the two; pocketsphinx aligns a text. Words are looked up in `lexicon`, by default the CMU dictionary, and
        spelled by rule if they are not in it. `lines` fix how long each phone lasts (`sfjax.text.durations`); `options`
        are as in `enhance`. Raises `UserError` if the text cannot be spoken.
        """
        return tts.speak(
            self,
            text,
            prompt=None if prompt is None else _prompt(self, prompt),
            lexicon=_lexicon(lexicon),
            speed=speed,
            lines=lines,
            seed=seed,
            options=options,
        )

    def convert(
        self,
        recording: Recording,
        sample_rate: Any = None,
        *,
        said: str | Line,
        prompt: tuple[Recording, Any, str | Line] | tuple[str | Path, str | Line],
        seed: int = 0,
        **options: Any,
    ) -> Speech:
        """Say the words of a recording in the voice of a prompt, with the timing of the recording.

        `said` is the text of the recording or its alignment as a `Line`. Everything else is as in `speak`.
        """
        return tts.convert(self, recording, sample_rate, said, prompt=_prompt(self, prompt), seed=seed, options=options)

    def edit(
        self,
        recording: Recording,
        sample_rate: Any = None,
        *,
        old: str | Line,
        new: str,
        lexicon: dict[str, tuple[str, ...]] | None = None,
        speed: float = 1.0,
        seed: int = 0,
        **options: Any,
    ) -> Edit:
        """Change the words of a recording from `old` to `new`; all other samples are unchanged.

        `old` is the text of the recording or its alignment as a `Line`. Everything else is as in `speak`.
        """
        return editing.edit(
            self,
            *waveform.own_type(recording, sample_rate),
            old=old,
            new=g2p.Pronouncer(_lexicon(lexicon), tts.plain_phones(self))(new),
            speed=speed,
            seed=seed,
            options=options,
        )

    def infill(
        self,
        recording: Recording,
        sample_rate: Any = None,
        *,
        gaps: Sequence[tuple[int, int]],
        seed: int = 0,
        **options: Any,
    ) -> Shaped[np.ndarray, "*_"]:
        """Fill `gaps` of a recording, [first, end) in samples; all other samples are unchanged."""
        samples, rate = waveform.own_type(recording, sample_rate)
        return editing.infill(self, samples, rate, gaps=gaps, seed=seed, options=options)

    @property
    def chunk_frames(self) -> int:
        """The frames of a chunk of a long recording, for the tasks that speak or fill gaps."""
        return round(self.chunking["seconds"] * self.spec.sample_rate / self.spec.hop)

    def chunk_seconds(self, task: Any) -> float:
        """Return the seconds of a recording that a task of this model takes at once: no longer than in training."""
        return self.chunking["seconds"] * self.task.chunk_share(task)

    @property
    def phones(self) -> tuple[str, ...]:
        """The phone inventory of the model; empty if it was not trained to speak."""
        return self.task.phones

    def filling(self) -> Any:
        """Return the task of filling hidden frames. Raises `UserError` if the model was not trained for it."""
        return self._part("speak", "pretrain")

    def enhancing(self) -> Any:
        """Return the task of enhancement. Raises `UserError` if the model was not trained for it."""
        return self._part("enhance")

    def separating(self, speakers: int) -> Any:
        """Return the task of separating so many speakers. Raises `UserError` if the model was not trained for it."""
        return self._part("separate", speakers=speakers)

    def extracting(self) -> Any:
        """Return the task of extracting a speaker. Raises `UserError` if the model was not trained for it."""
        return self._part("extract")

    def _part(self, *kinds: str, **fields: Any) -> Any:
        for kind in kinds:
            if (part := tasks.choose(self.task, kind, **fields)) is not None:
                return part
        verbs = " or to ".join("fill gaps" if kind == "pretrain" else kind for kind in kinds)
        numbers = "".join(f" {value} {name}" for name, value in fields.items())
        raise UserError(f"{self.name} was trained to {self.task.description}, not to {verbs}{numbers}")

    def treat(
        self,
        task: Any,
        recording: Recording,
        sample_rate: Any = None,
        *,
        voice: Float[np.ndarray, " _"] = NO_VOICE,
        to_rate: int | None = None,
        seed: int = 0,
        **options: Any,
    ) -> Float[np.ndarray, "sources ..."]:
        """Apply `task`, which may be your own, to a recording; everything else is as in `enhance`.

        `voice` is the result of `sfjax.inference.enrolment.enrolment`, for a task that extracts a speaker.
        Samples far beyond [-1, 1] are scaled for the model, with a warning, and the result is scaled back.
        """
        samples, sample_rate = waveform.floats(recording, sample_rate)
        wave = waveform.averaged(samples)
        level = waveform.level(float(np.abs(wave).max(initial=0.0)))
        if level != 1.0:
            warnings.warn(
                f"samples must be in [-1, 1], got up to {level:g}; the result has the same scale", stacklevel=3
            )
            wave = wave / np.float32(level)
        by_time = waveform.channels(samples)
        band = bandwidth.band(sample_rate, by_time.shape[1], to_rate, self.spec)
        band_filter = self.band_filter([by_time], sample_rate, by_time.shape[1])
        pieces: list[np.ndarray] = []
        job = Job(
            "wave",
            lambda: iter([audio.resample(wave, sample_rate, self.spec.sample_rate)]),
            pieces.append,
            band_filter,
            voice,
            band,
        )
        self.run([job], task, seed=seed, **options)
        if job.failure:
            raise UserError(job.failure)
        sources = np.concatenate(pieces, axis=1)
        if band_filter is not None:
            return waveform.shaped(sources, samples)
        rate = sample_rate if band == bandwidth.FULL else self.spec.sample_rate
        length = round(len(wave) * rate / sample_rate)
        sources = np.stack([audio.resample(source, self.spec.sample_rate, rate) for source in sources])
        sources = np.pad(sources[:, :length], ((0, 0), (0, max(length - sources.shape[1], 0))))
        sources = sources * np.float32(level)
        if band < bandwidth.FULL or by_time.shape[1] > 1:
            return sources
        return waveform.shaped(sources[..., None], samples)

    @property
    def has_gains(self) -> bool:
        """Return whether the model makes waves by gains of Mel bands, which apply to all channels at any rate."""
        return self.phase is None and self.reconstruct in audio.GAINS

    def band_filter(self, blocks: Iterable[np.ndarray], rate: int, channels: int) -> BandFilter | None:
        """Return what applies the model's gains to a recording of several channels or of a rate above the model's.

        For other recordings, and if the model has no gains, it is None: the waves of the model are the result.
        """
        wide = channels > 1 or rate > self.spec.sample_rate
        return BandFilter(blocks, rate, channels, self.spec) if wide and self.has_gains else None

    def run(
        self,
        jobs: Iterable[Job],
        task: Any,
        *,
        seed: int,
        progress: Callable[[float], Any] = lambda seconds: None,
        **options: Any,
    ) -> None:
        """Process the chunks of all jobs in batches, which may hold chunks of several jobs.

        `progress` is called with the seconds of audio that are finished since the last call.
        """
        options, seed = self.sampling(options, task), typed(seed, "int", "seed")
        chunks = self._chunks(jobs, task)
        while group := list(itertools.islice(chunks, self.chunking["batch"])):
            sampled = self._sample(task, [chunk for _, chunk in group], seed, options)
            for (job, chunk), sources in zip(group, sampled, strict=True):
                job.take(chunk, sources)
                progress((len(chunk.wave) - (job.overlap if chunk.first else 0)) / self.spec.sample_rate)

    def sampling(self, changes: dict[str, Any], task: Any) -> dict[str, Any]:
        """Return the sampling options of a task of this model, with the `changes` that are not None.

        Raises `UserError` if they cannot work.
        """
        unknown = set(changes) - set(self.options)
        if unknown:
            raise UserError(f"unknown option {sorted(unknown)[0]!r}; choose from {', '.join(self.options)}")
        kinds = {field.name: str(field.type) for field in dataclasses.fields(SampleConfig)}
        given = {name: value for name, value in changes.items() if value is not None}
        changed = {name: typed(value, kinds[name], name) for name, value in given.items()}
        options = self.options | self.task.sampling(task) | changed
        self.process.check(**options)
        return options

    def _chunks(self, jobs, task) -> Iterator[tuple[Job, Chunk]]:
        seconds = self.chunk_seconds(task)
        overlap_seconds = min(self.chunking["overlap"], seconds / 2)
        size, overlap = (round(n * self.spec.sample_rate) for n in (seconds, overlap_seconds))
        size, overlap = (n // self.spec.hop * self.spec.hop for n in (size, overlap))
        for job in jobs:
            try:
                for chunk in cut(job.blocks(), size, overlap, self.spec.window):
                    if job.failure:
                        break
                    job.overlap = overlap
                    yield job, chunk._replace(voice=job.voice, band=job.band)
            except UserError as error:
                job.fail(str(error))

    def _batch(self, chunks, task) -> ChunkBatch:
        """Return chunks as one batch, padded to a few sizes, so that few programs are compiled."""
        longest = max(len(chunk.voice) + len(chunk.wave) for chunk in chunks)
        most = round(self.chunk_seconds(task) * self.spec.sample_rate / self.spec.hop)
        frames = padded(self.spec.num_frames(longest), most)
        count = 1 << (len(chunks) - 1).bit_length()
        waves = np.zeros((count, frames * self.spec.hop), np.float32)
        lengths = np.full(count, self.spec.window, np.int32)
        first, enrolled = np.zeros(count, np.int32), np.zeros(count, np.int32)
        bands = np.full(count, bandwidth.FULL, np.float32)
        for i, chunk in enumerate(chunks):
            lengths[i] = len(chunk.voice) + len(chunk.wave)
            waves[i, : lengths[i]] = np.concatenate([chunk.voice, chunk.wave])
            first[i], enrolled[i] = chunk.first // self.spec.hop, len(chunk.voice) // self.spec.hop
            bands[i] = chunk.band
        return ChunkBatch(*map(jnp.asarray, (waves, lengths, first, enrolled, bands)))

    def _sample(self, task, chunks, seed, options) -> list[Sources]:
        vocoder = self.vocoder if any(chunk.band < bandwidth.FULL for chunk in chunks) else None
        waves, gains = sample_waves(
            self.params,
            self.phase and self.phase.params,
            self._batch(chunks, task),
            jax.random.key(seed),
            vocoder and (vocoder.params, vocoder.mean, vocoder.std),
            network=self.network,
            sampler=self.process.sample,
            task=task,
            spec=self.spec,
            options=tuple(sorted(options.items())),
            reconstruct=self.reconstruct,
            phase=self.phase and self.phase.network,
            vocoder=vocoder and vocoder.network,
        )
        waves, gains = np.asarray(waves), None if gains is None else np.asarray(gains)
        sampled = []
        for number, chunk in enumerate(chunks):
            before = len(chunk.voice)
            samples = slice(before, before + len(chunk.wave))
            flow.check_finished(waves[number, :, samples], **options)
            frames = slice(before // self.spec.hop, before // self.spec.hop + self.spec.num_frames(len(chunk.wave)))
            sampled.append(Sources(waves[number, :, samples], None if gains is None else gains[number, :, frames]))
        return sampled

    def mels(
        self, task: Any, waves: list[Float[np.ndarray, " _"]], *, seed: int, **options: Any
    ) -> list[Float[np.ndarray, "sources _ mels"]]:
        """Sample the Mels of recordings at the model's sample rate, none longer than a chunk."""
        options = self.sampling(options, task)
        sampled = _mels(
            self.params,
            self._batch([Chunk(0, wave, True) for wave in waves], task),
            jax.random.key(seed),
            network=self.network,
            sampler=self.process.sample,
            task=task,
            spec=self.spec,
            options=tuple(sorted(options.items())),
        )[0]
        mels = [
            mel[:, : self.spec.num_frames(len(wave))] for mel, wave in zip(np.asarray(sampled), waves, strict=False)
        ]
        for mel in mels:
            flow.check_finished(mel, **options)
        return mels


def _prompt(model, parts):
    """Make the prompt of a path and its words, or of a recording, its rate and its words."""
    if not isinstance(parts, tuple | list) or len(parts) not in (2, 3):
        size = f" of {len(parts)}" if isinstance(parts, tuple | list) else ""
        raise UserError(
            f"the prompt must be (recording, sample rate, text) or (path, text), got {type(parts).__name__}{size}"
        )
    recording, rate, said = parts if len(parts) == 3 else (parts[0], None, parts[1])
    return tts.prompt(recording, rate, said, model=model)


def _lexicon(lexicon):
    return g2p.default_lexicon() if lexicon is None else lexicon


@functools.partial(jax.jit, static_argnames=("network", "sampler", "task", "spec", "options"))
def _mels(
    params: Any,
    batch: ChunkBatch,
    key: Key[Array, ""],
    *,
    network: Estimator,
    sampler: Callable,
    task: Any,
    spec: audio.MelSpec,
    options: tuple,
) -> tuple[Float[Array, "batch sources frames mels"], Complex[Array, "batch frames bins"]]:
    """Sample the Mels that the task makes of recordings; return them and the spectra of the recordings."""
    waves, lengths, first, enrolled, _bands = batch
    spectrum = audio.stft(waves, spec, lengths)
    count = spec.num_frames(lengths)
    features = {
        task.phase: audio.log_mel(waves, spec, lengths),
        "enrolled": masks.valid(enrolled, spectrum.shape[1]).astype(jnp.int32),
    }
    inputs = jax.vmap(task.condition)(features, count)
    keys = jax.vmap(lambda source: jax.random.fold_in(key, source))(jnp.arange(task.count))

    def joined_noise(first, count):
        sources = jax.vmap(lambda key: flow.noise(key, spectrum.shape[1], spec.bands, first))(keys)
        return task.joined(sources, count)

    x0 = jax.vmap(joined_noise)(first, count)
    x1 = sample_mels(network, params, sampler, x0, inputs, task.joined_length(count), **dict(options))
    return jax.vmap(task.sources)(x1, count)[:, :, : spectrum.shape[1]], spectrum


@functools.partial(
    jax.jit, static_argnames=("network", "sampler", "task", "spec", "options", "reconstruct", "phase", "vocoder")
)
def sample_waves(
    params: Any,
    phase_params: Any,
    batch: ChunkBatch,
    key: Key[Array, ""],
    vocoder_params: Any = None,
    *,
    network: Estimator,
    sampler: Callable,
    task: Any,
    spec: audio.MelSpec,
    options: tuple,
    reconstruct: str,
    phase: PhaseNet | None,
    vocoder: Any = None,
) -> Sources:
    """Compute the waveforms that the task makes of recordings, by a phase net or one of `audio.RECONSTRUCTIONS`.

    For those in `audio.GAINS`, the gains are in the result, too. A vocoder generates the waveforms above the bands of
    the batch.
    """
    mels, spectrum = _mels(params, batch, key, network=network, sampler=sampler, task=task, spec=spec, options=options)
    gains = None
    if phase is not None:
        spectra: Any = phase.apply({"params": phase_params}, mels, spectrum, spec.num_frames(batch.lengths))
        waves = spectra_to_waves(spectra, spec, batch.lengths)
    elif reconstruct in audio.GAINS:
        gains = audio.GAINS[reconstruct](mels, spectrum, spec)
        waves = audio.apply_gains(gains, spectrum, spec, batch.lengths)
    else:
        waves = audio.RECONSTRUCTIONS[reconstruct](mels, spectrum, spec, batch.lengths)
    if vocoder is not None and batch.bands is not None:
        waves = bandwidth.extended(waves, mels, batch.bands, batch.lengths, vocoder_params, network=vocoder, spec=spec)
    return Sources(waves, gains)


def bound(
    clean: Float[np.ndarray, "sources samples"],
    recording: Float[np.ndarray, " samples"],
    spec: audio.MelSpec,
    reconstruct: str,
    phase: Phase | None,
) -> Float[np.ndarray, "sources samples"]:
    """Return the upper bound of a model: waveforms from the clean Mels of the sources.

    They are made as a model makes them, with the recording and one of `audio.RECONSTRUCTIONS` or a phase net.
    """
    count, samples = clean.shape
    padded = np.zeros((count + 1, -(-samples // spec.sample_rate) * spec.sample_rate), np.float32)  # few programs
    padded[:, :samples] = [*clean, recording]
    network, params = phase or (None, None)
    waves = _bound(
        params, padded[:-1], padded[-1:], jnp.int32(samples), spec=spec, reconstruct=reconstruct, network=network
    )
    return np.asarray(waves)[:, :samples]


@functools.partial(jax.jit, static_argnames=("spec", "reconstruct", "network"))
def _bound(
    params: Any,
    clean: Float[Array, "sources samples"],
    recording: Float[Array, "1 samples"],
    length: Int[Array, ""],
    *,
    spec: audio.MelSpec,
    reconstruct: str,
    network: PhaseNet | None,
) -> Float[Array, "sources samples"]:
    lengths = jnp.full(len(clean), length)
    mels, spectrum = audio.log_mel(clean, spec, lengths)[None], audio.stft(recording, spec, lengths[:1])
    if network is None:
        return audio.RECONSTRUCTIONS[reconstruct](mels, spectrum, spec, lengths[:1])[0]
    spectra: Any = network.apply({"params": params}, mels, spectrum, spec.num_frames(lengths[:1]))
    return spectra_to_waves(spectra, spec, lengths[:1])[0]
