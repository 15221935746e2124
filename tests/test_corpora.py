"""LibriSpeech becomes rows, is compared with its published numbers, and broken trees are reported completely."""

import json
import shutil
from pathlib import Path

import pytest
from sounds import CHECKS, noise, put, rejects, rows

from sfjax.cli.data import CORPORA
from sfjax.data import corpora, prepare
from sfjax.data.corpora import librispeech
from sfjax.errors import UserError


def lay(folder, sets=("train-clean-100", "dev-clean", "test-other")):
    """LibriSpeech's layout with two utterances of each of two chapters in each set."""
    for number, name in enumerate(sets):
        for chapter in (10, 11):
            stem = f"{100 + number}-{chapter}"
            place = folder / name / str(100 + number) / str(chapter)
            for i in range(2):
                put(place / f"{stem}-{i:04}.flac", noise(16000, 10 * chapter + i))
            (place / f"{stem}.trans.txt").write_text(f"{stem}-0000 HELLO THERE\n{stem}-0001 IT'S {stem}\n")
    return folder


def prepared(folder, tmp_path, **how):
    return prepare.corpus("librispeech", folder, tmp_path / "m.parquet", **{"sets": ()} | CHECKS | how)


def test_utterances_come_with_speaker_words_set_and_split(tmp_path):
    summary = prepared(lay(tmp_path / "LibriSpeech"), tmp_path)
    found = rows(tmp_path / "m.parquet")
    assert [(r["speaker"], r["text"], r["set"], r["split"]) for r in found[:2]] == [
        ("100", "HELLO THERE", "train-clean-100", "train"),
        ("100", "IT'S 100-10", "train-clean-100", "train"),
    ]
    assert [r["split"] for r in found] == ["train"] * 4 + ["valid"] * 4 + ["test"] * 4
    assert (summary.files, summary.speakers, summary.rejected) == (12, 3, 0)
    assert json.loads(summary.stats.read_text())["corpus"] == "librispeech"


def test_each_set_is_compared_with_its_published_numbers(tmp_path, monkeypatch):
    seconds = {
        "dev-clean": corpora.Published("valid", 4, 4 / 3600),
        "test-other": corpora.Published("test", 4, 5 / 3600),
    }
    published = librispeech.SETS | seconds
    monkeypatch.setattr(librispeech, "CORPUS", librispeech.CORPUS._replace(sets=published))
    assert prepared(lay(tmp_path / "LibriSpeech"), tmp_path).notes == (
        "train-clean-100: 4 recordings, 0.00 h; published: 28,539 and 100.6 h",
        "dev-clean: 4 recordings, 0.00 h, as published",
        "test-other: 4 recordings, 0.00 h; published: 4 and 0.00138889 h",
        "missing: train-clean-360, train-other-500, dev-other, test-clean",
    )


def test_a_broken_tree_is_reported_completely(tmp_path):
    folder = lay(tmp_path / "LibriSpeech")
    train, dev, test = (folder / name for name in ("train-clean-100", "dev-clean", "test-other"))
    (train / "100" / "10" / "100-10.trans.txt").unlink()
    whole = train / "100" / "11" / "100-11-0000.flac"
    whole.write_bytes(whole.read_bytes()[:9000])
    put(dev / "101" / "10" / "101-10-0000.flac", noise(44100), 44100)
    (dev / "101" / "11" / "101-11-0001.flac").unlink()
    (test / "102" / "10" / "102-10-0001.flac").rename(test / "102" / "10" / "copy of 1.flac")
    summary = prepared(folder, tmp_path)
    reasons = {entry["path"].rpartition("/")[2]: entry["reason"] for entry in rejects(summary)}
    assert reasons.pop("100-11-0000.flac").split()[0] in ("broken", "expected")
    assert reasons == {
        "100-10-0000.flac": "has no line in 100-10.trans.txt",
        "100-10-0001.flac": "has no line in 100-10.trans.txt",
        "101-10-0000.flac": "44100 Hz, expected 16000 Hz",
        "101-11-0001.flac": "is missing, but 101-11.trans.txt has its words",
        "copy of 1.flac": "not named like LibriSpeech's files, such as 102-10-0000.flac",
        "102-10-0001.flac": "is missing, but 102-10.trans.txt has its words",
    }
    assert summary.files == 6
    assert summary.reasons[0].startswith("rejected 2, as ")


def test_parts_of_a_corpus_are_compared_when_they_are_merged(tmp_path):
    folder = lay(tmp_path / "LibriSpeech")
    whole = prepared(folder, tmp_path)
    parts = []
    for number in range(3):
        parts.append(tmp_path / f"part{number}.parquet")
        how = CHECKS | {"part": (number, 3)}
        assert not prepare.corpus("librispeech", folder, parts[-1], sets=(), **how).notes
    merged = prepare.merge(parts, tmp_path / "merged.parquet", mel=CHECKS["mel"], seed=0)
    assert merged.notes == whole.notes
    key = lambda row: row["path"]
    assert sorted(rows(merged.dest), key=key) == sorted(rows(whole.dest), key=key)


@pytest.mark.parametrize(
    "change, how, message",
    [
        (lambda folder: None, {"sets": ["train-clean"]}, "librispeech has no set 'train-clean'; choose from train-"),
        (lambda folder: shutil.rmtree(folder), {}, "expected the folder of LibriSpeech, found no such folder"),
        (
            lambda folder: [(shutil.rmtree(folder), put(folder / "a.wav", noise(8000)))],
            {},
            "expected LibriSpeech with train-clean-100, .* or some of these, found a.wav",
        ),
        (lambda folder: None, {"sets": ["dev-other"]}, "expected sound that can be used, found none"),
    ],
)
def test_another_layout_or_an_unknown_set_is_rejected_in_one_line(tmp_path, change, how, message):
    change(lay(tmp_path / "LibriSpeech"))
    with pytest.raises(UserError, match=message):
        prepared(tmp_path / "LibriSpeech", tmp_path, **how)


def test_one_set_can_be_given_by_its_own_folder(tmp_path):
    summary = prepared(lay(tmp_path / "LibriSpeech") / "dev-clean", tmp_path)
    assert {row["set"] for row in rows(summary.dest)} == {"dev-clean"}


@pytest.mark.parametrize("name", CORPORA)
def test_every_corpus_of_the_command_line_has_sets_of_known_splits(name):
    corpus = corpora.load(name)
    assert corpus.release and corpus.rates
    assert {one.split for one in corpus.sets.values()} <= {"train", "valid", "test"}
    assert all(one.recordings > 0 for one in corpus.sets.values())


def test_every_corpus_has_a_command():
    modules = {path.stem for path in Path(corpora.__file__).parent.glob("*.py")} - {"__init__"}
    assert modules == set(CORPORA)
