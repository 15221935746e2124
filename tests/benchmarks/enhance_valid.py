"""Mixes the fixed list of noisy recordings that enhancement is chosen by, `enhance_valid.json`.

    python tests/benchmarks/enhance_valid.py --data DIR -o OUT
    sfjax evaluate --model RUN --manifest OUT/valid.parquet -o valid.json
    sfjax evaluate --model RUN --manifest OUT/p287.parquet -o p287.json
    sfjax evaluate --system noisy --manifest OUT/valid.parquet    (and --system bound)

DIR holds `manifest.jsonl` (path, seconds, set, spk, split, kind) and the audio it names. OUT gets `clean/`, `noisy/`
and `valid.parquet` with 72 pairs: each held-out speaker of set ls100 at 0, 5 and 10 dB in held-out clips of ESC-10,
and `p287/` and `p287.parquet` with the six VoiceBank-DEMAND pairs of speaker p287. The list holds names and numbers
only, and no random number is drawn to mix it. `--make` writes the list itself, always the same from the same DIR.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np

from sfjax import __main__ as cli
from sfjax import audio
from sfjax.data import manifest, noise_mixer
from sfjax.errors import UserError

LIST = Path(__file__).with_suffix(".json")
RATE = 16_000  # Hz
SNRS = (0.0, 5.0, 10.0)  # dB, on active samples
SKIPPED, LONGEST = 0.5, 8.0  # seconds: where crops begin at the earliest, and how long they are at most
ABOUT = (
    "Mixtures for choosing enhancement models. speech[start : start + frames] in the clip `noise`, repeated without "
    "end and read from sample `offset`, at `snr` dB between active levels, that of the noise over the whole clip; "
    "samples at 16000 Hz. Then both waves are turned down alike if either peaks above 0.99."
)


def make(data: Path, *, seed: int) -> dict[str, Any]:
    """The list: kinds of noise take turns, and no clip comes twice."""
    lines = [json.loads(line) for line in (data / "manifest.jsonl").read_text().splitlines()]
    valid = lambda name: [line for line in lines if line["set"] == name and line["split"] == "valid"]
    rng = np.random.default_rng(seed)
    clips: dict[str, list[str]] = {}
    for line in valid("esc10"):
        clips.setdefault(line["kind"], []).append(line["path"])
    kinds = rng.permutation(sorted(clips)).tolist()
    decks = {kind: rng.permutation(sorted(clips[kind])).tolist() for kind in kinds}
    items: list[dict[str, Any]] = []
    for line in sorted(valid("ls100"), key=lambda line: line["path"]):
        for snr in SNRS:
            kind = kinds[len(items) % len(kinds)]
            items.append(item(data, line, kind, decks[kind].pop(), snr, rng))
    return {"about": ABOUT, "rate": RATE, "seed": seed, "items": items}


def item(data: Path, line: dict[str, Any], kind: str, noise: str, snr: float, rng: np.random.Generator) -> dict:
    """One mixture: where its speech is cut, and where its noise begins."""
    info, clip = audio.probe(data / line["path"]), audio.probe(data / noise)
    first = round(SKIPPED * RATE)
    frames = min(info.frames - first, round(LONGEST * RATE))
    return {
        "name": f"{line['spk']}_{snr:02.0f}dB",
        "speaker": line["spk"],
        "speech": line["path"],
        "start": int(rng.integers(first, info.frames - frames + 1)),
        "frames": frames,
        "noise": noise,
        "kind": kind,
        "offset": int(rng.integers(clip.frames)),
        "snr": snr,
    }


def mixed(data: Path, item: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """The clean and the noisy wave of an item, both at `RATE`."""
    speech, _ = audio.read(data / item["speech"], start=item["start"], frames=item["frames"], rate=RATE)
    clip, _ = audio.read(data / item["noise"], rate=RATE)
    noise = np.resize(np.roll(clip, -item["offset"]), len(speech))
    levels = dict(speech_level=noise_mixer.active_level(speech, RATE), noise_level=noise_mixer.active_level(clip, RATE))
    noisy = noise_mixer.at_snr(speech, noise, item["snr"], **levels)
    peak = max(np.abs(noisy).max(), np.abs(speech).max())
    scale = np.float32(min(1.0, noise_mixer.CEILING / max(peak, noise_mixer.CEILING)))
    return speech * scale, noisy * scale


def write(data: Path, out: Path, items: list[dict[str, Any]]) -> None:
    """Writes the pairs of all items and those of p287, and a manifest of each."""
    for item in items:
        for folder, wav in zip(("clean", "noisy"), mixed(data, item), strict=True):
            audio.write(out / folder / f"{item['name']}.flac", wav, RATE)
    for folder in ("clean", "noisy"):
        (out / "p287" / folder).mkdir(parents=True, exist_ok=True)
        for path in sorted((data / "pairs/vbd" / folder).glob("p287_*.flac")):
            shutil.copyfile(path, out / "p287" / folder / path.name)
    for source, name in ((out, "valid"), (out / "p287", "p287")):
        pairs = [str(source / "clean"), str(source / "noisy"), str(out / f"{name}.parquet")]
        if cli.main(["prepare", "pairs", *pairs, "--speaker-from", "([^/_]+)_", "--split", "valid", "--workers", "1"]):
            sys.exit("the pairs could not be prepared")


def chosen(path: Path, count: int) -> list[dict[str, Any]]:
    """At most `count` rows of a manifest, always the same of them, with absolute paths."""
    found = manifest.read(path, split=None)
    return [found.row(int(i)) for i in np.sort(np.random.default_rng(0).permutation(len(found))[:count])]


def main(argv: list[str] | None = None) -> None:
    """Makes the list, or mixes what it says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with manifest.jsonl and the audio")
    parser.add_argument("-o", "--output", type=Path, help="folder for the pairs")
    parser.add_argument("--list", type=Path, default=LIST, help="where the list is; default: beside this file")
    parser.add_argument("--make", action="store_true", help="write the list instead of pairs")
    parser.add_argument("--quick", action="store_true", help="the first three pairs only")
    given = parser.parse_args(argv)
    if given.make:
        text = json.dumps(make(given.data, seed=0), indent=1, ensure_ascii=False)
        given.list.write_text(text + "\n", encoding="utf-8")
        return
    if given.output is None:
        parser.error("expected -o OUT, a folder for the pairs")
    items = json.loads(given.list.read_text(encoding="utf-8"))["items"]
    try:
        write(given.data, given.output, items[:3] if given.quick else items)
    except UserError as error:
        sys.exit(f"{given.data} lacks what the list names: {error}")


if __name__ == "__main__":
    main()
