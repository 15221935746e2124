"""Preparing audio writes a manifest, its statistics and its rejects, whatever the workers, parts and interruptions."""

import json
import os
import shutil
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import soundfile
from sounds import CHECKS, MEL, noise, put, rejects, rows

from sfjax import audio
from sfjax.data import decode, manifest, prepare, scan
from sfjax.errors import UserError

FOLDER = {"speaker_from": "parent", "split": "train", "valid_share": 0.0, "kind": None}


def put_bad(folder):
    """Write one file of each kind of damage and return what its reason must say."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "empty.wav").write_bytes(b"")
    put(folder / "whole.flac", noise(32000))
    (folder / "truncated.flac").write_bytes((folder / "whole.flac").read_bytes()[:20000])
    (folder / "whole.flac").unlink()
    (folder / "text.wav").write_text("This was never a sound.\n" * 20)
    wav = noise(16000)
    wav[77] = np.nan
    put(folder / "nan.wav", wav, subtype="FLOAT")
    put(folder / "silent.flac", np.zeros(16000, np.float32))
    put(folder / "dither.flac", noise(16000, level=1e-5))
    put(folder / "single.wav", noise(1))
    put(folder / "none.wav", noise(0))
    put(folder / "piped.flac", noise(16000))
    piped = bytearray((folder / "piped.flac").read_bytes())
    piped[21] &= 0xF0  # the 36 bits of STREAMINFO that count the samples
    piped[22:26] = bytes(4)
    (folder / "piped.flac").write_bytes(piped)
    return {
        "empty.wav": "not readable as sound",
        "truncated.flac": "broken|cut short",
        "text.wav": "not readable as sound",
        "nan.wav": "1 samples are NaN",
        "silent.flac": "silent",
        "dither.flac": "silent",
        "single.wav": "0.000 s long, expected at least 0.2 s",
        "none.wav": "empty",
        "piped.flac": "does not state its length",
    }


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Three speakers, five files, four containers, two rates, and a text file."""
    folder = tmp_path_factory.mktemp("corpus")
    put(folder / "ann" / "1.wav", noise(16000, 1))
    put(folder / "ann" / "2.FLAC", noise(12345, 2), format="FLAC")
    put(folder / "bob" / "1.ogg", noise(22050, 3), 22050)
    put(folder / "bob" / "deep" / "1.mp3", noise(16000, 4))
    put(folder / "cid" / "1.opus", noise(8000, 5), format="OGG", subtype="OPUS")
    (folder / "ann" / "readme.txt").write_text("no sound")
    return folder


def test_every_sound_file_below_a_folder_becomes_a_row_with_its_own_length_rate_and_speaker(corpus, tmp_path):
    summary = prepare.folder(corpus, tmp_path / "m.parquet", **FOLDER | {"kind": "speech"}, **CHECKS)
    found = rows(tmp_path / "m.parquet")
    assert [(os.path.relpath(r["path"], corpus), r["speaker"]) for r in found] == [
        ("ann/1.wav", "ann"),
        ("ann/2.FLAC", "ann"),
        ("bob/1.ogg", "bob"),
        ("bob/deep/1.mp3", "deep"),
        ("cid/1.opus", "cid"),
    ]
    for r in found:
        wav, rate = soundfile.read(r["path"])
        assert (r["start"], r["frames"], r["rate"], r["split"], r["kind"]) == (0, len(wav), rate, "train", "speech")
    assert summary._replace(hours=0) == prepare.Summary(
        tmp_path / "m.parquet", tmp_path / "m.stats.json", None, 5, 0, 4, 0, 0, (), ()
    )
    assert summary.hours == pytest.approx((16000 + 12345 + 16000 + 16000 + 8000) / 16000 / 3600)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.parquet", "m.stats.json"]


def test_bad_files_are_listed_with_their_reason_and_the_rest_is_prepared(tmp_path):
    reasons = put_bad(tmp_path / "audio")
    put(tmp_path / "audio" / "good.wav", noise(16000))
    summary = prepare.folder(tmp_path / "audio", tmp_path / "m.parquet", **FOLDER, **CHECKS)
    listed = {os.path.basename(r["path"]): r["reason"] for r in rejects(summary)}
    assert listed.keys() == reasons.keys()
    for name, reason in reasons.items():
        assert any(part in listed[name] for part in reason.split("|")), (name, listed[name])
        assert "\n" not in listed[name]
    assert summary.rejected == len(reasons)
    assert [os.path.basename(r["path"]) for r in rows(tmp_path / "m.parquet")] == ["good.wav"]
    for name in reasons:
        (tmp_path / "audio" / name).unlink()
    again = prepare.folder(tmp_path / "audio", tmp_path / "m.parquet", **FOLDER, **CHECKS)
    assert again.rejects is None
    assert not summary.rejects.exists()


def test_without_a_good_file_the_error_is_one_line_and_there_is_no_manifest(tmp_path):
    put_bad(tmp_path / "audio")
    with pytest.raises(UserError, match="found none, 9 rejected") as error:
        prepare.folder(tmp_path / "audio", tmp_path / "m.parquet", **FOLDER, **CHECKS)
    assert "\n" not in str(error.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["audio", "m.rejects.jsonl"]
    for source, message in ((tmp_path / "nowhere", "no such folder"), (tmp_path / "audio" / "deep", "found none")):
        (tmp_path / "audio" / "deep").mkdir(exist_ok=True)
        with pytest.raises(UserError, match=message):
            prepare.folder(source, tmp_path / "m.parquet", **FOLDER, **CHECKS)


def test_any_number_of_workers_writes_the_same_bytes(tmp_path):
    for i in range(12):
        put(tmp_path / "audio" / f"s{i % 4}" / f"{i}.wav", noise(8000 + 100 * i, i))
    put_bad(tmp_path / "audio" / "bad")
    split = FOLDER | {"split": None, "valid_share": 0.3}
    written = []
    for workers in (1, 2):
        dest = tmp_path / str(workers) / "m.parquet"
        prepare.folder(tmp_path / "audio", dest, **split, **CHECKS | {"workers": workers})
        written.append({p.name: p.read_bytes() for p in dest.parent.iterdir()})
    assert written[0].keys() == {"m.parquet", "m.stats.json", "m.rejects.jsonl"}
    assert written[0] == written[1]


def test_a_manifest_above_its_audio_moves_with_it_and_a_manifest_elsewhere_moves_alone(tmp_path):
    put(tmp_path / "old" / "audio" / "a.wav", noise(16000))
    for dest in (tmp_path / "old" / "m.parquet", tmp_path / "lists" / "m.parquet"):
        prepare.folder(tmp_path / "old" / "audio", dest, **FOLDER, **CHECKS)
    shutil.move(tmp_path / "lists" / "m.parquet", tmp_path / "alone.parquet")
    assert rows(tmp_path / "alone.parquet")[0]["path"] == str(tmp_path / "old" / "audio" / "a.wav")
    shutil.move(tmp_path / "old", tmp_path / "new")
    assert rows(tmp_path / "new" / "m.parquet")[0]["path"] == str(tmp_path / "new" / "audio" / "a.wav")


def test_statistics_agree_with_the_files(corpus, tmp_path):
    summary = prepare.folder(corpus, tmp_path / "m.parquet", **FOLDER, **CHECKS)
    stats = json.loads(summary.stats.read_text())
    assert (stats["files"], stats["speakers"], stats["rates"]) == (5, 4, {"16000": 4, "22050": 1})
    assert stats["hours_by_split"] == {"train": pytest.approx(summary.hours)}
    values = []
    for r in rows(tmp_path / "m.parquet"):
        wav, _ = audio.read(r["path"], rate=16000)
        values.append(np.ravel(audio.log_mel(jnp.asarray(wav)[None], MEL)) * MEL.std + MEL.mean)
    values = np.concatenate(values).astype(np.float64)
    # float32 sums of an FFT differ with its compilation
    assert stats["log_mel"]["mean"] == pytest.approx(values.mean(), abs=1e-4)
    assert stats["log_mel"]["std"] == pytest.approx(values.std(), abs=1e-4)


def test_valid_speakers_are_the_requested_share_and_not_in_train(tmp_path):
    for i in range(20):
        put(tmp_path / "audio" / f"s{i % 10}" / f"{i}.wav", noise(4000, i))
    held = {}
    for share, seed in ((0.3, 0), (0.3, 1), (0.3, 2), (0.01, 0), (0.0, 0)):
        dest = tmp_path / f"{share}-{seed}.parquet"
        options = FOLDER | {"split": None, "valid_share": share}
        prepare.folder(tmp_path / "audio", dest, **options, **CHECKS | {"seed": seed})
        found = rows(dest)
        speakers = {name: {r["speaker"] for r in found if r["split"] == name} for name in ("train", "valid")}
        assert not speakers["train"] & speakers["valid"]
        assert len(speakers["train"] | speakers["valid"]) == 10
        held[share, seed] = speakers["valid"]
    assert [len(held[key]) for key in held] == [3, 3, 3, 1, 0]
    assert len({frozenset(held[0.3, seed]) for seed in range(3)}) > 1
    by_file = {"speaker_from": "none", "split": None, "valid_share": 0.5, "kind": None}
    prepare.folder(tmp_path / "audio", tmp_path / "none.parquet", **by_file, **CHECKS)
    assert len(rows(tmp_path / "none.parquet", split="valid")) == 10


def test_a_speaker_pattern_finds_its_group_in_the_path_and_rejects_other_files(corpus, tmp_path):
    options = FOLDER | {"speaker_from": r"^(b\w+|c\w+)/"}
    summary = prepare.folder(corpus, tmp_path / "m.parquet", **options, **CHECKS)
    assert [r["speaker"] for r in rows(tmp_path / "m.parquet")] == ["bob", "bob", "cid"]
    assert [os.path.basename(r["path"]) for r in rejects(summary)] == ["1.wav", "2.FLAC"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"speaker_from": "("}, "regular expression, got"),
        ({"speaker_from": "a.*"}, "one group in parentheses, got 0"),
        ({"valid_share": 0.5}, "give one of the two"),
        ({"split": None, "valid_share": 1.0}, "below 1"),
        ({"split": None, "valid_share": 0.95}, "leaves none to train on"),
    ],
)
def test_contradictory_options_are_rejected_before_decoding(corpus, tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        prepare.folder(corpus, tmp_path / "m.parquet", **FOLDER | options, **CHECKS)
    with pytest.raises(UserError, match="ends in .parquet"):
        prepare.folder(corpus, tmp_path / "m.csv", **FOLDER, **CHECKS)


def test_multichannel_files_are_counted_and_reported_once(tmp_path, capsys):
    for i, channels in enumerate((1, 2, 3)):
        put(tmp_path / "audio" / f"{i}.wav", noise((16000 * channels), i).reshape(-1, channels))
    summary = prepare.folder(tmp_path / "audio", tmp_path / "m.parquet", **FOLDER, **CHECKS)
    assert summary.mixed == 2
    assert [r["frames"] for r in rows(tmp_path / "m.parquet")] == [16000] * 3
    assert capsys.readouterr().err.count("2 of 3 files have several channels") == 1


def test_a_link_to_a_parent_folder_does_not_loop(tmp_path):
    put(tmp_path / "audio" / "a.wav", noise(16000))
    put(tmp_path / "other" / "b.wav", noise(16000))
    os.symlink(tmp_path / "audio", tmp_path / "audio" / "loop")
    os.symlink(tmp_path / "other", tmp_path / "audio" / "linked")
    prepare.folder(tmp_path / "audio", tmp_path / "m.parquet", **FOLDER, **CHECKS)
    assert [os.path.relpath(r["path"], tmp_path) for r in rows(tmp_path / "m.parquet")] == [
        "audio/a.wav",
        "audio/linked/b.wav",
    ]


def test_pairs_are_matched_by_their_path_without_suffix_and_must_agree(tmp_path):
    clean, noisy = tmp_path / "clean", tmp_path / "noisy"
    for name, suffix, samples, rate in (
        ("p1/a", "flac", 16000, 16000),
        ("p2/a", "flac", 16000, 16000),
        ("long", "wav", 16010, 16000),
        ("rate", "wav", 16000, 8000),
        ("mute", "wav", 16000, 16000),
    ):
        put(clean / f"{name}.wav", noise(16000))
        put(noisy / f"{name}.{suffix}", noise(samples, 1, level=0.0 if name == "mute" else 0.1), rate)
    put(clean / "alone.wav", noise(16000))
    put(noisy / "single.wav", noise(16000))
    put(noisy / "p2" / "a.wav", noise(16000))
    summary = prepare.pairs(clean, noisy, tmp_path / "m.parquet", **FOLDER, **CHECKS)
    assert [
        (os.path.relpath(r["path"], clean), os.path.relpath(r["noisy"], noisy), r["speaker"], r["frames"])
        for r in rows(tmp_path / "m.parquet")
    ] == [("p1/a.wav", "p1/a.flac", "p1", 16000), ("p2/a.wav", "p2/a.flac", "p2", 16000)]
    assert {r["path"]: r["reason"].split(";")[0] for r in rejects(summary)} == {
        "clean/long.wav": "clean and noisy differ in length: 16000 and 16010",
        "clean/rate.wav": "clean and noisy differ in rate: 16000 and 8000",
        "clean/alone.wav": f"no file alone.* in {noisy}",
        "noisy/single.wav": f"no file single.* in {clean}",
        "noisy/p2/a.wav": "a.flac has the same name",
        "noisy/mute.wav": "silent",
    }


def write_list(path, lines):
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n")


def test_a_list_gives_crops_and_columns_under_either_key(tmp_path):
    put(tmp_path / "a.wav", noise(32000), 16000)
    write_list(
        tmp_path / "list.jsonl",
        [
            {"path": "a.wav", "speaker": "ann", "text": "hello", "split": "valid", "kind": "read", "set": "s1"},
            {"audio_filepath": str(tmp_path / "a.wav"), "spk": 7, "offset": 0.5, "duration": 1, "sex": "F"},
            {"path": "a.wav", "offset": 1.5},
            {"path": "a.wav", "offset": 0.25, "duration": 1.7504},  # 0.4 ms past the end, as rounding makes it
        ],
    )
    prepare.jsonl(tmp_path / "list.jsonl", tmp_path / "m.parquet", where={}, least={}, **CHECKS)
    found = rows(tmp_path / "m.parquet")
    assert [(r["start"], r["frames"]) for r in found] == [(0, 32000), (8000, 16000), (24000, 8000), (4000, 28000)]
    assert [r["speaker"] for r in found] == ["ann", "7", None, None]
    first = {"speaker": "ann", "text": "hello", "split": "valid", "kind": "read", "set": "s1"}
    assert found[0] == first | {"path": str(tmp_path / "a.wav"), "start": 0, "frames": 32000, "rate": 16000}
    assert found[1]["path"] == str(tmp_path / "a.wav")


def test_lines_that_cannot_be_used_are_rejected_by_their_number(tmp_path):
    put(tmp_path / "a.wav", noise(16000))
    lines = {
        "{'path': 'a.wav'}": "line 1: not JSON",
        "[1, 2]": "line 2: expected a JSON object, got list",
        '{"text": "no path"}': "line 3: expected 'path' or 'audio_filepath'",
        '{"path": "a.wav", "offset": -1}': "line 4: offset must be from 0 to 1e+09 seconds, got -1",
        '{"path": "a.wav", "duration": "long"}': "line 5: duration must be above 0 seconds, at most 1e+09, got 'long'",
        '{"path": "a.wav", "duration": 0}': "line 6: duration must be above 0 seconds, at most 1e+09, got 0",
        '{"path": "a.wav", "offset": NaN}': "line 7: offset must be from 0 to 1e+09 seconds, got nan",
        r'{"path": "a.wav", "text": "half \ud83d"}': r"line 8: expected Unicode text, got \ud83d",
        r'{"path": "a.wav", "speakers": [{"\udc00": 1}]}': r"line 9: expected Unicode text, got \udc00",
        '{"path": "a.wav", "offset": 1e308}': "line 10: offset must be from 0 to 1e+09 seconds, got 1e+308",
        '{"path": "a.wav", "duration": 1e308}': "line 11: duration must be above 0 seconds, at most 1e+09, got 1e+308",
        '{"path": "a.wav", "offset": 0.5, "duration": 0.6}': "expected 0.500 s to 1.100 s, but the file has 1.000 s",
        '{"path": "a.wav", "offset": 1.0}': "expected 1.000 s to its end, but the file has 1.000 s",
        '{"path": "missing.wav"}': "found nothing",
        '{"path": "a.wav", "duration": 1e-9}': "0.000 s long",
    }
    write_list(tmp_path / "list.jsonl", [*lines, "", {"path": "a.wav"}])
    summary = prepare.jsonl(tmp_path / "list.jsonl", tmp_path / "m.parquet", where={}, least={}, **CHECKS)
    assert summary.files == 1
    for reject, reason in zip(rejects(summary), lines.values(), strict=True):
        assert reason in reject["reason"]
        assert reject["path"] == ("list.jsonl" if reason.startswith("line") else reject["path"])


def test_lines_below_a_limit_are_skipped(tmp_path, call):
    values = (34.9, 35, "40", None, 60.0, True)
    lines = []
    for number, value in enumerate(values):
        soundfile.write(tmp_path / f"{number}.wav", 0.1 * np.random.default_rng(number).standard_normal(16_000), 16_000)
        lines.append(json.dumps({"path": f"{number}.wav"} | ({} if value is None else {"dr": value})))
    (tmp_path / "list.jsonl").write_text("\n".join(lines))
    words = ["prepare", "jsonl", tmp_path / "list.jsonl", tmp_path / "m.parquet", "--workers", 1, "--where"]
    assert call(*words, "dr>=35")[0] == 0
    kept = manifest.read(tmp_path / "m.parquet", split=None)
    assert sorted(Path(kept.row(i)["path"]).stem for i in range(len(kept))) == ["1", "4"]
    assert call(*words, "dr>=1")[0] == 0
    kept = manifest.read(tmp_path / "m.parquet", split=None)
    assert sorted(Path(kept.row(i)["path"]).stem for i in range(len(kept))) == ["0", "1", "4"]  # true is no number
    for wrong, message in (("dr>=loud", "a number"), ("dr>=99", "no line has dr of at least 99")):
        code, complaints, _ = call(*words, wrong)
        assert code == 2 and len(complaints) == 1 and message in complaints[0]


def test_where_selects_lines_by_their_values(tmp_path):
    for name in "abc":
        put(tmp_path / f"{name}.wav", noise(16000))
    (tmp_path / "d.wav").write_bytes(b"")  # never looked at, so no reject
    sets = {"a": "one", "b": "two", "c": "three", "d": "four"}
    lines = [{"path": f"{name}.wav", "set": kind, "split": "train"} for name, kind in sets.items()]
    write_list(tmp_path / "list.jsonl", [*lines, {"path": "a.wav"}])
    where = {"set": {"one", "three"}, "split": {"train"}}
    summary = prepare.jsonl(tmp_path / "list.jsonl", tmp_path / "m.parquet", where=where, least={}, **CHECKS)
    assert [r["set"] for r in rows(tmp_path / "m.parquet")] == ["one", "three"]
    assert summary.rejects is None
    with pytest.raises(UserError, match=r"no line has set in \['five'\]; the lines have set: \['one', 'two'"):
        prepare.jsonl(tmp_path / "list.jsonl", tmp_path / "m.parquet", where={"set": {"five"}}, least={}, **CHECKS)
    with pytest.raises(UserError, match="no such file"):
        prepare.jsonl(tmp_path / "no.jsonl", tmp_path / "m.parquet", where={}, least={}, **CHECKS)


def test_merged_parts_equal_a_preparation_in_one_part(tmp_path):
    for i in range(7):
        put(tmp_path / f"sounds/s{i % 3}/{i}.wav", noise(16000 + 100 * i, seed=i))
    put_bad(tmp_path / "sounds/bad")
    how = FOLDER | CHECKS | {"split": None, "valid_share": 0.3}
    whole = prepare.folder(tmp_path / "sounds", tmp_path / "whole.parquet", **how)
    parts = [tmp_path / f"whole.part-{i}.parquet" for i in range(3)]
    for i, part in enumerate(parts):
        prepare.folder(tmp_path / "sounds", part, **how | {"part": (i, 3)})
    merged = prepare.merge(parts, tmp_path / "merged.parquet", mel=MEL, seed=0)
    assert (merged.files, merged.rejected, merged.speakers) == (whole.files, 9, whole.speakers)
    one, two = (manifest.read(tmp_path / f"{name}.parquet", split=None) for name in ("merged", "whole"))
    rows = lambda found: {str(sorted(found.row(i).items())) for i in range(len(found))}
    assert rows(one) == rows(two)
    reasons = lambda name: sorted((tmp_path / name).read_text().splitlines())
    assert reasons("merged.rejects.jsonl") == reasons("whole.rejects.jsonl")
    stats = [json.loads((tmp_path / f"{name}.stats.json").read_text()) for name in ("merged", "whole")]
    assert stats[0].pop("log_mel")["mean"] == pytest.approx(stats[1].pop("log_mel")["mean"], rel=1e-6)
    assert stats[0].pop("hours_by_split") == pytest.approx(stats[1].pop("hours_by_split"))
    assert stats[0].pop("hours") == pytest.approx(stats[1].pop("hours"))
    assert stats[0] == stats[1]


@pytest.mark.parametrize(
    "name, content",
    [
        ("part.stats.json", "{"),
        ("part.stats.json", "[]"),
        ("part.stats.json", '{"mixed": "many"}'),
        ("part.stats.json", '{"mixed": 0, "corpus": {}}'),
        ("part.stats.json", '{"mixed": 0, "corpus": "os"}'),
        ("part.stats.json", None),
        ("part.rejects.jsonl", '{"path": 5}'),
        ("part.rejects.jsonl", "five"),
    ],
)
def test_parts_with_damaged_files_beside_them_are_refused_in_one_line(tmp_path, name, content):
    manifest.write(tmp_path / "part.parquet", [{"path": "a.wav", "start": 0, "frames": 9, "rate": 16_000}])
    (tmp_path / "part.stats.json").write_text('{"mixed": 0}')
    (tmp_path / name).unlink() if content is None else (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=f"{name}: expected .*prepare it again"):
        prepare.merge([tmp_path / "part.parquet"], tmp_path / "all.parquet", mel=MEL, seed=0)


def test_parts_that_cannot_be_merged_are_named(tmp_path):
    put(tmp_path / "sounds/a.wav", noise(16000))
    part = tmp_path / "parts/a.parquet"
    prepare.folder(tmp_path / "sounds", part, **FOLDER | CHECKS)
    with pytest.raises(UserError, match="all parts must be in its folder"):
        prepare.merge([part], tmp_path / "all.parquet", mel=MEL, seed=0)
    with pytest.raises(UserError, match="is one of its parts"):
        prepare.merge([part], part, mel=MEL, seed=0)
    with pytest.raises(UserError, match="b.parquet: expected a manifest"):
        prepare.merge([part.with_name("b.parquet")], tmp_path / "all.parquet", mel=MEL, seed=0)


def test_a_killed_preparation_resumes(tmp_path, monkeypatch):
    monkeypatch.setattr(decode, "CHUNK", 2)
    for number in range(6):
        put(tmp_path / "in" / f"{number}.wav", noise(8000, number) if number != 1 else np.zeros(8000))
    prepare.folder(tmp_path / "in", tmp_path / "whole.parquet", **FOLDER, **CHECKS)
    reads, read = [], audio.read

    def dying(path, **how):
        if len(reads) == 4:
            raise KeyboardInterrupt
        reads.append(os.path.basename(path))
        return read(path, **how)

    monkeypatch.setattr(audio, "read", dying)
    with pytest.raises(KeyboardInterrupt):
        prepare.folder(tmp_path / "in", tmp_path / "m.parquet", **FOLDER, **CHECKS)
    assert not (tmp_path / "m.parquet").exists()
    monkeypatch.setattr(audio, "read", lambda path, **how: (reads.append(os.path.basename(path)), read(path, **how))[1])
    reads.clear()
    prepare.folder(tmp_path / "in", tmp_path / "m.parquet", **FOLDER, **CHECKS)
    assert reads[:2] == ["4.wav", "5.wav"]  # then come those of the statistics
    assert rows(tmp_path / "m.parquet") == rows(tmp_path / "whole.parquet")
    assert (tmp_path / "m.rejects.jsonl").read_text() == (tmp_path / "whole.rejects.jsonl").read_text()
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_saved_results_of_other_files_or_checks_are_not_used(tmp_path, monkeypatch):
    monkeypatch.setattr(decode, "CHUNK", 1)
    jobs = []
    for name in "ab":
        put(tmp_path / f"{name}.wav", noise(8000))
        jobs.append(scan.Job(str(tmp_path / f"{name}.wav"), None, 0.0, None, {}))
    look = lambda jobs, **how: [
        one for _, found in decode.chunks(jobs, tmp_path / "kept", rates=(), workers=1, **how) for one in found
    ]
    whole = look(jobs, min_seconds=0.1)
    assert [type(one) for one in whole] == [decode.Crop] * 2
    assert [type(one) for one in look(jobs, min_seconds=0.6)] == [scan.Reject] * 2
    cut = [job._replace(duration=0.25) for job in jobs]
    assert [one.frames for one in look(cut, min_seconds=0.1)] == [4000] * 2
    next((tmp_path / "kept").iterdir()).write_text('{"digest": 3')
    assert look(jobs, min_seconds=0.1) == whole
