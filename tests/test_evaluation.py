"""Scoring survives crashes of its workers, pairs the right files, and writes correct reports, also by condition."""

import csv
import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sfjax.data import manifest
from sfjax.errors import UserError
from sfjax.evaluation import Report, pair_files, score_arrays, score_files

RATE = 16_000
ALONE = dict(workers=1, progress=False)  # to start a worker takes a second


def tone(*, seconds: float = 0.5, rate: int = RATE) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def save(path: Path, wave: np.ndarray, *, rate: int = RATE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave, rate)
    return path


# Scorers for the workers, which import them from here.


def facts(reference: np.ndarray, estimate: np.ndarray, rate: int) -> dict[str, float]:
    return {"first": estimate[0], "samples": len(reference), "rate": rate}


def moody(reference: np.ndarray, estimate: np.ndarray, rate: int) -> dict[str, float]:
    """Scores an estimate by its first sample, which can also ask for an accident."""
    mood = int(estimate[0])
    if mood == -1:
        os.kill(os.getpid(), signal.SIGKILL)
    if mood == -2:
        os._exit(7)
    if mood == -3:
        raise RuntimeError("two\nlines")
    return {"mood": np.nan if mood == -4 else mood}


def leaves_a_file(reference: np.ndarray, estimate: np.ndarray, rate: int) -> dict[str, float]:
    Path(os.environ["SCORED"], str(int(estimate[0]))).touch()
    return {"zero": 0.0}


def moods(*values: int) -> list[tuple[str, np.ndarray, np.ndarray]]:
    # Longer than a pipe's buffer, so that a worker that dies could leave the sender stuck.
    return [(f"item {k}", np.zeros(50_000), np.full(50_000, float(value))) for k, value in enumerate(values)]


# Workers


@pytest.mark.parametrize("workers", [1, 2])
def test_a_crash_costs_one_item_and_no_other(workers, capfd):
    report = score_arrays(moods(5, -1, 6, -2, 7, 8), rate=RATE, workers=workers, progress=False, scorer=moody)
    assert report.rows == [{"name": f"item {k}", "mood": mood} for k, mood in ((0, 5), (2, 6), (4, 7), (5, 8))]
    assert report.failed == [
        {"name": "item 1", "reason": "the scorer crashed (SIGKILL)"},
        {"name": "item 3", "reason": "the scorer crashed (exit code 7)"},
    ]
    assert capfd.readouterr() == ("", "")
    assert multiprocessing.active_children() == []


def test_an_error_or_a_score_that_is_no_number_costs_one_item():
    report = score_arrays(moods(-3, 1, -4), rate=RATE, **ALONE, scorer=moody)
    assert report.rows == [{"name": "item 1", "mood": 1}]
    assert report.failed == [
        {"name": "item 0", "reason": "RuntimeError: two lines"},
        {"name": "item 2", "reason": "mood is nan"},
    ]


def test_a_generator_is_read_no_faster_than_its_items_are_scored(tmp_path, monkeypatch):
    monkeypatch.setenv("SCORED", str(tmp_path))
    lead = []

    def items():
        for k in range(6):
            lead.append(k - len(list(tmp_path.iterdir())))
            yield f"item {k}", np.zeros(10), np.full(10, float(k))

    assert len(score_arrays(items(), rate=RATE, **ALONE, scorer=leaves_a_file).rows) == 6
    assert max(lead) == 0


def test_an_error_of_the_callers_generator_is_raised_and_leaves_no_process():
    def items():
        yield from moods(1, 2)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        score_arrays(items(), rate=RATE, **ALONE, scorer=moody)
    assert multiprocessing.active_children() == []


def test_a_script_without_a_main_guard_is_told_so(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
        import numpy as np, sys
        from sfjax.errors import UserError
        from sfjax.evaluation import score_arrays
        try:
            score_arrays([("a", np.zeros(9), np.zeros(9))], rate=16000, workers=1, progress=False)
        except UserError as error:
            sys.exit(str(error))
        """)
    )
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, script], env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True)
    assert done.returncode == 1
    assert b'cannot start (exit code 1); a script must call this under if __name__ == "__main__"' in done.stderr


def test_no_workers_are_refused_before_anything_is_read():
    with pytest.raises(UserError, match="worker, got 0"):
        score_arrays(iter(()), rate=RATE, workers=0, progress=False)


def test_progress_counts_on_standard_error(capfd):
    score_arrays(moods(1, 2), rate=RATE, workers=1, progress=True, scorer=moody)
    assert capfd.readouterr() == ("", "\r1 scored\r2 scored\n")


# Files


def test_two_files_are_one_pair(tmp_path):
    reference, estimate = save(tmp_path / "a.wav", tone()), save(tmp_path / "b.flac", tone())
    assert pair_files(reference, estimate) == [("a", reference, estimate)]


def test_folders_pair_by_the_path_below_them_whatever_the_suffix(tmp_path):
    clean, system = tmp_path / "clean", tmp_path / "system"
    for name in ("x.wav", "deep/x.flac", "deep/only.wav", "deep/v1.2.wav"):
        save(clean / name, tone())
    for name in ("x.flac", "deep/x.wav", "deep/v1.2.flac", "extra.wav"):
        save(system / name, tone())
    for folder in (clean, system):
        (folder / "notes.txt").touch()
        (folder / "._x.wav").touch()
    assert pair_files(clean, system) == [
        ("deep/only", clean / "deep/only.wav", system / "deep/only.wav"),
        ("deep/v1.2", clean / "deep/v1.2.wav", system / "deep/v1.2.flac"),
        ("deep/x", clean / "deep/x.flac", system / "deep/x.wav"),
        ("x", clean / "x.wav", system / "x.flac"),
    ]


def test_folders_without_a_pair_are_refused_in_one_line(tmp_path):
    save(tmp_path / "clean" / "a.wav", tone())
    save(tmp_path / "system" / "b.wav", tone())
    with pytest.raises(UserError, match="1 recordings in .*system .* 1 in .*clean"):
        pair_files(tmp_path / "clean", tmp_path / "system")


def test_what_cannot_be_paired_is_refused(tmp_path):
    clean = tmp_path / "clean"
    file = save(clean / "a.wav", tone())
    with pytest.raises(UserError, match="missing does not exist"):
        pair_files(clean, tmp_path / "missing")
    with pytest.raises(UserError, match="a file and a folder"):
        pair_files(file, clean)
    save(clean / "a.flac", tone())
    with pytest.raises(UserError, match="a.flac and .*a.wav have the same name"):
        pair_files(clean, clean)


def test_files_are_scored_at_16_khz_in_their_order(tmp_path):
    slow = save(tmp_path / "slow.wav", tone(seconds=2, rate=48_000), rate=48_000)
    fast = save(tmp_path / "fast.wav", tone(seconds=1, rate=8_000), rate=8_000)
    report = score_files([("b", slow, slow), ("a", fast, fast)], **ALONE, scorer=facts)
    assert all(type(row["first"]) is float for row in report.rows)  # JSON knows no float32
    assert [(row["name"], row["samples"], row["rate"]) for row in report.rows] == [
        ("b", 32_000, RATE),
        ("a", RATE, RATE),
    ]


def test_every_file_without_a_score_is_listed_with_its_reason(tmp_path):
    rng = np.random.default_rng(0)
    noise = (0.1 * rng.standard_normal(RATE)).astype(np.float32)
    clean, system = tmp_path / "clean", tmp_path / "system"
    for name in ("good", "missing", "text", "cut"):
        save(clean / f"{name}.wav", noise)
    save(system / "good.wav", noise)
    save(system / "cut.wav", noise[:-1])
    (system / "text.wav").write_text("no sound")
    report = score_files(pair_files(clean, system), **ALONE)
    assert [row["name"] for row in report.rows] == ["good"]
    assert report.rows[0]["pesq_wb"] == pytest.approx(4.643888, abs=1e-6) and report.rows[0]["si_sdr"] == 100
    reasons = {item["name"]: item["reason"] for item in report.failed}
    assert list(reasons) == ["cut", "missing", "text"]
    assert "the reference has 16000 samples, the estimate 15999" in reasons["cut"]
    assert reasons["missing"].startswith("no estimate: expected") and "missing.wav" in reasons["missing"]
    assert "text.wav" in reasons["text"] and "\n" not in reasons["text"]


@pytest.mark.skipif("SFJAX_DATA" not in os.environ, reason="SFJAX_DATA names no folder of recordings")
def test_a_folder_of_real_recordings_has_the_known_mean():
    folder = Path(os.environ.get("SFJAX_DATA", "")) / "pairs" / "vbd"
    report = score_files(pair_files(folder / "clean", folder / "noisy"), workers=2, progress=False)
    assert [row["name"] for row in report.rows] == [f"p287_00{k}" for k in range(1, 7)] and not report.failed
    assert [report.mean[name] for name in ("pesq_wb", "pesq_nb", "estoi")] == pytest.approx(
        [1.413, 1.974, 0.611], abs=1e-3
    )


# Reports

TWO = Report(
    rows=[{"name": "a, b", "pesq_wb": 1.5, "si_sdr": 10.0}, {"name": "c", "pesq_wb": 2.5, "si_sdr": 10.0}],
    failed=[{"name": "d", "reason": "the scorer crashed"}],
)


def test_the_interval_of_a_mean_is_that_of_the_normal_law_for_many_items():
    values = np.random.default_rng(0).normal(3, 2, size=400)
    report = Report(rows=[{"name": str(k), "value": value} for k, value in enumerate(values)], failed=[])
    low, high = report.interval["value"]
    error = values.std() / np.sqrt(400)
    # The 2.5 % quantile of 1000 draws has itself a deviation of .085 standard errors: three of those. 90 % is .31 away.
    assert (low, high) == pytest.approx((values.mean() - 1.96 * error, values.mean() + 1.96 * error), abs=0.25 * error)
    assert Report(rows=report.rows, failed=[]).interval == report.interval


def test_metrics_are_drawn_together_and_each_has_its_own_mean():
    assert TWO.mean == {"pesq_wb": 2.0, "si_sdr": 10.0}
    # A quarter of the draws hold the first item twice, a quarter the second: the interval reaches both values.
    assert TWO.interval == {"pesq_wb": (1.5, 2.5), "si_sdr": (10.0, 10.0)}


def test_one_item_has_no_interval_in_the_table():
    assert Report([{"name": "a", "pesq_wb": 2.0}], []).table().splitlines() == [
        "pesq_wb",
        "  2.000",
        "1 scored, 0 failed",
    ]


def test_the_table_shows_means_half_intervals_counts_and_failures():
    assert TWO.table().splitlines() == [
        "      pesq_wb          si_sdr",
        "2.000 ± 0.500  10.000 ± 0.000",
        "2 scored, 1 failed",
        "failed: d: the scorer crashed",
    ]


def test_a_report_without_scores_still_says_why(tmp_path):
    report = Report(rows=[], failed=TWO.failed)
    assert report.table() == "0 scored, 1 failed\nfailed: d: the scorer crashed"
    assert report.to_json() == {"n": 0, "failed": TWO.failed, "mean": {}, "interval": {}, "rows": []}
    report.write(tmp_path / "report.csv")
    assert (tmp_path / "report.csv").read_text() == "name,reason\nd,the scorer crashed\n"


def test_a_report_less_another_is_that_of_the_differences_of_their_common_items(tmp_path):
    rng = np.random.default_rng(0)
    old, gain = rng.normal(0, 5, 40), rng.normal(0.3, 0.1, 40)  # the gain is small beside what items differ by
    before = Report([{"name": f"{i}", "x": value, "y": 0.0} for i, value in enumerate(old[:30])], [])
    before.write(tmp_path / "before.json")
    after = Report([{"name": f"{i}", "x": value} for i, value in reversed([*enumerate(old + gain)])], [])
    found = after.less(tmp_path / "before.json")
    assert found.mean == {"x": pytest.approx(gain[:30].mean())} and len(found.rows) == 30
    low, high = found.interval["x"]
    assert 0.2 < low < found.mean["x"] < high < 0.4


def test_a_report_less_none_or_that_of_others_is_refused(tmp_path):
    (tmp_path / "other.json").write_text(json.dumps({"rows": [{"name": "other", "x": 1.0}]}))
    (tmp_path / "list.json").write_text("[]")
    report = Report([{"name": "a", "x": 1.0}], [])
    for name, wanted in (
        ("other.json", "no scored item in common"),
        ("list.json", "as JSON"),
        ("none.json", "as JSON"),
    ):
        with pytest.raises(UserError, match=f"{name}: .*{wanted}"):
            report.less(tmp_path / name)


def test_json_reports_hold_everything_and_replace_older_ones_whole(tmp_path):
    path = tmp_path / "new" / "report.json"
    path.parent.mkdir()
    path.write_text("older and longer" * 1000)
    TWO.write(path)
    assert json.loads(path.read_text()) == {
        "made_by": "sfjax",
        "n": 2,
        "failed": [{"name": "d", "reason": "the scorer crashed"}],
        "mean": {"pesq_wb": 2.0, "si_sdr": 10.0},
        "interval": {"pesq_wb": [1.5, 2.5], "si_sdr": [10.0, 10.0]},
        "rows": TWO.rows,
    }
    assert list(path.parent.iterdir()) == [path]


def test_an_older_report_survives_a_write_that_fails(tmp_path):
    path = tmp_path / "report.json"
    TWO.write(path)
    before = path.read_text()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, limits[1]))  # fails in the middle of the file
    try:
        with pytest.raises(UserError, match="could not be written"):
            TWO.write(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_text() == before and list(tmp_path.iterdir()) == [path]
    Report(rows=[{"name": "\udcff", "pesq_wb": 1.0}], failed=[]).write(path)  # a name of any bytes is escaped
    assert json.loads(path.read_text())["rows"] == [{"name": "\udcff", "pesq_wb": 1.0}]


def test_csv_reports_have_a_line_for_every_item(tmp_path):
    TWO.write(tmp_path / "made" / "report.csv")
    with open(tmp_path / "made" / "report.csv", newline="") as file:
        assert list(csv.DictReader(file)) == [
            {"name": "a, b", "pesq_wb": "1.5", "si_sdr": "10.0", "reason": ""},
            {"name": "c", "pesq_wb": "2.5", "si_sdr": "10.0", "reason": ""},
            {"name": "d", "pesq_wb": "", "si_sdr": "", "reason": "the scorer crashed"},
        ]


@pytest.mark.parametrize("name", ["report.txt", "report"])
def test_other_kinds_of_report_are_refused(tmp_path, name):
    with pytest.raises(UserError, match=r"written as .json or .csv"):
        TWO.write(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


# Conditions


def apart(*items: tuple) -> Report:
    """A report of items (name, noise, snr, score); those without a score have failed."""
    head = lambda name, noise, snr: {"name": name, "condition": {"noise": noise, "snr": snr}}
    return Report(
        rows=[{**head(*rest), "score": score} for *rest, score in items if score is not None],
        failed=[{**head(*rest), "reason": "silence"} for *rest, score in items if score is None],
    )


NOISES = apart(
    ("a", "bus", 17.5, 4.0),
    ("b", "bus", 2.5, 1.0),
    ("c", "bus", 2.5, 3.0),
    ("d", None, 2.5, 5.0),
    ("e", "bus", None, 6.0),
    ("f", "bus", 2.5, None),
    ("g", "air", 12.5, None),
)


def test_groups_are_the_combinations_that_occur_in_the_order_of_their_values():
    found = [(*condition.values(), len(group.rows), len(group.failed)) for condition, group in NOISES.groups]
    assert found == [
        ("air", 12.5, 0, 1),
        ("bus", 2.5, 2, 1),
        ("bus", 17.5, 1, 0),
        ("bus", None, 1, 0),
        (None, 2.5, 1, 0),
    ]
    assert [group.mean.get("score") for _, group in NOISES.groups] == [None, 2.0, 4.0, 6.0, 5.0]
    assert NOISES.groups[1][1].interval == {"score": (1.0, 3.0)}
    assert NOISES.mean == {"score": pytest.approx(19 / 5)}  # a condition is no score
    assert TWO.groups == []


def test_the_table_has_a_line_for_each_condition_behind_that_of_all():
    assert [line.split() for line in NOISES.table().splitlines()[5:]] == [
        [],
        ["noise", "snr", "scored", "failed", "score"],
        ["air", "12.5", "0", "1", "-"],
        ["bus", "2.5", "2", "1", "2.000", "±", "1.000"],
        ["bus", "17.5", "1", "0", "4.000"],
        ["bus", "-", "1", "0", "6.000"],
        ["-", "2.5", "1", "0", "5.000"],
    ]


def test_json_reports_hold_the_means_of_each_condition_and_csv_reports_the_condition_of_each_row(tmp_path):
    NOISES.write(tmp_path / "report.json")
    told = json.loads((tmp_path / "report.json").read_text())
    assert told["rows"] == NOISES.rows and told["failed"] == NOISES.failed
    assert told["conditions"][1] == {
        "condition": {"noise": "bus", "snr": 2.5},
        "n": 2,
        "failed": NOISES.failed[:1],
        "mean": {"score": 2.0},
        "interval": {"score": [1.0, 3.0]},
    }
    NOISES.write(tmp_path / "report.csv")
    lines = (tmp_path / "report.csv").read_text().splitlines()
    assert lines[0] == "name,noise,snr,score,reason" and lines[1] == "a,bus,17.5,4.0,"
    assert lines[4:7] == ["d,,2.5,5.0,", "e,bus,,6.0,", "f,bus,2.5,,silence"]


def test_recordings_of_one_name_are_compared_by_the_conditions_that_both_reports_have(tmp_path):
    apart(("x", "bus", 1, 1.0), ("x", "air", 1, 2.0), ("y", "air", 1, 9.0)).write(tmp_path / "before.json")
    after = apart(("x", "air", 1, 2.5), ("x", "bus", 1, 1.25))
    found = after.less(tmp_path / "before.json")
    assert {condition["noise"]: group.mean["score"] for condition, group in found.groups} == {"air": 0.5, "bus": 0.25}

    plain = lambda report: [{name: row[name] for name in ("name", "score")} for row in report.rows]
    Report(plain(NOISES), []).write(tmp_path / "plain.json")
    assert NOISES.less(tmp_path / "plain.json").mean == {"score": 0}
    (tmp_path / "twice.json").write_text(json.dumps({"rows": plain(after)}))
    for mine, theirs in ((after, "plain.json"), (after, "twice.json"), (NOISES, "twice.json")):
        with pytest.raises(UserError, match=f"{theirs}: .*--by"):
            mine.less(tmp_path / theirs)


@pytest.fixture
def pairs(tmp_path, voice) -> Path:
    """A manifest of six pairs, all called `x`, with snr, noise and speakers; one of them cannot be read."""
    rows = []
    for number, (noise, snr) in enumerate((("bus", 5.0), ("bus", -5.0), ("air", 5.0), ("bus", 5.0), (None, 20.0))):
        clean = voice(1.2, number)
        rng = np.random.default_rng(number)
        noisy = clean + (0.03 * 10 ** (-snr / 20) * rng.standard_normal(len(clean))).astype(np.float32)
        paths = [str(save(tmp_path / f"{kind}{number}/x.wav", wave)) for kind, wave in (("c", clean), ("n", noisy))]
        rows.append(dict(zip(("path", "noisy"), paths, strict=True), start=0, frames=len(clean), rate=RATE))
        rows[-1] |= {"noise_kind": noise, "snr": snr, "speakers": ["a", str(number)]}
    manifest.write(tmp_path / "pairs.parquet", [*rows, rows[1] | {"noisy": "none/x.wav", "snr": np.nan}])
    return tmp_path / "pairs.parquet"


def test_evaluating_tells_the_scores_of_each_condition_of_the_manifest(pairs, call, tmp_path):
    words = ("evaluate", "--system", "noisy", "--manifest", pairs, "--workers", 1, "-o", tmp_path / "scores.json")
    _, complaints, said = call(*words, "--by", "snr", "noise_kind")
    assert len(complaints) == 1 and "1 of 6 could not be scored" in complaints[0]
    told = json.loads((tmp_path / "scores.json").read_text())
    found = [(*one["condition"].values(), one["n"], len(one["failed"])) for one in told["conditions"]]
    assert found == [
        (-5.0, "bus", 1, 0),
        (5.0, "air", 1, 0),
        (5.0, "bus", 2, 0),
        (20.0, None, 1, 0),
        (None, "bus", 0, 1),
    ]
    assert sum(scored + failed for *_, scored, failed in found) == 6 == told["n"] + len(told["failed"])
    assert {row["name"] for row in told["rows"]} == {"x"}
    # each row has the condition of its own recording, though all are called alike: the louder the noise, the worse
    ranks = sorted(told["rows"], key=lambda row: row["si_sdr"])
    assert [row["condition"]["snr"] for row in ranks] == [-5, 5, 5, 5, 20]
    for one in told["conditions"][:-1]:
        mine = [row for row in told["rows"] if row["condition"] == one["condition"]]
        assert set(one["mean"]) == set(told["mean"]) == set(mine[0]) - {"name", "condition"}
        for name, mean in one["mean"].items():
            assert mean == pytest.approx(np.mean([row[name] for row in mine]))
    table = said[said.index("snr  noise_kind") :].splitlines()
    assert [line.split()[:4] for line in table[1:6]] == [
        ["-5", "bus", "1", "0"],
        ["5", "air", "1", "0"],
        ["5", "bus", "2", "0"],
        ["20", "-", "1", "0"],
        ["-", "bus", "0", "1"],
    ]


def test_mixtures_are_told_apart_by_their_sets(tmp_path, voice, call):
    paths = [str(save(tmp_path / f"{number}.wav", voice(1.2, number))) for number in range(3)]
    row = lambda a, b, of: {
        "path": paths[a],
        "start": 0,
        "frames": 19_200,
        "rate": RATE,
        "sources": [paths[a], paths[b]],
        "gains": [1.0, 1.0],
        "name": "1_2",
        "set": of,
    }
    manifest.write(tmp_path / "mixed.parquet", [row(0, 1, "two"), row(1, 2, "one"), row(2, 0, "two")])
    code, _, said = call(
        "evaluate",
        "--system",
        "noisy",
        "--manifest",
        tmp_path / "mixed.parquet",
        "--workers",
        1,
        "--by",
        "set",
        "-o",
        tmp_path / "scores.csv",
    )
    assert code == 0 and [line.split()[:3] for line in said.splitlines()[-2:]] == [["one", "1", "0"], ["two", "2", "0"]]
    with open(tmp_path / "scores.csv", newline="") as file:
        assert [(line["name"], line["set"]) for line in csv.DictReader(file)] == [
            ("1_2", "two"),
            ("1_2", "one"),
            ("1_2", "two"),
        ]


@pytest.mark.parametrize(
    "expected, columns",
    [
        ("no column 'snrs', it has path, start, .*, snr, .*; name one of these", ["snr", "snrs"]),
        (": number has 51 .* at most 50.*--by", ["number"]),
        (": number, snr has 51 ", ["number", "snr"]),
    ],
)
def test_conditions_that_cannot_be_told_apart_are_refused_before_a_recording_is_read(
    expected, columns, refused, tmp_path
):
    row = {"path": "no.wav", "noisy": "no.wav", "start": 0, "frames": 1, "rate": RATE}
    manifest.write(tmp_path / "a.parquet", [row | {"snr": number % 2, "number": number} for number in range(51)])
    words = ("evaluate", "--system", "noisy", "--manifest", tmp_path / "a.parquet", "--workers", 1)
    refused(expected, *words, "--by", *columns)


def test_a_list_of_names_is_a_condition_too(pairs):
    from sfjax.evaluation import evaluate

    found = evaluate(pairs, None, system="noisy", split=None, seed=0, **ALONE, by=["speakers"])
    assert [condition["speakers"] for condition, _ in found.groups] == [f"['a', '{number}']" for number in range(5)]
    json.dumps(found.to_json())


def test_clean_recordings_have_the_highest_scores(pairs):
    from sfjax.evaluation import evaluate

    mean = evaluate(pairs, None, system="clean", split=None, seed=0, **ALONE).mean
    assert mean == pytest.approx(
        {"pesq_wb": 4.644, "pesq_nb": 4.549, "estoi": 1, "csig": 5, "cbak": 5, "covl": 5, "si_sdr": 100}, abs=1e-3
    )


def test_an_unknown_system_is_refused(pairs):
    from sfjax.evaluation import evaluate

    with pytest.raises(UserError, match="unknown system 'bounds'; choose from model, noisy, clean, bound"):
        evaluate(pairs, None, system="bounds", split=None, seed=0, **ALONE)
