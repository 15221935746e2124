"""Corpora of clean speech become rows with speaker, words, set and split; broken trees are reported completely."""

import json
import random
import shutil

import pytest
from sounds import CHECKS, noise, put, rejects, rows

from sfjax.data import corpora, prepare
from sfjax.data.corpora import librilight
from sfjax.data.scan import Reject
from sfjax.errors import UserError


def lay_librilight(folder):
    """Two speakers in one set and one in another; each recording of 40 s."""
    segments = [[0.4, 6.0], [6.8, 12.0], [13.0, 16.4], [17.0, 37.0]]
    for name, speaker in (("small", "14"), ("small", "28"), ("medium", "960")):
        path = folder / name / speaker / f"book_{speaker}_librivox_64kb_mp3" / f"book.{speaker}_01_64kb.flac"
        put(path, noise(40 * 16000, int(speaker)))
        entry = {"speaker": speaker, "book_meta": {"id": "319"}, "snr": 5.391, "voice_activity": segments}
        path.with_suffix(".json").write_text(json.dumps(entry, indent=1))


def lay_libritts(folder):
    for name, speaker in (("train-clean-100", "19"), ("dev-clean", "84"), ("test-other", "367")):
        for sentence in ("000000_000000", "000000_000001"):
            stem = folder / name / speaker / "198" / f"{speaker}_198_{sentence}"
            put(stem.with_suffix(".wav"), noise(24000, int(speaker)), 24000)
            stem.with_suffix(".normalized.txt").write_text(f"Mister {speaker} — said so.")
            stem.with_suffix(".original.txt").write_text(f"Mr. {speaker} — said so.")
        stem.with_name(f"{speaker}_198.trans.tsv").write_text("as it lies there\n")


def lay_vctk(folder):
    sound, text = folder / "wav48_silence_trimmed", folder / "txt"
    for speaker, microphones in (("p225", "12"), ("p280", "1"), ("p315", "1"), ("s5", "12")):
        for number in ("001", "002"):
            for microphone in microphones:
                put(sound / speaker / f"{speaker}_{number}_mic{microphone}.flac", noise(48000, int(number)), 48000)
            if speaker != "p315":
                (text / speaker).mkdir(parents=True, exist_ok=True)
                (text / speaker / f"{speaker}_{number}.txt").write_text("Please call Stella.\n")
    (sound / "log.txt").write_text("as it lies there\n")
    (folder / "speaker-info.txt").write_text("ID  AGE  GENDER  ACCENTS  REGION COMMENTS\np225  23  F    English\n")


LAID = {"librilight": lay_librilight, "libritts": lay_libritts, "vctk": lay_vctk}


@pytest.fixture
def folder(request, tmp_path):
    """The folder of the corpus of this name."""
    LAID[request.param](tmp_path / request.param)
    return tmp_path / request.param


def prepared(folder, **how):
    return prepare.corpus(folder.name, folder, folder.parent / "m.parquet", **{"sets": ()} | CHECKS | how)


def of_each(**values):
    """Parametrize a test by a corpus and the expected values."""
    return pytest.mark.parametrize("folder, wanted", list(values.items()), indirect=["folder"], ids=list(values))


@of_each(
    librilight=[
        (name, "train", speaker, None, f"book.{speaker}_01_64kb.flac", *span)
        for name, speaker in (("small", "14"), ("small", "28"), ("medium", "960"))
        for span in ((0.4, 16.0), (17.0, 10.0), (27.0, 10.0))
    ],
    libritts=[
        (name, split, speaker, f"Mister {speaker} — said so.", f"{speaker}_198_000000_00000{i}.wav", 0, 1)
        for name, split, speaker in (
            ("train-clean-100", "train", "19"),
            ("dev-clean", "valid", "84"),
            ("test-other", "test", "367"),
        )
        for i in range(2)
    ],
    vctk=[
        ("all", "train", speaker, words, f"{speaker}_00{number}_mic1.flac", 0, 1)
        for speaker, words in (
            ("p225", "Please call Stella."),
            ("p280", "Please call Stella."),
            ("p315", None),
            ("s5", "Please call Stella."),
        )
        for number in (1, 2)
    ],
)
def test_rows_have_set_split_speaker_words_and_crop(folder, wanted):
    summary = prepared(folder)
    assert [
        (r["set"], r["split"], r["speaker"], r["text"], r["path"].rpartition("/")[2])
        + (r["start"] / r["rate"], r["frames"] / r["rate"])
        for r in rows(summary.dest)
    ] == wanted
    assert (summary.rejected, summary.files, summary.speakers) == (0, len(wanted), len({row[2] for row in wanted}))


@of_each(
    librilight=(
        {"small": corpora.Published("train", 2, 80 / 3600)},
        "small: 2 recordings, 0.02 h in 6 pieces; published: as many and 0.0222222 h of whole recordings",
        "medium: 1 recordings, 0.01 h in 3 pieces; published: 18,739 and 5,193.5 h of whole recordings",
        "missing: large",
    ),
    libritts=(
        {"dev-clean": corpora.Published("valid", 2, 2 / 3600)},
        "train-clean-100: 2 recordings, 0.00 h; published: 33,236 and 53.78 h",
        "dev-clean: 2 recordings, 0.00 h, as published",
        "test-other: 2 recordings, 0.00 h; published: 5,120 and 6.69 h",
        "missing: train-clean-360, train-other-500, dev-other, test-clean",
    ),
    vctk=({}, "all: 8 recordings, 0.00 h; published: 44,455"),
)
def test_each_set_is_compared_with_its_published_numbers(folder, wanted, monkeypatch):
    changed, *lines = wanted
    one = corpora.load(folder.name)
    with monkeypatch.context() as patch:
        patch.setattr(f"sfjax.data.corpora.{folder.name}.CORPUS", one._replace(sets={**one.sets, **changed}))
        assert list(prepared(folder).notes) == lines


def cut(path):
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def break_librilight(folder):
    sound = {path.parent.parent.name: path for path in folder.glob("*/*/*/*.flac")}
    sound["14"].with_suffix(".json").unlink()
    cut(sound["28"])
    for name, change in {
        "not-json": "{",
        "other": {"speaker": "14"},
        "mute": {"voice_activity": []},
        "late": {"voice_activity": [[39.0, 40.07], [40.1, 41.0]]},
        "odd": {"voice_activity": [[2.0, 1.0], [3, 9], [8.0, 12.0], [12.0], [12.0, 20.0]]},
        "alone": {},
        "fast": {"voice_activity": [[1.0, 4.0]]},
        "noise": {},
    }.items():
        path = sound["960"].with_name(f"{name}.flac")
        text = json.dumps({"speaker": "960", "voice_activity": [[1, 4]]} | change) if name != "not-json" else change
        path.with_suffix(".json").write_text(text)
        if name == "fast":
            put(path, noise(44100 * 5), 44100)
        elif name == "noise":
            path.write_bytes(b"no sound")
        elif name != "alone":
            shutil.copy(sound["960"], path)
    shutil.copy(sound["960"], sound["960"].with_name("copy.wav"))


def break_libritts(folder):
    train, dev, test = (folder / name for name in ("train-clean-100/19/198", "dev-clean/84/198", "test-other/367/198"))
    (train / "19_198_000000_000000.normalized.txt").unlink()
    (train / "19_198_000000_000001.normalized.txt").write_text(" \n")
    (dev / "84_198_000000_000000.wav").unlink()
    cut(dev / "84_198_000000_000001.wav")
    put(test / "367_198_000000_000000.wav", noise(16000), 16000)
    shutil.copy(test / "367_198_000000_000001.wav", test / "copy of 1.wav")
    put(test / "367_198_000000_000002.wav", noise(24000), 24000)
    (test / "367_198_000000_000002.normalized.txt").write_bytes(b"caf\xe9")


def break_vctk(folder):
    sound, text = folder / "wav48_silence_trimmed", folder / "txt"
    (text / "p225" / "p225_001.txt").unlink()
    (sound / "p225" / "p225_002_mic1.flac").unlink()
    cut(sound / "p280" / "p280_001_mic1.flac")
    put(sound / "p315" / "p315_001_mic1.flac", noise(44100), 44100)
    shutil.copy(sound / "s5" / "s5_001_mic1.flac", sound / "s5" / "s5_001.flac")
    (text / "p999").mkdir()
    (text / "p999" / "p999_001.txt").write_text("Please call Stella.\n")


@of_each(
    librilight=(
        break_librilight,
        7,  # 3 of the whole one, 1 of the one cut, 1 of late, 2 of odd
        {
            "book.14_01_64kb.flac": ["has no book.14_01_64kb.json"],
            "book.28_01_64kb.flac": ["CUT", "CUT"],
            "not-json.flac": ["not-json.json is not JSON (Expecting property name enclosed in double quotes: line 1"],
            "other.flac": ["other.json has speaker '14', but is in the folder of '960'"],
            "mute.flac": ["mute.json has no segments of speech in 'voice_activity'"],
            "late.flac": ["segment [40.1, 41.0] of late.json passes the end of the file at 40.000 s"],
            "odd.flac": [
                "segment [2.0, 1.0] of odd.json ends before it starts",
                "segment [8.0, 12.0] of odd.json starts before 9 s, the end of the previous one",
                "segment [12.0] of odd.json is not a start and an end in seconds",
            ],
            "alone.flac": ["is missing, but alone.json has its segments"],
            "fast.flac": ["44100 Hz, expected 16000 Hz"],
            "noise.flac": ["not readable as sound"],
            "copy.wav": ["not named like Libri-Light's files, NAME.flac and NAME.json"],
        },
    ),
    libritts=(
        break_libritts,
        1,
        {
            "19_198_000000_000000.wav": ["has no 19_198_000000_000000.normalized.txt"],
            "19_198_000000_000001.wav": ["19_198_000000_000001.normalized.txt is empty"],
            "84_198_000000_000000.wav": ["is missing, but 84_198_000000_000000.normalized.txt has its words"],
            "84_198_000000_000001.wav": ["states 48000 bytes of sound, holds "],
            "367_198_000000_000000.wav": ["16000 Hz, expected 24000 Hz"],
            "367_198_000000_000002.wav": ["367_198_000000_000002.normalized.txt is not in UTF-8"],
            "copy of 1.wav": ["not named like LibriTTS's files, such as 367_198_000000_000000.wav"],
        },
    ),
    vctk=(
        break_vctk,
        4,
        {
            "p225_001_mic1.flac": ["has no p225_001.txt"],
            "p225_002_mic1.flac": ["is missing, but p225_002.txt has its words"],
            "p280_001_mic1.flac": ["CUT"],
            "p315_001_mic1.flac": ["44100 Hz, expected 48000 Hz"],
            "s5_001.flac": ["not named like VCTK's files, such as s5_001_mic1.flac"],
            "p999_001_mic1.flac": ["is missing, but p999_001.txt has its words"],
        },
    ),
)
def test_a_broken_tree_is_reported_completely(folder, wanted):
    broken, files, reasons = wanted
    broken(folder)
    summary = prepared(folder)
    found = {}
    for entry in rejects(summary):
        # of a FLAC that is cut short libsndfile says one thing or another
        reason = "CUT" if entry["reason"].split()[0] in ("broken", "expected") else entry["reason"]
        found.setdefault(entry["path"].rpartition("/")[2], []).append(reason)
    assert found.keys() == reasons.keys()
    for name, wants in reasons.items():
        assert len(found[name]) == len(wants), found[name]
        assert all(reason.startswith(want) for reason, want in zip(found[name], wants, strict=True)), found[name]
    assert summary.files == files


@of_each(
    librilight="expected Libri-Light with small, medium, large or some of these, found inner",
    libritts="expected LibriTTS with train-clean-100, .* or some of these, found inner",
    vctk="expected VCTK 0.92 with wav48_silence_trimmed, txt or some of these, found inner",
)
def test_another_layout_is_rejected_in_one_line(folder, wanted):
    folder.rename(folder.parent / "inner")
    folder.mkdir()
    (folder.parent / "inner").rename(folder / "inner")
    with pytest.raises(UserError, match=wanted):
        prepared(folder)


@pytest.mark.parametrize("folder", ["vctk"], indirect=True)
def test_vctk_without_texts_is_rejected(folder):
    shutil.rmtree(folder / "txt")
    with pytest.raises(UserError, match="with both wav48_silence_trimmed and txt, found only wav48_silence_trimmed"):
        prepared(folder)


def test_pieces_are_at_most_16_s_and_leave_out_only_silence():
    draw = random.Random(0)
    for _ in range(200):
        frames, segments = 0, []
        for _ in range(draw.randint(0, 40)):  # in frames of 80 ms, as the corpus has them
            start = frames + draw.randint(6, 60)
            frames = start + draw.choice([draw.randint(7, 150), 200, draw.randint(201, 1000)])
            segments.append((round(0.08 * start, 2), round(0.08 * frames, 2)))
        pieces = list(librilight._joined_spans(segments))
        ends = [start + length for start, length in pieces]
        assert all(0 < length <= 16 + 1e-9 for _, length in pieces)
        assert all(end <= start + 1e-9 for end, (start, _) in zip(ends, pieces[1:], strict=False))
        for start, end in segments:
            held = [max(0.0, min(end, b) - max(start, a)) for (a, _), b in zip(pieces, ends, strict=True)]
            inside = max(held) if round(end - start, 2) <= 16 else sum(held)  # only what is longer is cut
            assert inside == pytest.approx(end - start)
        whole = dict(segments)
        for (a, _), (c, _) in zip(pieces, pieces[1:], strict=False):
            assert not {a, c} <= whole.keys() or round(whole[c] - a, 2) > 16  # else they would be one


def test_segments_that_fit_exactly_are_one_piece():
    for first in range(2000):  # of which 16 s between two decimals come out as a little more now and then
        times = [round(0.08 * (first + frame), 2) for frame in (0, 100, 110, 200)]
        ((start, length),) = librilight._joined_spans([(times[0], times[1]), (times[2], times[3])])
        assert (start, length) == pytest.approx((times[0], 16.0))


@pytest.mark.parametrize("folder", ["librilight"], indirect=True)
def test_pieces_are_yielded_before_later_recordings_are_read(folder):
    found = librilight.find(folder)
    assert "/14/" in next(found).path
    (late,) = folder.glob("small/28/*/*.json")
    late.unlink()
    assert [one.path for one in found if isinstance(one, Reject)] == [str(late.with_suffix(".flac"))]
