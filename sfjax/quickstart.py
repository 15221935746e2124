"""Run every step on a small scale: prepare data, fine-tune `sfjax://base`, enhance, score, plot."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from sfjax import audio, audio_io, spectrogram_plot
from sfjax.configs import default  # pyright: ignore[reportMissingImports] (setup.cfg maps it to configs/)
from sfjax.data import manifest, noise_mixer
from sfjax.errors import UserError

PAIRS = 6  # recordings to mix, enhance and score
SNR = 5.0  # dB
SHORT = (  # a schedule of one or two minutes for configs/enhance.py:box
    "--config.data.buckets=(2.55,)",
    "--config.data.seconds=20.4",
    "--config.optim.updates=90",
    "--config.optim.warmup=10",
    "--config.ema=0.95",
    "--config.run.valid_batches=2",
    "--config.run.validate=1000",
    "--config.run.log=20",
    "--config.run.pictures=1",
)


def run(call: Callable[[list[str]], int], folder: Path, *, speech: Path | None, noise: Path | None, workers: int):
    """Run every command through `call`, as a user would, with results in `folder`; print each command.

    Raises UserError if a command fails.
    """
    began = time.perf_counter()

    def command(*words):
        words = [str(word) for word in words]
        print(f"\n$ sfjax {shlex.join(words)}", flush=True)
        if call(words):
            raise UserError(
                f"sfjax {words[0]} failed; correct the error above and run the quickstart again in {folder}"
            )

    if speech is None:
        from sfjax.data import synthetic

        print("no --speech and --noise given: generating voices with espeak-ng, and noise", flush=True)
        speech, noise = folder / "speech", folder / "noise"
        synthetic.generate(speech, voices=16, sentences=10, seed=0, workers=workers)
        synthetic.noises(noise, count=32, seed=0)

    command("prepare", "folder", speech, folder / "speech.parquet", "--valid-share", 0.15)
    command("prepare", "folder", noise, folder / "noise.parquet", "--speaker-from", "none", "--valid-share", 0.2)
    command(
        "train",
        "--config=configs/enhance.py:box",
        f"--workdir={folder / 'enhance'}",
        "--config.init_from=sfjax://base",
        f"--config.data.train={folder / 'speech.parquet'}",
        f"--config.mix.noise={folder / 'noise.parquet'}",
        *SHORT,
    )
    noisy = mix(folder)
    command("enhance", *noisy, "-o", folder / "enhanced", "--model", folder / "enhance")
    command("score", "--reference", folder / "clean", "--estimate", folder / "noisy", "-o", folder / "noisy.json")
    command("score", "--reference", folder / "clean", "--estimate", folder / "enhanced", "-o", folder / "enhanced.json")
    draw(folder, noisy[0].name)
    print(f"\n{summary(folder)}\n{folder / 'spectrograms.png'} shows one recording: noisy, enhanced, clean")
    minutes = (time.perf_counter() - began) / 60
    print(f"the quickstart took {minutes:.1f} minutes; train longer on your own recordings for a better model")


def outputs(folder: Path, speech: Path | None) -> list[Path]:
    """List the files that a quickstart in `folder` may replace or take for its own; `speech` as in `run`."""
    names = ("speech.parquet", "noise.parquet", "noisy.json", "enhanced.json", "spectrograms.png")
    generated = ("speech", "noise") if speech is None else ()
    folders = [folder / name for name in ("clean", "noisy", "enhanced", *generated)]
    sounds = [path for each in folders for path, reason in audio_io.walk(each) if reason == "" and each.is_dir()]
    return [*(folder / name for name in names), *sounds]


def mix(folder: Path) -> list[Path]:
    """Mix held-out speech with held-out noise; write files of the same names into `clean` and `noisy`.

    Returns the paths of the noisy files.
    """
    speech = manifest.read(folder / "speech.parquet", split="valid")
    noise = manifest.read(folder / "noise.parquet", split="valid")
    mixer = noise_mixer.Mixer(noise, probability=1.0, snr=(SNR, SNR), gain=(0.0, 0.0), babble=0.0, talkers=0, reach=5.0)
    rng = np.random.default_rng(0)
    noisy_files = []
    for i in rng.permutation(len(speech))[:PAIRS]:
        row = speech.row(int(i))
        wav, rate = audio.read(row["path"], start=row["start"], frames=row["frames"], rate=16_000)
        clean, noisy = mixer(wav, rate, speech, row["speaker"], rng)
        name = f"{len(noisy_files)}.wav"
        audio.write(folder / "clean" / name, clean, rate)
        audio.write(folder / "noisy" / name, noisy, rate)
        noisy_files.append(folder / "noisy" / name)
    return noisy_files


def summary(folder: Path) -> str:
    """Return a table of mean scores, noisy and enhanced, and a sentence that compares them."""
    names = {"pesq_wb": "PESQ", "estoi": "ESTOI", "si_sdr": "SI-SDR (dB)"}
    noisy, enhanced = (json.loads((folder / f"{part}.json").read_text())["mean"] for part in ("noisy", "enhanced"))
    lines = [f"{'':12}{'noisy':>8}{'enhanced':>10}"]
    lines += [f"{title:12}{noisy[name]:8.2f}{enhanced[name]:10.2f}" for name, title in names.items()]
    better = [title.split()[0] for name, title in names.items() if enhanced[name] > noisy[name]]
    lines.append(f"better after this short fine-tuning: {', '.join(better) or 'none of the scores'}")
    return "\n".join(lines)


def draw(folder: Path, name: str) -> None:
    """Draw the spectrograms of one recording: noisy, enhanced and clean."""
    spec = audio.MelSpec(**default.get_config("tiny").mel)
    waves = {
        part: audio.read(folder / part / name, rate=spec.sample_rate)[0] for part in ("noisy", "enhanced", "clean")
    }
    panels = {part: np.asarray(audio.log_mel(jnp.asarray(wav)[None], spec))[0] for part, wav in waves.items()}
    spectrogram_plot.spectrograms(panels, spec, folder / "spectrograms.png")
