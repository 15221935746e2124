"""Corpora of noise, noisy speech and mixtures become rows that train; broken trees are reported completely."""

import csv
import shutil

import numpy as np
import pytest
import soundfile
from sounds import CHECKS, noise, put, rejects, rows

from sfjax import audio
from sfjax.configs import default
from sfjax.data import examples, manifest, prepare
from sfjax.errors import UserError
from sfjax.tasks import Task

SAMPLES = 4000


def prepared(name, folder, tmp_path, **how):
    return prepare.corpus(name, folder, tmp_path / "m.parquet", **{"sets": ()} | CHECKS | how)


def wrong(summary):
    """Return the rejects: path below the tree and first clause of the reason."""
    found = rejects(summary)
    return sorted((one["path"].partition("/")[2], one["reason"].split(";")[0].split(" (")[0]) for one in found)


def cut(path):
    path.write_bytes(path.read_bytes()[:5000])


def write(path, head, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([head, *lines])


def pair(clean, noisy, seed, rate=16000):
    wav, rest = (noise(SAMPLES * rate // 16000, number) for number in (seed, seed + 100))
    put(clean, wav, rate)
    put(noisy, wav + rest, rate)


# Corpora in miniature


def voicebank(folder, rate=16000):
    sets = {"trainset_28spk": ("p226_001", "p239_001", "p239_002", "p287_003"), "testset": ("p232_001", "p257_002")}
    for name, keys in sets.items():
        for seed, key in enumerate(keys):
            pair(folder / f"clean_{name}_wav" / f"{key}.wav", folder / f"noisy_{name}_wav" / f"{key}.wav", seed, rate)
        (folder / f"{name}_txt").mkdir()
        (folder / f"{name}_txt" / f"{keys[0]}.txt").write_text("Please call Stella.\n")
    (folder / "log_trainset_28spk.txt").write_text("p226_001 cafeteria 10\np239_001 ssn 0\n")
    (folder / "logfiles").mkdir()
    (folder / "logfiles" / "log_testset.txt").write_text("p232_001 bus 2.5\n")


def wsj0chime3(folder):
    for seed, name in enumerate(("train/{}/011c0201", "train/{}/01ac020a", "valid/{}/050a0501", "test/{}/440c0201")):
        clean, noisy = (folder / f"{name.format(side)}.wav" for side in ("clean", "noisy"))
        pair(clean, noisy, seed)


def dns2020(folder):
    for place, names in {
        "training": ("book_00000_chp_0009-door_snr3_tl-24_fileid_{}.wav", "b_snr-4_tl-30_fileid_{}.wav"),
        "datasets/test_set/synthetic/no_reverb": ("clnsp1_train_69005_1_snr15_tl-21_fileid_{}.wav",),
        "datasets/test_set/synthetic/with_reverb": ("clnsp2_bus_128120_5_snr14_tl-23_fileid_{}.wav",),
    }.items():
        for seed, name in enumerate(names):
            at = folder / place
            pair(at / "clean" / f"clean_fileid_{seed}.wav", at / "noisy" / name.format(seed), seed)
            put(at / "noise" / f"noise_fileid_{seed}.wav", noise(SAMPLES, seed + 100))
    put(folder / "datasets" / "noise" / "--9VR_F7CtY.wav", noise(SAMPLES))
    put(folder / "datasets" / "clean" / "book_00000_chp_0009.wav", noise(SAMPLES))


def wham(folder):
    for name, count in {"tr": 2, "cv": 1, "tt": 1}.items():
        files = [f"40na010{number}_1.98_01xo031a_-1.98.wav" for number in range(count)]
        for seed, file in enumerate(files):
            put(folder / name / file, np.stack([noise(SAMPLES, seed), noise(SAMPLES, seed + 9)], axis=1))
        lines = [[number, file, 2, "file_1", "17.8 cm", "m"] for number, file in enumerate(files)]
        head = ["", "utterance_id", "Noise Band", "File ID", "L to R Width (cm)", "Reverberation Level"]
        write(folder / "metadata" / f"noise_meta_{name}.csv", head, lines)


MIXED = {2: ("1-2-0003_45-6-0007", "8-9-0010_11-12-0013"), 3: ("1-2-0003_45-6-0007_8-9-0010",)}


def librimix(folder, sets=((2, "train-100"), (2, "dev"), (3, "test"))):
    for speakers, subset in sets:
        base = folder / f"Libri{speakers}Mix" / "wav16k" / "min"
        for seed, name in enumerate(MIXED[speakers]):
            waves = {f"s{number}": noise(SAMPLES, 10 * seed + number) for number in range(1, speakers + 1)}
            waves |= {"noise": noise(SAMPLES, 10 * seed, level=0.03), "mix_clean": sum(waves.values())}
            for kind, wav in (waves | {"mix_both": waves["mix_clean"] + waves["noise"]}).items():
                put(base / subset / kind / f"{name}.wav", wav)
        for kind in ("mix_clean", "mix_both"):
            lines = [[name, f"/where/it/was/made/{name}.wav", SAMPLES] for name in MIXED[speakers]]
            write(base / "metadata" / f"mixture_{subset}_{kind}.csv", ["mixture_ID", "mixture_path", "length"], lines)
            write(base / "metadata" / f"metrics_{subset}_{kind}.csv", ["mixture_ID"], lines)


LAYS = {lay.__name__: lay for lay in (voicebank, wsj0chime3, dns2020, wham, librimix)}


@pytest.fixture
def tree(tmp_path):
    """A function that lays out a corpus in miniature and returns its folder."""

    def lay(name):
        (tmp_path / "tree").mkdir()
        LAYS[name](tmp_path / "tree")
        return tmp_path / "tree"

    return lay


# Rows


@pytest.mark.parametrize(
    "name, columns, expected",
    [
        (
            "voicebank",
            ("speaker", "text", "set", "split", "noise_kind", "snr"),
            [
                ("p226", "Please call Stella.", "train", "valid", "cafeteria", 10.0),
                ("p239", None, "train", "train", "ssn", 0.0),
                ("p239", None, "train", "train", None, None),
                ("p287", None, "train", "valid", None, None),
                ("p232", "Please call Stella.", "test", "test", "bus", 2.5),
                ("p257", None, "test", "test", None, None),
            ],
        ),
        (
            "wsj0chime3",
            ("speaker", "set", "split"),
            [("011", "train", "train"), ("01a", "train", "train"), ("050", "valid", "valid"), ("440", "test", "test")],
        ),
        (
            "dns2020",
            ("set", "split", "kind", "snr"),
            [
                ("train", "train", None, 3.0),
                ("train", "train", None, -4.0),
                ("noise", None, "noise", None),
                ("no_reverb", "test", None, 15.0),
                ("with_reverb", "test", None, 14.0),
            ],
        ),
        (
            "wham",
            ("set", "split", "kind"),
            [("tr", "train", "noise")] * 2 + [("cv", "valid", "noise"), ("tt", "test", "noise")],
        ),
        (
            "librimix",
            ("set", "split", "name", "speakers", "gains", "noise_gain"),
            [
                (f"Libri{n}Mix/{subset}/mix_{kind}", split, name, speakers, [1.0] * n, gain)
                for n, subset, split in ((2, "train-100", "train"), (2, "dev", "valid"), (3, "test", "test"))
                for kind, gain in (("clean", None), ("both", 1.0))
                for name, speakers in zip(MIXED[n], (["1", "45", "8"][:n], ["8", "11"]), strict=False)
            ],
        ),
    ],
)
def test_every_recording_has_its_columns(tree, tmp_path, name, columns, expected):
    summary = prepared(name, tree(name), tmp_path)
    found = rows(summary.dest)
    assert [tuple(row.get(column) for column in columns) for row in found] == expected
    assert {(row["start"], row["frames"], row["rate"]) for row in found} == {(0, SAMPLES, 16000)}
    assert summary.rejected == 0 and summary.mixed == (4 if name == "wham" else 0)


@pytest.mark.parametrize(
    "name, notes",
    [
        (
            "voicebank",
            [
                "train: 4 recordings, 0.00 h; published: 11,572",
                "test: 2 recordings, 0.00 h; published: 824",
            ],
        ),
        (
            "wsj0chime3",
            [
                "train: 2 recordings, 0.00 h; published: 12,777",
                "valid: 1 recordings, 0.00 h; published: 1,206",
                "test: 1 recordings, 0.00 h; published: 651",
            ],
        ),
        (
            "dns2020",
            [
                "train: 2 recordings, 0.00 h; published: 60,000 and 500 h",
                "no_reverb: 1 recordings, 0.00 h; published: 150",
                "with_reverb: 1 recordings, 0.00 h; published: 150",
                "noise: 1 recordings, 0.00 h; published: 70,000",
            ],
        ),
        (
            "wham",
            [
                "tr: 2 recordings, 0.00 h; published: 20,000 and 58.03 h",
                "cv: 1 recordings, 0.00 h; published: 5,000 and 14.65 h",
                "tt: 1 recordings, 0.00 h; published: 3,000 and 9 h",
            ],
        ),
        (
            "librimix",
            [
                f"Libri{n}Mix/{subset}/{kind}: {count} recordings, 0.00 h; published: {published}"
                for n, subset, count, published in (
                    (2, "train-100", 2, "13,900"),
                    (2, "dev", 2, "3,000"),
                    (3, "test", 1, "3,000"),
                )
                for kind in ("mix_clean", "mix_both")
            ]
            + [
                "missing: Libri2Mix/train-360/mix_clean, Libri2Mix/train-360/mix_both, Libri2Mix/test/mix_clean, "
                "Libri2Mix/test/mix_both, Libri3Mix/train-360/mix_clean, Libri3Mix/train-360/mix_both, "
                "Libri3Mix/train-100/mix_clean, Libri3Mix/train-100/mix_both, Libri3Mix/dev/mix_clean, "
                "Libri3Mix/dev/mix_both"
            ],
        ),
    ],
)
def test_each_set_is_compared_with_its_published_numbers(tree, tmp_path, name, notes):
    assert list(prepared(name, tree(name), tmp_path).notes) == notes


def made(dest, columns, number):
    """The waves that training reads of a row of split 'valid', as long as they are."""
    found = manifest.read(dest, split="valid")
    task = Task()
    task.columns = dict.fromkeys(columns, 1.0)
    spec = audio.MelSpec(**default.get_config("tiny").mel)
    make = examples.maker(task, found, spec=spec, simulation=examples.Simulation({}, {}, {}, {}), split="valid")
    return make(found, found.row(number), 2 * SAMPLES, 16000, np.random.default_rng(0))


@pytest.mark.parametrize("rate", [16000, 48000])
def test_voicebank_trains_an_enhancer_at_its_own_rate_or_at_16_khz(tmp_path, rate):
    voicebank(tmp_path / "tree", rate)
    summary = prepared("voicebank", tmp_path / "tree", tmp_path)
    assert [row["rate"] for row in rows(summary.dest)] == [rate] * 6
    for number, key in enumerate(("p226_001", "p287_003")):
        waves = made(summary.dest, ("speech", "noisy"), number)
        for column, side in (("speech", "clean"), ("noisy", "noisy")):
            path = tmp_path / "tree" / f"{side}_trainset_28spk_wav" / f"{key}.wav"
            np.testing.assert_array_equal(waves[column], audio.read(path, rate=16000)[0])


@pytest.mark.parametrize("kind", ["mix_clean", "mix_both"])
def test_librimix_trains_a_separator_on_the_generated_mixtures(tree, tmp_path, kind):
    folder = tree("librimix")
    summary = prepared("librimix", folder, tmp_path, sets=[f"Libri2Mix/dev/{kind}"])
    for number, name in enumerate(MIXED[2]):
        waves = made(summary.dest, ("mixture", "source_1", "source_2"), number)
        for column, place in (("mixture", kind), ("source_1", "s1"), ("source_2", "s2")):
            wav = soundfile.read(folder / "Libri2Mix" / "wav16k" / "min" / "dev" / place / f"{name}.wav")[0]
            np.testing.assert_allclose(waves[column], wav, atol=4 * 2**-15)  # each of the files is rounded


def test_the_files_of_a_mixture_move_with_its_manifest(tree, tmp_path):
    prepared("librimix", tree("librimix"), tmp_path, sets=["Libri2Mix/dev/mix_both"])
    (tmp_path / "moved").mkdir()
    for name in ("tree", "m.parquet"):
        (tmp_path / name).rename(tmp_path / "moved" / name)
    assert len(made(tmp_path / "moved" / "m.parquet", ("mixture", "source_1", "source_2"), 0)["mixture"]) == SAMPLES


# Broken trees


def test_a_broken_voicebank_is_reported_completely(tree, tmp_path):
    folder = tree("voicebank")
    clean, noisy = (folder / f"{side}_trainset_28spk_wav" for side in ("clean", "noisy"))
    (noisy / "p239_001.wav").unlink()
    put(clean / "copy of p239_002.wav", noise(SAMPLES))
    cut(noisy / "p226_001.wav")
    pair(clean / "p287_003.wav", noisy / "p287_003.wav", 0, 44100)
    put(folder / "noisy_testset_wav" / "p232_001.wav", noise(SAMPLES - 1))
    summary = prepared("voicebank", folder, tmp_path)
    assert wrong(summary) == [
        ("clean_testset_wav/p232_001.wav", "clean and noisy differ in length: 4000 and 3999"),
        ("clean_trainset_28spk_wav/copy of p239_002.wav", "not named like p226_001.wav"),
        (
            "clean_trainset_28spk_wav/p239_001.wav",
            "expected one file of p239_001 in each folder, "
            "got 1 in clean_trainset_28spk_wav and 0 in noisy_trainset_28spk_wav",
        ),
        ("clean_trainset_28spk_wav/p287_003.wav", "44100 Hz, expected 16000 or 48000 Hz"),
        ("noisy_trainset_28spk_wav/p226_001.wav", "states 8000 bytes of sound, holds 4956"),
        ("noisy_trainset_28spk_wav/p287_003.wav", "44100 Hz, expected 16000 or 48000 Hz"),
    ]
    assert summary.files == 2


def test_a_broken_wsj0chime3_is_reported_completely(tree, tmp_path):
    folder = tree("wsj0chime3")
    (folder / "train" / "clean" / "011c0201.wav").unlink()
    (folder / "test" / "noisy" / "440c0201.wav").rename(folder / "test" / "noisy" / "440c0201_snr3.wav")
    put(folder / "valid" / "noisy" / "050a0501.wav", noise(SAMPLES), 8000)
    summary = prepared("wsj0chime3", folder, tmp_path)
    assert wrong(summary) == [
        ("test/clean/440c0201.wav", "expected one file of 440c0201 in each folder, got 1 in clean and 0 in noisy"),
        ("test/noisy/440c0201_snr3.wav", "not named like 011c0201.wav"),
        ("train/noisy/011c0201.wav", "expected one file of 011c0201 in each folder, got 0 in clean and 1 in noisy"),
        ("valid/noisy/050a0501.wav", "8000 Hz, expected 16000 Hz"),
    ]
    assert summary.files == 1


def test_a_broken_dns2020_is_reported_completely(tree, tmp_path):
    folder = tree("dns2020")
    training, reverb = folder / "training", folder / "datasets" / "test_set" / "synthetic" / "with_reverb"
    put(training / "noisy" / "of_another_run_snr9_tl-20_fileid_1.wav", noise(SAMPLES))
    cut(reverb / "clean" / "clean_fileid_0.wav")
    cut(next((reverb / "noisy").iterdir()))
    (folder / "datasets" / "noise" / "list.txt").write_text("")
    summary = prepared("dns2020", folder, tmp_path)
    twice = "expected one file of 1 in each folder, got 1 in clean and 2 in noisy"
    short = "states 8000 bytes of sound, holds 4956"
    assert wrong(summary) == [
        ("datasets/noise/list.txt", "not a .wav"),
        ("datasets/test_set/synthetic/with_reverb/clean/clean_fileid_0.wav", short),
        ("datasets/test_set/synthetic/with_reverb/noisy/clnsp2_bus_128120_5_snr14_tl-23_fileid_0.wav", short),
        ("training/clean/clean_fileid_1.wav", twice),
        ("training/noisy/b_snr-4_tl-30_fileid_1.wav", twice),
        ("training/noisy/of_another_run_snr9_tl-20_fileid_1.wav", twice),
    ]
    assert summary.files == 3


def test_a_broken_wham_is_reported_completely(tree, tmp_path):
    folder = tree("wham")
    name = "40na010{}_1.98_01xo031a_-1.98{}.wav".format
    put(folder / "tr" / name(0, "sp08"), noise(SAMPLES))
    (folder / "tr" / name(1, "")).unlink()
    put(folder / "cv" / name(0, ""), noise(3 * SAMPLES), 48000)
    write(folder / "metadata" / "noise_meta_tt.csv", ["file"], [[name(0, "")]])
    summary = prepared("wham", folder, tmp_path)
    assert wrong(summary) == [
        (f"cv/{name(0, '')}", "48000 Hz, expected 16000 Hz"),
        ("metadata/noise_meta_tt.csv", "has no column utterance_id"),
        (f"tr/{name(0, 'sp08')}", "has no line in noise_meta_tr.csv"),
        (f"tr/{name(1, '')}", "is missing, but noise_meta_tr.csv lists it"),
        (f"tt/{name(0, '')}", "has no line in noise_meta_tt.csv"),
    ]
    assert summary.files == 1


def test_a_broken_librimix_is_reported_completely(tree, tmp_path):
    base = tree("librimix") / "Libri2Mix" / "wav16k" / "min"
    one, two = (f"{name}.wav" for name in MIXED[2])
    (base / "dev" / "s2" / one).unlink()
    cut(base / "dev" / "noise" / one)
    put(base / "dev" / "s1" / two, noise(SAMPLES), 8000)
    put(base / "train-100" / "s1" / one, noise(SAMPLES - 1))
    put(base / "train-100" / "s2" / one, noise(SAMPLES + 1))
    put(base / "train-100" / "mix_both" / "1-2-0003.wav", noise(SAMPLES))
    write(base / "metadata" / "mixture_train-100_mix_both.csv", ["mixture_ID"], [[MIXED[2][1]], ["1-2-0003"], [""]])
    write(base / "metadata" / "mixture_dev_mix_clean.csv", ["mixture"], [["1-2-0003_45-6-0007"]])
    shutil.rmtree(base.parents[1].parent / "Libri3Mix")
    summary = prepared("librimix", base.parents[1], tmp_path)
    gone, slow = "expected a sound file, found nothing", "8000 Hz, expected 16000 Hz"
    assert [(path.removeprefix("Libri2Mix/wav16k/min/"), reason) for path, reason in wrong(summary)] == [
        (f"dev/mix_clean/{one}", "has no line in mixture_dev_mix_clean.csv"),
        (f"dev/mix_clean/{two}", "has no line in mixture_dev_mix_clean.csv"),
        (f"dev/noise/{one}", "states 8000 bytes of sound, holds 4956"),
        (f"dev/s1/{two}", slow),
        (f"dev/s2/{one}", gone),
        ("metadata/mixture_dev_mix_clean.csv", "has no column mixture_ID"),
        ("metadata/mixture_train-100_mix_both.csv", "line 4 has no value in mixture_ID"),
        (
            "train-100/mix_both/1-2-0003.wav",
            "expected a mixture named like 1089-134686-0000_121-127105-0031, got 1-2-0003",
        ),
        (f"train-100/mix_both/{one}", "has no line in mixture_train-100_mix_both.csv"),
        (f"train-100/mix_clean/{one}", "mixture and s1 differ in length: 4000 and 3999"),
        (f"train-100/mix_clean/{one}", "mixture and s2 differ in length: 4000 and 4001"),
    ]
    assert [(row["set"], row["name"]) for row in rows(summary.dest)] == [
        ("Libri2Mix/train-100/mix_clean", MIXED[2][1]),
        ("Libri2Mix/train-100/mix_both", MIXED[2][1]),
    ]


@pytest.mark.parametrize(
    "name, place, how, message",
    [
        ("voicebank", "clean_testset_wav/sub", {}, "expected VoiceBank-DEMAND with clean_trainset_28spk_wav, .* a.wav"),
        ("voicebank", ".", {"sets": ["valid"]}, "voicebank has no set 'valid'; choose from train, test"),
        ("wsj0chime3", "train/sub", {}, "expected WSJ0-CHiME3 with train, valid, test or some of these, found a.wav"),
        ("dns2020", "sub", {}, "expected the DNS Challenge of 2020 with training, .* found a.wav"),
        ("wham", "nowhere", {}, "expected the folder of the noise of WHAM!, found no such folder"),
        ("wham", "sub", {}, "expected the noise of WHAM! with tr, cv, tt or some of these, found a.wav"),
        ("librimix", "Libri2Mix/wav16k/min/dev", {}, "expected LibriMix with Libri2Mix, Libri3Mix .* found mix_both"),
        ("librimix", ".", {"speech": "."}, "speech and noise are for a metadata CSV only, got a folder"),
        ("librimix", "sub/a.wav", {}, "expected a CSV of LibriMix's generator, named like libri2mix_train-clean"),
        ("librimix", "sub/libri2mix_dev-clean.csv", {}, "give this folder with --speech"),
    ],
)
def test_another_layout_is_rejected_in_one_line(tree, tmp_path, name, place, how, message):
    folder = tree(name)
    if "sub" in place:
        at = folder / place if place.endswith("sub") else (folder / place).parent
        put(at / "a.wav", noise(SAMPLES))
        (at / "libri2mix_dev-clean.csv").touch()
    if "speech" in how:
        how = {"places": {"speech": tmp_path}}
    with pytest.raises(UserError, match=message) as raised:
        prepared(name, folder / place, tmp_path, **how)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name, gone", [("voicebank", "noisy_testset_wav"), ("wsj0chime3", "valid/clean")])
def test_a_corpus_of_pairs_without_one_side_is_rejected_in_one_line(tree, tmp_path, name, gone):
    folder = tree(name)
    shutil.rmtree(folder / gone)
    with pytest.raises(UserError, match=f"{gone}: expected the folder of (clean|noisy) files, found no such folder"):
        prepared(name, folder, tmp_path)


def test_librimix_without_wav16k_is_rejected_in_one_line(tree, tmp_path):
    folder = tree("librimix") / "Libri2Mix"
    (folder / "wav16k").rename(folder / "wav8k")
    with pytest.raises(UserError, match="Libri2Mix: expected wav16k/min, found none; generate it with --freqs 16k"):
        prepared("librimix", folder, tmp_path)


def test_the_output_of_the_synthesizer_may_be_in_any_folder(tree, tmp_path):
    folder = tree("dns2020")
    (folder / "training").rename(tmp_path / "mine")
    assert {row["set"] for row in rows(prepared("dns2020", tmp_path / "mine", tmp_path).dest)} == {"train"}


# LibriMix by the metadata of its generator, without a mixture on disk


HEAD = ["mixture_ID", "source_1_path", "source_1_gain", "source_2_path", "source_2_gain", "noise_path", "noise_gain"]


@pytest.fixture
def metadata(tmp_path):
    """A CSV of the generator with its two mixtures, of sources below `speech` and noise below `noise`."""
    for seed, samples in ((1, 4000), (2, 5000)):
        put(tmp_path / "tree" / "speech" / "dev-clean" / f"{seed}.flac", noise(samples, seed))
    put(tmp_path / "tree" / "noise" / "cv" / "a.wav", noise(3300, 3))
    speech, csv = ["dev-clean/1.flac", 0.5, "dev-clean/2.flac", 2.0], tmp_path / "tree" / "libri2mix_dev-clean.csv"
    write(csv, HEAD, [[MIXED[2][0], *speech, "cv/a.wav", 0.1], [MIXED[2][1], *speech[2:], *speech[:2], "cv/a.wav", 1]])
    return csv


@pytest.mark.parametrize("noisy", [False, True])
def test_a_generators_metadata_needs_no_mixture_on_disk(metadata, tmp_path, call, noisy):
    words = ["prepare", "librimix", metadata, tmp_path / "m.parquet", "--speech", metadata.parent / "speech"]
    code, _, said = call(*words, *(["--noise", metadata.parent / "noise"] * noisy), "--min-seconds", 0.2)
    assert code == 0 and f"Libri2Mix/dev/mix_{'both' if noisy else 'clean'}: 2 recordings, 0.00 h; published" in said
    row = rows(tmp_path / "m.parquet", split="valid")[0]
    assert (row["name"], row["speakers"], row["frames"]) == (MIXED[2][0], ["1", "45"], 4000)
    waves = made(tmp_path / "m.parquet", ("mixture", "source_1", "source_2"), 0)
    files = [
        metadata.parent / name for name in ("speech/dev-clean/1.flac", "speech/dev-clean/2.flac", "noise/cv/a.wav")
    ]
    one, two, rest = (audio.read(path)[0] for path in files)
    np.testing.assert_allclose(waves["source_1"], 0.5 * one, atol=1e-6)
    np.testing.assert_allclose(waves["source_2"], 2.0 * two[:4000], atol=1e-6)
    added = waves["mixture"] - waves["source_1"] - waves["source_2"]
    np.testing.assert_allclose(added, 0.1 * noisy * np.resize(rest, 4000), atol=1e-6)


def test_all_errors_of_the_metadata_are_reported_together(metadata, tmp_path):
    speech, rest = ["dev-clean/1.flac", 0.5, "dev-clean/2.flac", 2.0], ["cv/a.wav", 0.1]
    cut(metadata.parent / "speech" / "dev-clean" / "2.flac")
    put(metadata.parent / "noise" / "cv" / "slow.wav", noise(SAMPLES), 8000)
    lines = [
        [MIXED[2][0], "dev-clean/1.flac", 1, "dev-clean/1.flac", 1, *rest],
        ["1-2-0003_4-5-0006", "dev-clean/gone.flac", 1, "dev-clean/2.flac", 1, "cv/gone.wav", 1],
        ["1-2-0003_4-5-0007", "dev-clean/1.flac", "loud", "dev-clean/1.flac", 1, *rest],
        ["a_b", "dev-clean/1.flac", 1, "dev-clean/1.flac", 1, *rest],
        ["1-2-0003_4-5-0008", "dev-clean/1.flac", 1, "dev-clean/1.flac", 1, "cv/slow.wav", 1],
        ["1-2-0003_4-5-0009", *speech[:2], "", 1, *rest],
    ]
    write(metadata, HEAD, lines)
    places = {"speech": metadata.parent / "speech", "noise": metadata.parent / "noise"}
    summary = prepared("librimix", metadata, tmp_path, places=places)
    like = "1089-134686-0000_121-127105-0031"
    found = [(path.rpartition("/")[2], reason) for path, reason in wrong(summary)]
    assert [reason.split()[0] for path, reason in found if path == "2.flac"][0] in ("broken", "expected")
    assert [one for one in found if one[0] != "2.flac"] == [
        ("libri2mix_dev-clean.csv", "1-2-0003_4-5-0007: could not convert string to float: 'loud'"),
        ("libri2mix_dev-clean.csv", "line 7 has no value in source_2_path"),
        ("gone.wav", "expected a sound file, found nothing"),
        ("slow.wav", "8000 Hz, expected 16000 Hz"),
        ("1.flac", f"expected a mixture named like {like}, got a_b"),
        ("gone.flac", "expected a sound file, found nothing"),
    ]
    assert [row["name"] for row in rows(summary.dest)] == [MIXED[2][0]]


@pytest.mark.parametrize(
    "content, message",
    [
        (b"PAR1\xff\xfe\x00", "found none, 1 rejected; the first, .*libri2mix_dev-clean.csv: not a CSV"),
        (b"mixture_ID,source_1_path\na,b\n", "has no column source_2_path, source_1_gain, source_2_gain; it has mix"),
        (b"", "has no column mixture_ID"),
    ],
)
def test_a_file_that_is_no_metadata_is_rejected_in_one_line(metadata, tmp_path, content, message):
    metadata.write_bytes(content)
    with pytest.raises(UserError, match=message):
        prepared("librimix", metadata, tmp_path, places={"speech": metadata.parent})
