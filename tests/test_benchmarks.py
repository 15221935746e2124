"""The benchmarks run from end to end on toys, and the fixed list of mixtures is what it is said to be."""

import importlib
import json
import math
from pathlib import Path

import numpy as np
import pytest

from sfjax import audio
from sfjax.data import manifest

FOLDER = Path(__file__).parent / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    """A function from a script's name to its module."""
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module


@pytest.fixture
def data(tmp_path, voice):
    """A folder like that of the real recordings: two speakers, two kinds of noise with three clips, one pair."""
    lines = []

    def add(path, wav, **facts):
        audio.write(tmp_path / path, wav, 16_000)
        lines.append(json.dumps({"path": path, "split": "valid", **facts}))

    rng = np.random.default_rng(0)
    for i, seconds in enumerate((3.0, 12.0)):
        add(f"speech/{i}.flac", voice(seconds, i), set="ls100", spk=f"ls{i}")
    for i in range(6):
        clip = np.concatenate([0.1 * rng.standard_normal(16_000), np.zeros(4_000 * i)]).astype(np.float32)
        add(f"noise/{i}.flac", clip, set="esc10", kind=f"kind{i % 2}")
    for folder in ("clean", "noisy"):
        add(f"pairs/vbd/{folder}/p287_001.flac", voice(1.0, 9), set="vbd", kind=folder)
    (tmp_path / "manifest.jsonl").write_text("\n".join(lines))
    return tmp_path


@pytest.fixture
def pairs(data, script):
    """What enhance_valid.py makes of it."""
    command = ["--data", str(data), "--list", str(data / "list.json")]
    script("enhance_valid").main([*command, "--make"])
    script("enhance_valid").main([*command, "-o", str(data / "out")])
    return data / "out"


def numbers(found):
    """All numbers in what JSON holds."""
    if isinstance(found, dict | list):
        return [n for value in (found.values() if isinstance(found, dict) else found) for n in numbers(value)]
    return [found] if isinstance(found, int | float) and not isinstance(found, bool) else []


def result(path):
    found = json.loads(path.read_text())
    assert numbers(found) and all(map(math.isfinite, numbers(found)))
    return found


def test_the_list_has_every_speaker_at_every_level_and_no_clip_twice():
    items = json.loads((FOLDER / "enhance_valid.json").read_text())["items"]
    speakers = {item["speaker"] for item in items}
    assert len(items) == 72 and len(speakers) == 24
    assert {(i["speaker"], i["snr"]) for i in items} == {(s, snr) for s in speakers for snr in (0.0, 5.0, 10.0)}
    assert len({item["noise"] for item in items}) == len({item["name"] for item in items}) == 72
    counts = [sum(item["kind"] == kind for item in items) for kind in {item["kind"] for item in items}]
    assert sorted(counts) == [7] * 8 + [8] * 2
    assert all(item["start"] >= 8_000 and 0 < item["frames"] <= 128_000 and item["offset"] >= 0 for item in items)


def test_the_list_holds_names_and_numbers_only():
    for item in json.loads((FOLDER / "enhance_valid.json").read_text())["items"]:
        texts = [value for value in item.values() if isinstance(value, str)]
        assert len(texts) + len(numbers(item)) == len(item)
        assert all(len(text) < 60 and not text.startswith("/") and ".." not in text for text in texts)


def test_the_list_is_made_again_from_its_recordings(script, data, real_data):
    make = script("enhance_valid").make
    assert make(data, seed=0) == make(data, seed=0) != make(data, seed=1)
    if real_data is not None:
        assert make(real_data, seed=0) == json.loads((FOLDER / "enhance_valid.json").read_text())


def test_mixtures_have_the_levels_that_the_list_says(script, data, pairs):
    items = json.loads((data / "list.json").read_text())["items"]
    assert len(manifest.read(pairs / "valid.parquet", split="valid")) == len(items) == 6
    assert len(manifest.read(pairs / "p287.parquet", split=None)) == 1
    level = lambda wav: script("enhance_valid").mixing.active_level(wav, 16_000)
    for item in items:
        clean, noisy = (audio.read(pairs / part / f"{item['name']}.flac")[0] for part in ("clean", "noisy"))
        whole = audio.read(data / item["speech"])[0][item["start"] : item["start"] + item["frames"]]
        assert abs(np.corrcoef(clean, whole)[0, 1] - 1) < 1e-6
        # the noise is white where it is not silent, so a crop of it has the level of the clip
        assert level(clean) - level(noisy - clean) == pytest.approx(item["snr"], abs=0.3)


@pytest.mark.slow
def test_speed_is_measured(script, tmp_path):
    script("speed").main(["--quick", "-o", str(tmp_path / "speed.json")])
    found = result(tmp_path / "speed.json")
    assert {case["case"].partition(" ")[0] for case in found["cases"]} >= {"tiny", "log-Mel", "loader:"}
    assert all(n > 0 for n in numbers(found["cases"]))
    assert "tiny sampling, 2 evaluations" in [case["case"] for case in found["cases"]]  # of one midpoint step
    assert found["sizes"]["tiny"]["sampling_over_forwards"] > 0 and 0 < found["sizes"]["tiny"]["mfu"] < 1


@pytest.mark.slow
def test_compilation_is_measured(script, tmp_path):
    script("compile").main(["--size", "tiny", "--seconds", "1", "-o", str(tmp_path / "compile.json")])
    rows = result(tmp_path / "compile.json")["rows"]
    assert len({(row["layers"], row["remat"]) for row in rows}) == len(rows) == 6
    none, full = (
        next(r for r in rows if (r["layers"], r["remat"]) == ("scanned", remat)) for remat in ("none", "full")
    )
    assert full["temporary_gib"] < none["temporary_gib"]


@pytest.mark.slow
def test_adapters_cost_less_memory_than_full_fine_tuning(script, tmp_path):
    words = ["--size", "tiny", "--batch", "2", "--seconds", "0.5", "--rounds", "1"]
    script("variants").main([*words, "-o", str(tmp_path / "variants.json")])
    found = result(tmp_path / "variants.json")
    full, adapters, diffusion = found["shapes"]
    assert (full["trained"], adapters["trained"]) == (329_704_529, 9_437_184)
    assert adapters["optimizer MiB"] < 0.03 * full["optimizer MiB"] and full == {**diffusion, "variant": "full"}
    assert [row["variant"] for row in found["rows"]] == ["full", "adapters", "diffusion"]
    assert all(row["seconds"] > 0 and row["temporary MiB"] > 0 for row in found["rows"])


def test_the_torch_network_is_the_same_one(script):
    pytest.importorskip("torch")
    speed = script("speed")
    assert speed.torch_case("tiny", speed.sized("tiny", 1), speed.waves(1, 0.5))[1] < 1e-5


@pytest.mark.slow
def test_memory_is_measured_and_a_long_file_begins_like_its_beginning(script, tmp_path):
    script("memory").main(["--quick", "-o", str(tmp_path / "memory.json")])
    found = result(tmp_path / "memory.json")
    assert 0.1 < found["short"]["peak_gib"] < 2 and found["si_sdr_db"] >= 40


@pytest.mark.slow
def test_errors_are_found_where_they_are_and_solvers_compared(script, pairs, enhancer, tmp_path):
    command = ["--quick", "--model", str(enhancer), "--pairs", str(pairs), "--workers", "1"]
    script("where").main([*command, "-o", str(tmp_path / "where.json")])
    found = result(tmp_path / "where.json")
    scores = {name: row["pesq_wb"] for name, row in found["clean_bands"].items()}
    assert scores["all"] > 2 > scores["none"]
    assert len(found["bands"]["rms_db"]) == 80 and len(found["times"]["loss"]) == 10
    assert (tmp_path / "where.png").stat().st_size > 10_000
    words = ["--models", f"a={enhancer}", "--pairs", str(pairs), "--workers", "1", "--items", "2"]
    words += ["--grid", "solver=midpoint,euler,dopri5,ddim", "evaluations=2", "guidance=0,0.5", "--grid", "solver=heun"]
    script("solvers").main([*words, "-o", str(tmp_path / "solvers.json"), str(tmp_path / "solvers.png")])
    noisy, bound, *rows = json.loads((tmp_path / "solvers.json").read_text())["rows"]
    assert bound["pesq_wb"] == pytest.approx(scores["all"], abs=0.01) and bound["pesq_wb"] > noisy["pesq_wb"]
    assert [row["solver"] for row in rows] == ["midpoint", "midpoint", "euler", "euler", "dopri5", "dopri5", "heun"]
    assert {row["evaluations"] for row in rows[:4]} == {2} and rows[4]["evaluations"] > 6
    assert (tmp_path / "solvers.png").stat().st_size > 10_000


@pytest.mark.slow
def test_a_run_killed_three_times_ends_as_one_left_alone(script, tmp_path):
    with pytest.raises(SystemExit) as ended:
        script("kills").main(["--kills", "3", "--updates", "600", "-o", str(tmp_path / "kills.json")])
    found = json.loads((tmp_path / "kills.json").read_text())
    assert ended.value.code == 0 and found["equal"]
    assert found["moments"] == {"starting": 1, "training": 1, "saving": 1} and found["half_written"] >= 1
    assert found["parts"] > 100
