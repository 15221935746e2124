"""The whole way on a small scale: prepare, pre-train, fine-tune, enhance, score, with a picture to look at."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from sfjax import audio, picture
from sfjax.configs import default
from sfjax.data import manifest, mixing
from sfjax.errors import UserError

PAIRS, SNR = 6, 5.0  # recordings that are mixed, enhanced and scored, and their signal-to-noise ratio in dB
TOY = (  # wider than tiny: in the same minutes it learns more
    "--config.model.width=256", "--config.model.heads=2", "--config.model.ffn=1024", "--config.model.dropout=0.0",
    "--config.model.attention_block=0", "--config.data.buckets=(2.55,)", "--config.data.seconds=20.4",
    "--config.optim.peak=2e-3", "--config.optim.warmup=40", "--config.ema=0.98", "--config.run.workers=1",
    "--config.run.valid_batches=2", "--config.run.validate=1000", "--config.run.log=50", "--config.run.pictures=1",
)  # fmt: skip


def run(call: Callable[[list[str]], int], folder: Path, *, speech: Path | None, noise: Path | None, workers: int):
    """Runs each verb through `call` as a user would, in `folder`, and prints its command; ends with scores."""
    began = time.perf_counter()

    def verb(*words):
        words = [str(word) for word in words]
        print(f"\n$ sfjax {shlex.join(words)}", flush=True)
        if call(words):
            raise UserError(f"the quickstart ends here; see above, mend it and run it again in {folder}")

    if speech is None:
        from sfjax.data import voices

        print("no --speech and --noise given: generating voices with espeak-ng, and noises", flush=True)
        speech, noise = folder / "speech", folder / "noise"
        voices.generate(speech, voices=16, sentences=10, seed=0, workers=workers)
        voices.noises(noise, count=32, seed=0)

    verb("prepare", "folder", speech, folder / "speech.parquet", "--valid-share", 0.15)
    verb("prepare", "folder", noise, folder / "noise.parquet", "--speaker-from", "none", "--valid-share", 0.2)
    verb(
        "train", "--config=configs/pretrain.py:tiny", f"--workdir={folder / 'pretrain'}",
        f"--config.data.train={folder / 'speech.parquet'}", "--config.optim.updates=150", *TOY,
    )  # fmt: skip
    verb(
        "train", "--config=configs/enhance.py:tiny", f"--workdir={folder / 'enhance'}",
        f"--config.init_from={folder / 'pretrain'}", f"--config.data.train={folder / 'speech.parquet'}",
        f"--config.mix.noise={folder / 'noise.parquet'}", "--config.optim.updates=300", *TOY,
    )  # fmt: skip
    noisy = mix(folder)
    verb("enhance", *noisy, "-o", folder / "enhanced", "--model", folder / "enhance")
    verb("score", "--reference", folder / "clean", "--estimate", folder / "noisy", "-o", folder / "noisy.json")
    verb("score", "--reference", folder / "clean", "--estimate", folder / "enhanced", "-o", folder / "enhanced.json")
    draw(folder, noisy[0].name)
    print(f"\n{folder / 'spectrograms.png'} shows one recording: noisy, enhanced, clean")
    print(
        f"the whole way took {(time.perf_counter() - began) / 60:.1f} minutes; a real model takes more speech and time"
    )


def mix(folder: Path) -> list[Path]:
    """Mixes held-out speech with held-out noise into `clean` and `noisy` files of the same names."""
    speech = manifest.read(folder / "speech.parquet", split="valid")
    noise = manifest.read(folder / "noise.parquet", split="valid")
    mixer = mixing.Mixer(noise, probability=1.0, snr=(SNR, SNR), gain=(0.0, 0.0), babble=0.0, talkers=0, reach=5.0)
    rng = np.random.default_rng(0)
    written = []
    for i in rng.permutation(len(speech))[:PAIRS]:
        row = speech.row(int(i))
        wav, rate = audio.read(row["path"], start=row["start"], frames=row["frames"], rate=16_000)
        clean, noisy = mixer(wav, rate, speech, row["speaker"], rng)
        name = f"{len(written)}.wav"
        audio.write(folder / "clean" / name, clean, rate)
        audio.write(folder / "noisy" / name, noisy, rate)
        written.append(folder / "noisy" / name)
    return written


def draw(folder: Path, name: str) -> None:
    """Draws the spectrograms of one recording before and after, and of the clean one."""
    spec = audio.MelSpec(**default.get_config("tiny").mel)
    waves = {
        part: audio.read(folder / part / name, rate=spec.sample_rate)[0] for part in ("noisy", "enhanced", "clean")
    }
    panels = {part: np.asarray(audio.log_mel(jnp.asarray(wav)[None], spec))[0] for part, wav in waves.items()}
    picture.spectrograms(panels, spec, folder / "spectrograms.png")
