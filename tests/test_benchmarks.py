"""The benchmarks run from end to end on toys, and the fixed list of mixtures is what it is said to be."""

import importlib
import json
import lzma
import math
from pathlib import Path

import numpy as np
import pytest

from sfjax import audio, inference, train
from sfjax.data import manifest
from sfjax.errors import UserError
from sfjax.text import g2p, phones

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


@pytest.fixture(scope="module")
def said():
    """A function from words to their line: every phone lasts 8 frames, no pauses, 0.1 s of silence at both ends."""
    lexicon = g2p.default_lexicon()

    def make(text):
        tokens = phones.spell([lexicon[word] for word in text.split()])
        lengths = [0 if token == phones.SILENCE else 8 for token in tokens]
        return phones.Line(tokens, (10, *lengths[1:-1], 10), tuple(text.split()))

    return make


@pytest.fixture(scope="module")
def speech(tmp_path_factory, voice, said):
    """A folder like that of the real recordings that are aligned: a speaker's recordings are all of one voice."""
    folder = tmp_path_factory.mktemp("speech")
    lines, alignments = [], []

    def add(name, text, seed, aligned=True, longest=8, **facts):
        line = said(text)
        lengths = [longest if i == 1 else length for i, length in enumerate(line.lengths)]
        edges, words = np.cumsum([0, *lengths]).tolist(), []
        for word, (first, end) in zip(line.words, line.groups(), strict=True):
            spans = range(first, end)
            words.append([word, [[line.phones[i].split("_")[0], edges[i], edges[i + 1]] for i in spans]])
        audio.write(folder / f"speech/{name}.flac", voice(edges[-1] / 100, seed), 16_000)
        lines.append(json.dumps({"path": f"speech/{name}.flac", "text": text, **facts}))
        if aligned:
            alignments.append(json.dumps({"id": name, "words": words}))

    texts = ["a big dog ran home", "the small dog came home", "home came the big dog again"]
    for n in range(23):
        for k in range(3):
            facts = {"set": "so762", "spk": f"so{n:02}", "sex": "FM"[n % 2], "split": "train"}
            add(f"so762/{n:02}{k}", texts[k], n, aligned=(n, k) != (5, 0), longest=8 + 60 * ((n, k) == (7, 0)), **facts)
    for n in range(6):
        split = "valid" if n > 3 else "train"
        add(f"kathleen/{n}", texts[n % 2], 50, set="kathleen", spk="kathleen", sex="F", split=split)
    add("ls100/0", texts[0], 51, aligned=False, set="ls100", spk="ls1", sex="M", split="train")
    (folder / "manifest.jsonl").write_text("\n".join(lines))
    (folder / "align.jsonl.xz").write_bytes(lzma.compress("\n".join(alignments).encode()))
    return folder


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
    level = lambda wav: script("enhance_valid").noise_mixer.active_level(wav, 16_000)
    for item in items:
        clean, noisy = (audio.read(pairs / part / f"{item['name']}.flac")[0] for part in ("clean", "noisy"))
        whole = audio.read(data / item["speech"])[0][item["start"] : item["start"] + item["frames"]]
        assert abs(np.corrcoef(clean, whole)[0, 1] - 1) < 1e-6
        # the noise is white where it is not silent, so a crop of it has the level of the clip
        assert level(clean) - level(noisy - clean) == pytest.approx(item["snr"], abs=0.3)


@pytest.mark.nightly
def test_speed_is_measured(script, tmp_path):
    script("speed").main(["--quick", "-o", str(tmp_path / "speed.json")])
    found = result(tmp_path / "speed.json")
    assert {case["case"].partition(" ")[0] for case in found["cases"]} >= {"tiny", "log-Mel", "loader:"}
    assert all(n > 0 for n in numbers(found["cases"]))
    assert "tiny sampling, 2 evaluations" in [case["case"] for case in found["cases"]]  # of one midpoint step
    assert found["sizes"]["tiny"]["sampling_over_forwards"] > 0 and 0 < found["sizes"]["tiny"]["mfu"] < 1


def test_the_cost_of_each_degradation_is_measured(script, tmp_path):
    script("degrade").main(["--seconds", "1", "--examples", "4", "--rounds", "1", "-o", str(tmp_path / "degrade.json")])
    found = result(tmp_path / "degrade.json")
    assert [row["stage"] for row in found["stages"]][:7] == [
        "room",
        "microphone",
        "clip",
        "band",
        "codec",
        "packets",
        "level",
    ]
    assert all(row["ms"] > 0 for row in found["stages"])
    assert all(row["audio_seconds_per_second"] > 0 for row in found["whole"]) and len(found["whole"]) == 4


@pytest.mark.nightly
def test_compilation_is_measured(script, tmp_path):
    script("compile").main(["--size", "tiny", "--seconds", "1", "-o", str(tmp_path / "compile.json")])
    rows = result(tmp_path / "compile.json")["rows"]
    assert len({(row["layers"], row["remat"]) for row in rows}) == len(rows) == 6
    none, full = (
        next(r for r in rows if (r["layers"], r["remat"]) == ("scanned", remat)) for remat in ("none", "full")
    )
    assert full["temporary_gib"] < none["temporary_gib"]


def test_a_target_is_reached_on_the_line_between_two_validations(script):
    reached = script("speedrun").reached
    curve = [(1.0, 10, 0.9), (2.0, 20, 0.7), (3.0, 30, 0.3)]
    assert reached(curve, 0.8) == pytest.approx(1.5) and reached(curve, 0.4) == pytest.approx(2.75)
    assert reached(curve, 1.0) == 1.0 and reached(curve, 0.2) is None


@pytest.mark.nightly
def test_levers_are_compared_by_the_minutes_that_they_take(script, corpus, tmp_path):
    speech, noise = corpus / "speech.parquet", corpus / "noise.parquet"
    words = ["--quick", "--train", str(speech), "--minutes", "0.01", "-o", str(tmp_path / "speedrun.json")]
    script("speedrun").main(["--recipe", "pretrain", *words, "--levers", "base", "all-patch:0.02", "--seeds", "2"])
    found = result(tmp_path / "speedrun.json")
    base, other = found["rows"]
    assert [row["lever"] for row in found["rows"]] == ["base", "all-patch"]
    assert all(len(row["updates"]) == 2 for row in found["rows"]) and other["minutes"] > base["minutes"]
    assert base["loss"] == pytest.approx(sum(base["losses"]) / 2) == found["target"]
    assert all(len(row["curves"]) == 2 and row["minutes"] > 0 for row in found["rows"])
    assert all(curve[0][2] > curve[-1][2] for curve in base["curves"])
    script("speedrun").main(["--recipe", "enhance", *words, "--noise", str(noise), "--levers", "base", "--target", "9"])
    found = result(tmp_path / "speedrun.json")
    assert found["rows"][0]["minutes to target"] == found["rows"][0]["curves"][0][0][0]


@pytest.mark.nightly
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


@pytest.mark.nightly
def test_memory_is_measured_and_a_long_file_begins_like_its_beginning(script, tmp_path):
    script("memory").main(["--quick", "-o", str(tmp_path / "memory.json")])
    found = result(tmp_path / "memory.json")
    assert 0.1 < found["short"]["peak_gib"] < 2 and found["si_sdr_db"] >= 40


@pytest.mark.nightly
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
def test_a_live_model_is_timed_and_scored(script, pairs, toy_config, tmp_path):
    changes = {"model.patch": 2, "degrade.room": 0.0, "optim.updates": 1, "run.valid_batches": 0, "sample.steps": 1}
    train.run(toy_config("live", **changes), tmp_path / "run")
    words = [str(tmp_path / "run"), "--pairs", str(pairs), "--items", "2", "--workers", "1", "--seconds", "1"]
    script("live").main([*words, "-o", str(tmp_path / "live.json")])
    found = result(tmp_path / "live.json")
    assert sum(found["latency_ms"].values()) == 90.0 and found["difference"] < 1e-5
    assert [row["time"] for row in found["blocks"]] == ["wall", "CPU"]
    assert all(row["median ms"] <= row["95 % ms"] <= row["worst ms"] for row in found["blocks"])
    assert [row["system"] for row in found["rows"]] == ["noisy", str(tmp_path / "run")]


@pytest.mark.nightly
def test_a_run_killed_three_times_ends_as_one_left_alone(script, tmp_path):
    with pytest.raises(SystemExit) as ended:
        script("kills").main(["--kills", "3", "--updates", "600", "-o", str(tmp_path / "kills.json")])
    found = json.loads((tmp_path / "kills.json").read_text())
    assert ended.value.code == 0 and found["equal"]
    assert found["moments"] == {"starting": 1, "training": 1, "saving": 1} and found["half_written"] >= 1
    assert found["parts"] > 100


def test_mutated_inputs_end_with_a_result_or_one_line(script, tmp_path):
    words = [
        "--quick",
        "--here",
        "--count",
        "60",
        "--kinds",
        "sound",
        "text",
        "manifest",
        "config",
        "model",
        "document",
    ]
    with pytest.raises(SystemExit) as ended:
        script("mutations").main([*words, "-o", str(tmp_path / "mutations.json")])
    found = json.loads((tmp_path / "mutations.json").read_text())
    assert ended.value.code == 0 and found["failures"] == []
    counts = {kind: sum(outcomes.values()) for kind, outcomes in found["counts"].items()}
    assert sum(counts.values()) == 60 and len(counts) == 6
    refused = sum(outcomes.get("refused", 0) for outcomes in found["counts"].values())
    assert 10 < refused < 50


@pytest.mark.parametrize(
    "run, outcome",
    [
        (lambda: None, "result"),
        (lambda: (_ for _ in ()).throw(UserError("one line")), "refused"),
        (lambda: 1 / 0, "traceback"),
        (lambda: Path("in.wav").write_text("other"), "lost"),
        (lambda: Path("in.wav").unlink(), "lost"),
        (lambda: Path("out.json").write_text("{"), "lost"),
        (lambda: Path(".out.wav.1.part").touch(), "lost"),
        (["info"], "refused"),
        (["--version"], "result"),
    ],
)
def test_each_outcome_of_a_mutated_input_is_seen(script, tmp_path, monkeypatch, run, outcome):
    mutated, mutations = script("mutated"), script("mutations")

    def make(seed, box, stock, **options):
        (box / "in.wav").write_text("mine")
        return mutated.Case("made", run)

    monkeypatch.setattr(mutated, "make", make)
    assert mutations.attempt(0, tmp_path, kinds=(), quick=True).outcome == outcome


def test_an_input_that_hangs_is_stopped(script, tmp_path, monkeypatch):
    mutated, mutations = script("mutated"), script("mutations")
    monkeypatch.setattr(mutations, "PROCESSOR_SECONDS", 0.1)

    def forever():
        while True:
            pass

    monkeypatch.setattr(mutated, "make", lambda *words, **options: mutated.Case("made", forever))
    assert mutations.attempt(0, tmp_path, kinds=(), quick=True).outcome == "hang"


def test_a_mutated_input_is_made_again_from_its_seed(script, tmp_path):
    mutated = script("mutated")
    (tmp_path / "stock").mkdir()
    mutated.stock_up(tmp_path / "stock")
    contents = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        for seed in range(12):
            box = tmp_path / name / str(seed)
            box.mkdir()
            case = mutated.make(seed, box, tmp_path / "stock", kinds=("sound", "document"), quick=True)
            files = {path.name: path.read_bytes() for path in sorted(box.rglob("*")) if path.is_file()}
            contents.append((files, case.run if isinstance(case.run, list) else None))
    assert contents[:12] == contents[12:] and contents[0] != contents[1]


def test_the_distance_of_spectra_is_that_of_its_definition(script, voice):
    distance = script("vocoders").stft_distance
    wav = voice(1.0, 0) + 0.1 * np.random.default_rng(0).standard_normal(16_000)
    assert distance(wav, wav) == 0
    assert distance(wav, wav / 2) == pytest.approx(0.5 + math.log(2), abs=1e-3)
    assert distance(wav, np.zeros_like(wav)) > distance(wav, np.roll(wav, 4000)) > 0.5


def test_a_beginning_ends_with_the_nearest_word_and_shuffling_keeps_lengths(script, said):
    voices, line = script("voices"), said("the small dog came home")
    one = voices.Utterance("a", "s", None, np.arange(160.0 * sum(line.lengths), dtype=np.float32), line)
    ends = [sum(line.lengths[:end]) for _, end in line.groups()]
    for frames in range(0, sum(line.lengths), 7):
        prompt, words = voices.opening(one, 160, frames, left=0)
        assert sum(prompt.line.lengths) == len(prompt.wave) / 160 == min(ends, key=lambda end: abs(end - frames))
        assert prompt.line == said(" ".join(line.words[:words]))._replace(lengths=prompt.line.lengths)
    assert voices.opening(one, 160, 10_000, left=1).words == 4
    assert sum(voices.beginning(one, 160, 300).prompt.line.lengths) == ends[1]  # half of it is less than 3 s
    other = voices.shuffled(line, 0)
    silent = [i for i, token in enumerate(line.phones) if token == phones.SILENCE]
    assert other.lengths == line.lengths and sorted(other.phones) == sorted(line.phones) and other.phones != line.phones
    assert [i for i, token in enumerate(other.phones) if token == phones.SILENCE] == silent


def test_pairs_are_different_recordings_and_the_other_speaker_has_the_same_sex(script, said):
    voices, line = script("voices"), said("a dog")
    found = [
        voices.Utterance(f"{n}{k}", f"s{n}", "FM"[n % 2], np.zeros(9, np.float32), line)
        for n in range(5)
        for k in range(2 if n == 4 else 3 + n)
    ]
    made = voices.pairs(found, 2, 0)
    assert [pair.target.speaker for pair in made] == [f"s{n}" for n in range(4) for _ in range(2)]  # s4 has two only
    for prompt, target, same, other in made:
        assert prompt.speaker == target.speaker == same.speaker != other.speaker and other.sex == target.sex
        assert len({prompt.name, target.name, same.name}) == 3
    assert len({pair.prompt.name for pair in made}) == len(made)


@pytest.mark.nightly
def test_speech_from_text_is_measured(script, speech, speaker, toy_config, tmp_path):
    voices, folder = script("voices"), tmp_path / "made"
    voices.main(["prepare", "--data", str(speech), "-o", str(folder), "--workers", "1"])
    made = {name: manifest.read(folder / f"{name}.parquet", split=None) for name in ("speech", "voices", "held")}
    held = np.random.default_rng(0).choice([f"so{n:02}" for n in range(23)], 20, replace=False)
    rest = {f"so{n:02}" for n in range(23)} - set(held)
    assert made["held"].speakers == sorted(held)
    assert set(made["speech"].speakers) == rest | {"kathleen", "ls1"}
    assert set(made["voices"].speakers) == rest | {"kathleen"}
    # one recording has no alignment, another one a phone of 0.68 s
    assert len(made["voices"]) + len(made["held"]) == 69 + 6 - 2 and len(made["speech"]) == 3 * 3 + 6 + 1

    train.run(
        toy_config(
            "durations", **{"data.train": str(folder / "voices.parquet"), "optim.updates": 60, "optim.peak": 1e-2}
        ),
        tmp_path / "duration_model",
    )
    runs = ["--model", str(speaker[0]), "--duration-model", str(tmp_path / "duration_model")]
    words = ["--solver", "euler", "--steps", "1", "--pairs", "1", "--workers", "1"]
    hears = ["--transcriber", 'command:sh -c "echo a big dog ran home" {}']
    voices.main(["say", str(folder), *runs, *words, *hears, "-o", str(tmp_path / "out")])
    found = json.loads((tmp_path / "out/scores.json").read_text())
    systems = [row["system"] for row in found["words"]["rows"]]
    assert systems == ["original", "resynthesised", "spoken", "said again", "continued", "shuffled"]
    assert {(row["WER"], row["words"]) for row in found["words"]["rows"]} == {(0.3, 10)}  # 3 words of a sentence
    assert [row["system"] for row in found["voices"]["rows"]] == ["recorded", "resynthesised", "spoken"]
    recorded, again, spoken = found["voices"]["rows"]
    assert recorded["pairs"] == spoken["pairs"] == again["pairs"] >= 18
    assert recorded["low"] > 0 and recorded["same"] > 0.9 > spoken["same"]  # one voice is one voice, toys have none
    for row in found["durations"]:
        if row["lengths by"] != "model":  # every phone lasts as long as any
            assert row["of phones"] == 0 and row["total of phones"] == 1
    assert {(row["n"], row["hidden"]) for row in found["durations"][:3]} == {(2, 9 + 13)}  # behind "dog" and "small"
    assert {row["n"] for row in found["durations"][3:]} == {len(made["held"])}
    for part in ("original", "resynthesised", "spoken"):
        assert len(list((tmp_path / "out").glob(f"??_{part}.flac"))) == len(list((tmp_path / "out").glob("*.png"))) == 2
    kept, _ = audio.read(tmp_path / "out/00_original.flac")
    np.testing.assert_allclose(kept, audio.read(speech / "speech/kathleen/4.flac")[0], atol=1e-4)


@pytest.mark.nightly
def test_lines_said_again_last_as_they_say_whatever_they_are_batched_with(script, said, speaker, voice):
    voices = script("voices")
    say = voices.Voice(inference.load(speaker[0]), {"solver": "euler", "steps": 1, "guidance": 0.0}, 0)
    texts = ["home came the big dog", "a dog", "the small dog ran"]
    wave = lambda text: voice(sum(said(text).lengths) / 100, 0)
    prompt = say.prompt(voices.Utterance("a", "s", None, wave("a big dog"), said("a big dog")))
    made = say.say([(prompt, said(text)) for text in texts])
    assert [len(one) for one in made] == [160 * sum(said(text).lengths) for text in texts]
    assert [len(one) for one in say.again([wave(text) for text in texts])] == [len(one) for one in made]


@pytest.mark.nightly
def test_the_speed_of_speech_is_measured(script, speaker, tmp_path):
    words = ["--model", str(speaker[0]), "--duration-model", str(speaker[1]), "--rounds", "1"]
    script("voices").main(["speed", *words, "-o", str(tmp_path / "speed.json")])
    found = json.loads((tmp_path / "speed.json").read_text())
    few, many = found["rows"]
    assert (few["evaluations"], many["evaluations"]) == (8, 32) and 0 < few["s/s"] < many["s/s"]
    for row in found["rows"]:
        assert sum(row[name] for name in row if name.endswith("%")) == pytest.approx(100)
    assert min(found["apart"].values()) > 0


@pytest.mark.nightly
def test_vocoders_are_compared(script, corpus, toy_config, tmp_path):
    sizes = {"channels": 16, "residual_kernels": (3,), "dilations": (1,), "periods": (2,), "scales": 1}
    sizes |= {"discriminators": 0.02, "frames": 20}
    config = toy_config("vocode", **{f"vocoder.{name}": size for name, size in sizes.items()}, **{"optim.updates": 1})
    train.run(config, tmp_path / "run")
    words = ["--manifest", str(corpus / "speech.parquet"), "--split", "valid", "--vocoder", str(tmp_path / "run")]
    script("vocoders").main([*words, "--items", "2", "--workers", "1", "-o", str(tmp_path / "vocoders.json")])
    least, few, many, toy = result(tmp_path / "vocoders.json")["rows"]
    assert few["parameters"] == many["parameters"] == 0 < toy["parameters"]
    assert 0 < least["cpu_ms"] < few["cpu_ms"] < many["cpu_ms"]
    assert least["stft"] > few["stft"]
    assert toy["pesq_wb"] < few["pesq_wb"] and toy["estoi"] < 0.5 < few["estoi"] and few["stft"] < toy["stft"]
    assert all(row["scored"] == 2 and not row["failed"] for row in (few, many, toy))
