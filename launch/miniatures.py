"""Generate small versions of the paper's corpora, in their own layouts, for `launch/paper.sh --tiny`.

    python launch/miniatures.py FOLDER

The voices are synthetic. It takes half a minute on two cores and needs `pip install -e '.[text]'`.
"""

import itertools
import json
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

from sfjax import audio
from sfjax.cli.verb import cores
from sfjax.data import synthetic
from sfjax.errors import UserError, complain
from sfjax.text import espeak, phones, textgrid
from sfjax.text.g2p import Pronouncer, default_lexicon

RATE = synthetic.RATE
SENTENCES = 8  # per speaker
LONG = 2  # sentences per utterance, so that it lasts 4 to 10 s
PAUSE = np.zeros(RATE // 2, np.float32)
LIBRISPEECH = {  # speakers per set
    "train-clean-100": 2,
    "train-clean-360": 3,
    "train-other-500": 2,
    "dev-clean": 3,
    "test-clean": 3,
}

Speaker = list[tuple[str, np.ndarray]]  # sentences and their waveforms at RATE
Noises = Iterator[np.ndarray]


def main(folder: Path) -> None:
    """Write LibriLight, LibriSpeech, alignments, VoiceBank, WSJ0-CHiME3, DNS2020, WHAM and LibriMix below `folder`."""
    with tempfile.TemporaryDirectory() as temporary:
        listing = synthetic.generate(temporary, voices=3 + 13 + 4 + 2, sentences=SENTENCES, seed=0, workers=cores())
        rows = [json.loads(line) for line in listing.read_text(encoding="utf-8").splitlines()]
        sentences = [(row["text"], audio.read(Path(temporary, row["path"]))[0]) for row in rows]
        noise_files = synthetic.noises(Path(temporary, "noise"), count=12, seed=0)
        noises = itertools.cycle([audio.read(path)[0] for path in noise_files])
    speakers = iter([sentences[i : i + SENTENCES] for i in range(0, len(sentences), SENTENCES)])
    librilight(folder / "LibriLight", [next(speakers) for _ in range(3)])
    librispeech(folder / "LibriSpeech", folder / "alignments", speakers)
    voicebank(folder / "VoiceBank", [next(speakers) for _ in range(4)], noises)
    wsj0chime3(folder / "WSJ0-CHiME3", next(speakers), noises)
    dns2020(folder / "DNS2020", next(speakers), noises)
    wham(folder / "WHAM", noises)
    librimix(folder / "LibriMix", folder / "LibriSpeech", noises)


def librilight(folder: Path, speakers: list[Speaker]) -> None:
    """Write one recording of each speaker, and a file with the times of its speech."""
    for number, speaker in enumerate(speakers, 14):
        path = folder / "small" / str(number) / "book_librivox_64kb_mp3" / f"book.{number}_01_64kb.flac"
        put(path, np.concatenate([part for _, wave in speaker for part in (wave, PAUSE)]))
        starts = itertools.accumulate((len(wave) + len(PAUSE) for _, wave in speaker), initial=0)
        speech = [(start / RATE, (start + len(wave)) / RATE) for start, (_, wave) in zip(starts, speaker, strict=False)]
        write(path.with_suffix(".json"), json.dumps({"speaker": str(number), "snr": 20.0, "voice_activity": speech}))


def librispeech(folder: Path, grids: Path, speakers: Iterator[Speaker]) -> None:
    """Write utterances of two sentences, their words, and TextGrids laid out as by the Montreal Forced Aligner.

    The phones of a text share its recording evenly, because forced alignment fails on half of these voices.
    """
    pronounce, number = Pronouncer(default_lexicon(), frozenset(espeak.ARPABET)), 100
    for name, count in LIBRISPEECH.items():
        for speaker in itertools.islice(speakers, count):
            number, words = number + 1, []
            chapter = Path(name, str(number), "1")
            (grids / chapter).mkdir(parents=True, exist_ok=True)
            for first in range(0, SENTENCES, LONG):
                texts, waves = zip(*speaker[first : first + LONG], strict=True)
                text, wave = re.sub(r"[^A-Z' ]", "", " ".join(texts).upper()), np.concatenate(waves)
                stem = f"{number}-1-{first // LONG:04}"
                put(folder / chapter / f"{stem}.flac", wave)
                words.append(f"{stem} {text}\n")
                spoken = [word for sentence in pronounce(text) for word in sentence.words]
                tokens = phones.spell([word.phones for word in spoken])
                edges = np.linspace(0, -(-len(wave) * phones.RATE // RATE), len(tokens) + 1).astype(int)
                line = phones.Line(tokens, tuple(np.diff(edges).tolist()), tuple(word.text for word in spoken))
                textgrid.write_textgrid(grids / chapter / f"{stem}.TextGrid", line)
            write(folder / chapter / f"{number}-1.trans.txt", "".join(words))


def voicebank(folder: Path, speakers: list[Speaker], noises: Noises) -> None:
    """Write pairs at 48 kHz for training (one speaker is held out) and for a test, and a log of their noises."""
    for name, voices in {"trainset_28spk": {"p226": 0, "p239": 1, "p244": 2}, "testset": {"p232": 3}}.items():
        log = []
        for speaker, voice in voices.items():
            for number, (_, wave) in enumerate(speakers[voice], 1):
                level, stem = (2.5, 7.5, 12.5, 17.5)[number % 4], f"{speaker}_{number:03}"
                sides = {"clean": wave, "noisy": wave + noise_at(level, wave, noises)}
                for side, waveform in sides.items():
                    put(folder / f"{side}_{name}_wav" / f"{stem}.wav", audio.resample(waveform, RATE, 48000), 48000)
                log.append(f"{stem} {('bus', 'cafe')[number % 2]} {level}\n")
        write(folder / f"log_{name}.txt", "".join(log))


def wsj0chime3(folder: Path, speaker: Speaker, noises: Noises) -> None:
    """Write pairs for 'train', 'valid' and 'test'."""
    for number, (_, wave) in enumerate(speaker):
        name = "test" if number > 3 else "valid" if number > 2 else "train"
        for side, waveform in {"clean": wave, "noisy": wave + noise_at(5.0, wave, noises)}.items():
            put(folder / name / side / f"44{number}c0201.wav", waveform)


def dns2020(folder: Path, speaker: Speaker, noises: Noises) -> None:
    """Write the files that the noisy-speech synthesizer of the challenge writes."""
    for number, (_, wave) in enumerate(speaker):
        noise = noise_at(3.0, wave, noises)
        files = {
            f"clean/clean_fileid_{number}": wave,
            f"noise/noise_fileid_{number}": noise,
            f"noisy/book_snr3_tl-24_fileid_{number}": wave + noise,
        }
        for name, waveform in files.items():
            put(folder / "training" / f"{name}.wav", waveform)


def wham(folder: Path, noises: Noises) -> None:
    """Write noise on two channels."""
    for name, count in {"tr": 6, "cv": 3, "tt": 3}.items():
        names = [f"40na010{number}_1.98_01xo031a_-1.98.wav" for number in range(count)]
        for file in names:
            put(folder / name / file, np.stack([next(noises), next(noises)], axis=1))
        write(folder / "metadata" / f"noise_meta_{name}.csv", "\n".join(["utterance_id", *names]))


def librimix(folder: Path, speech: Path, noises: Noises) -> None:
    """Write mixtures of dev-clean and test-clean as the generator writes them, as long as their shortest source."""
    for speakers, (name, speech_set) in itertools.product((2, 3), {"dev": "dev-clean", "test": "test-clean"}.items()):
        base, lines = folder / f"Libri{speakers}Mix" / "wav16k" / "min", ["mixture_ID,mixture_path,length"]
        by_speaker = [sorted(path.rglob("*.flac")) for path in sorted((speech / speech_set).iterdir())][:speakers]
        for paths in zip(*by_speaker, strict=True):
            sources = [audio.read(path)[0] for path in paths]
            sources = np.stack([0.3 * source[: min(map(len, sources))] for source in sources])
            mixture, stem = sources.sum(axis=0), "_".join(path.stem for path in paths)
            noise = noise_at(5.0, mixture, noises)
            files = {f"s{number}": source for number, source in enumerate(sources, 1)}
            files |= {"noise": noise, "mix_clean": mixture, "mix_both": mixture + noise}
            for kind, waveform in files.items():
                put(base / name / kind / f"{stem}.wav", waveform)
            lines.append(f"{stem},{stem}.wav,{len(mixture)}")
        for kind in ("mix_clean", "mix_both"):
            write(base / "metadata" / f"mixture_{name}_{kind}.csv", "\n".join(lines))


def noise_at(level: float, wave: np.ndarray, noises: Noises) -> np.ndarray:
    """Return the next noise, with the length of a waveform and `level` dB below it."""
    noise = np.resize(next(noises), len(wave))
    return (noise * np.sqrt(np.mean(wave**2) / np.mean(noise**2)) * 10 ** (-level / 20)).astype(np.float32)


def put(path: Path, wave: np.ndarray, rate: int = RATE) -> None:
    """Write a waveform [samples] or [samples, channels] at half its amplitude, so that mixtures do not clip."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.5 * wave, rate)


def write(path: Path, text: str) -> None:
    """Write a text file, and its folder if it does not exist."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    try:
        if len(sys.argv) != 2:
            raise UserError(f"expected one argument, the folder for the corpora, got {sys.argv[1:]}")
        main(Path(sys.argv[1]))
    except UserError as error:
        sys.exit(complain(str(error)))
