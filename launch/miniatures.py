"""The paper's corpora in miniature and in their own layouts, of generated voices, for `launch/paper.sh --tiny`.

    python launch/miniatures.py FOLDER

It takes half a minute on two cores and wants `pip install -e '.[text]'`.
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
from sfjax.data import voices
from sfjax.errors import UserError, complain
from sfjax.text import alignment, espeak, phones
from sfjax.text.pronounce import Pronouncer, default_lexicon
from sfjax.verbs.verb import cores

RATE = voices.RATE
SENTENCES, LONG = 8, 2  # of a speaker, and of an utterance, which is to last 4 to 10 s
PAUSE = np.zeros(RATE // 2, np.float32)
LIBRISPEECH = {"train-clean-100": 2, "train-clean-360": 3, "train-other-500": 2, "dev-clean": 3, "test-clean": 3}

Speaker = list[tuple[str, np.ndarray]]  # sentences and their waves at RATE
Noises = Iterator[np.ndarray]


def main(folder: Path) -> None:
    """Writes LibriLight, LibriSpeech, alignments, VoiceBank, WSJ0-CHiME3, DNS2020, WHAM and LibriMix below `folder`."""
    with tempfile.TemporaryDirectory() as made:
        spoken = voices.generate(made, voices=3 + 13 + 4 + 2, sentences=SENTENCES, seed=0, workers=cores())
        lines = [json.loads(line) for line in spoken.read_text(encoding="utf-8").splitlines()]
        said = [(line["text"], audio.read(Path(made, line["path"]))[0]) for line in lines]
        noises = itertools.cycle([audio.read(path)[0] for path in voices.noises(Path(made, "noise"), count=12, seed=0)])
    speakers = iter([said[i : i + SENTENCES] for i in range(0, len(said), SENTENCES)])
    librilight(folder / "LibriLight", [next(speakers) for _ in range(3)])
    librispeech(folder / "LibriSpeech", folder / "alignments", speakers)
    voicebank(folder / "VoiceBank", [next(speakers) for _ in range(4)], noises)
    wsj0chime3(folder / "WSJ0-CHiME3", next(speakers), noises)
    dns2020(folder / "DNS2020", next(speakers), noises)
    wham(folder / "WHAM", noises)
    librimix(folder / "LibriMix", folder / "LibriSpeech", noises)


def librilight(folder: Path, speakers: list[Speaker]) -> None:
    """A recording of each speaker, and where speech is in it."""
    for number, speaker in enumerate(speakers, 14):
        path = folder / "small" / str(number) / "book_librivox_64kb_mp3" / f"book.{number}_01_64kb.flac"
        put(path, np.concatenate([part for _, wave in speaker for part in (wave, PAUSE)]))
        starts = itertools.accumulate((len(wave) + len(PAUSE) for _, wave in speaker), initial=0)
        heard = [(start / RATE, (start + len(wave)) / RATE) for start, (_, wave) in zip(starts, speaker, strict=False)]
        write(path.with_suffix(".json"), json.dumps({"speaker": str(number), "snr": 20.0, "voice_activity": heard}))


def librispeech(folder: Path, grids: Path, speakers: Iterator[Speaker]) -> None:
    """Utterances of two sentences, their words, and TextGrids in the folders of the Montreal Forced Aligner's output.

    A text's phones share its recording evenly: forced alignment loses half of these voices.
    """
    pronounce, number = Pronouncer(default_lexicon(), frozenset(espeak.ARPABET)), 100
    for name, count in LIBRISPEECH.items():
        for speaker in itertools.islice(speakers, count):
            number, words = number + 1, []
            place = Path(name, str(number), "1")
            (grids / place).mkdir(parents=True, exist_ok=True)
            for first in range(0, SENTENCES, LONG):
                texts, waves = zip(*speaker[first : first + LONG], strict=True)
                text, wave = re.sub(r"[^A-Z' ]", "", " ".join(texts).upper()), np.concatenate(waves)
                stem = f"{number}-1-{first // LONG:04}"
                put(folder / place / f"{stem}.flac", wave)
                words.append(f"{stem} {text}\n")
                said = [word for sentence in pronounce(text) for word in sentence.words]
                tokens = phones.spell([word.phones for word in said])
                edges = np.linspace(0, -(-len(wave) * phones.RATE // RATE), len(tokens) + 1).astype(int)
                line = phones.Line(tokens, tuple(np.diff(edges).tolist()), tuple(word.text for word in said))
                alignment.write_textgrid(grids / place / f"{stem}.TextGrid", line)
            write(folder / place / f"{number}-1.trans.txt", "".join(words))


def voicebank(folder: Path, speakers: list[Speaker], noises: Noises) -> None:
    """Pairs at 48 kHz of speakers to learn from, of one held out, and of a test, and which noise they have."""
    for name, of in {"trainset_28spk": {"p226": 0, "p239": 1, "p244": 2}, "testset": {"p232": 3}}.items():
        logged = []
        for speaker, place in of.items():
            for number, (_, wave) in enumerate(speakers[place], 1):
                level, stem = (2.5, 7.5, 12.5, 17.5)[number % 4], f"{speaker}_{number:03}"
                sides = {"clean": wave, "noisy": wave + noise_at(level, wave, noises)}
                for side, found in sides.items():
                    put(folder / f"{side}_{name}_wav" / f"{stem}.wav", audio.resample(found, RATE, 48000), 48000)
                logged.append(f"{stem} {('bus', 'cafe')[number % 2]} {level}\n")
        write(folder / f"log_{name}.txt", "".join(logged))


def wsj0chime3(folder: Path, speaker: Speaker, noises: Noises) -> None:
    """Pairs of 'train', 'valid' and 'test'."""
    for number, (_, wave) in enumerate(speaker):
        name = "test" if number > 3 else "valid" if number > 2 else "train"
        for side, found in {"clean": wave, "noisy": wave + noise_at(5.0, wave, noises)}.items():
            put(folder / name / side / f"44{number}c0201.wav", found)


def dns2020(folder: Path, speaker: Speaker, noises: Noises) -> None:
    """What the synthesizer writes."""
    for number, (_, wave) in enumerate(speaker):
        noise = noise_at(3.0, wave, noises)
        files = {
            f"clean/clean_fileid_{number}": wave,
            f"noise/noise_fileid_{number}": noise,
            f"noisy/book_snr3_tl-24_fileid_{number}": wave + noise,
        }
        for name, found in files.items():
            put(folder / "training" / f"{name}.wav", found)


def wham(folder: Path, noises: Noises) -> None:
    """Noise on two channels."""
    for name, count in {"tr": 6, "cv": 3, "tt": 3}.items():
        names = [f"40na010{number}_1.98_01xo031a_-1.98.wav" for number in range(count)]
        for one in names:
            put(folder / name / one, np.stack([next(noises), next(noises)], axis=1))
        write(folder / "metadata" / f"noise_meta_{name}.csv", "\n".join(["utterance_id", *names]))


def librimix(folder: Path, speech: Path, noises: Noises) -> None:
    """Mixtures of dev-clean and of test-clean as the generator leaves them, as long as their shortest source."""
    for speakers, (name, of) in itertools.product((2, 3), {"dev": "dev-clean", "test": "test-clean"}.items()):
        base, lines = folder / f"Libri{speakers}Mix" / "wav16k" / "min", ["mixture_ID,mixture_path,length"]
        by_speaker = [sorted(place.rglob("*.flac")) for place in sorted((speech / of).iterdir())][:speakers]
        for paths in zip(*by_speaker, strict=True):
            sources = [audio.read(path)[0] for path in paths]
            sources = np.stack([0.3 * source[: min(map(len, sources))] for source in sources])
            mixture, one = sources.sum(axis=0), "_".join(path.stem for path in paths)
            noise = noise_at(5.0, mixture, noises)
            files = {f"s{number}": source for number, source in enumerate(sources, 1)}
            files |= {"noise": noise, "mix_clean": mixture, "mix_both": mixture + noise}
            for kind, found in files.items():
                put(base / name / kind / f"{one}.wav", found)
            lines.append(f"{one},{one}.wav,{len(mixture)}")
        for kind in ("mix_clean", "mix_both"):
            write(base / "metadata" / f"mixture_{name}_{kind}.csv", "\n".join(lines))


def noise_at(level: float, wave: np.ndarray, noises: Noises) -> np.ndarray:
    """The next noise, as long as a wave and so many dB below it."""
    noise = np.resize(next(noises), len(wave))
    return (noise * np.sqrt(np.mean(wave**2) / np.mean(noise**2)) * 10 ** (-level / 20)).astype(np.float32)


def put(path: Path, wave: np.ndarray, rate: int = RATE) -> None:
    """Writes a wave [samples] or [samples, channels], half as loud so that mixtures do not clip."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.5 * wave, rate)


def write(path: Path, text: str) -> None:
    """Writes a text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    try:
        if len(sys.argv) != 2:
            raise UserError(f"expected a folder for the corpora and nothing else, got {sys.argv[1:]}")
        main(Path(sys.argv[1]))
    except UserError as error:
        sys.exit(complain(str(error)))
