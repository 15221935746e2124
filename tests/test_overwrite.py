"""A command replaces the files of sfjax only, unless --force says otherwise."""

import json
import os

import numpy as np
import pytest
import soundfile

from sfjax import audio, overwrite, spectrogram_plot
from sfjax.data import manifest, prepare
from sfjax.data.scan import Reject
from sfjax.errors import UserError
from sfjax.evaluation import compare_runs
from sfjax.evaluation.report import Report
from sfjax.inference import splicing, tts_batch
from sfjax.text import durations, phones, textgrid

WAVE = np.random.default_rng(0).uniform(-0.3, 0.3, 16_000).astype(np.float32)
REPORT = Report([{"name": "a", "pesq": 1.0}], [])
LINE = phones.Line(("SIL", "AH_S", "SIL", "D_B", "AO_I", "G_E", "SIL"), (10, 10, 0, 5, 5, 5, 10), ("a", "dog"))
ROW = {"path": "a.wav", "start": 0, "frames": 9, "rate": 16_000}


def test_what_this_package_writes_has_a_mark(tmp_path):
    for name in ("a.wav", "a.flac", "a.ogg", "a.opus", "a.mp3"):
        audio.write(tmp_path / name, WAVE, 16_000)
        splicing.write(tmp_path / f"edited_{name}", splicing.read(tmp_path / name)[0], tmp_path / name)
    manifest.write(tmp_path / "a.parquet", [ROW])
    REPORT.write(tmp_path / "a.json")
    prepare.write_rejects([Reject("a.wav", "silent")], tmp_path / "a.parquet")
    spectrogram_plot.recordings({"a": tmp_path / "a.wav"}, tmp_path / "a.png")
    textgrid.write_textgrid(tmp_path / "a.TextGrid", LINE)
    durations.write(tmp_path / "durations.json", [LINE], hop_seconds=0.01)
    for name, scores in {
        "score": {"pesq_wb": 1.0, "si_sdr": 2.0},
        "wer": {"errors": 1, "words": 2},
        "v": {"sim": 1},
    }.items():
        Report([{"name": "a, b", "condition": {"snr": 5}, **scores}], []).write(tmp_path / f"{name}.csv")
    compare_runs.write([compare_runs.Run("a", {"seed": 0}, {}, {})], tmp_path / "runs.csv", smooth=1)
    assert len(list(tmp_path.iterdir())) == 20
    for path in tmp_path.iterdir():
        assert overwrite.is_ours(path), path
    overwrite.check(tmp_path.iterdir(), force=False)


def test_texts_that_were_edited_are_not_replaced(tmp_path):
    grid, lengths = tmp_path / "a.TextGrid", tmp_path / "durations.json"
    textgrid.write_textgrid(grid, LINE)
    durations.write(lengths, [LINE], hop_seconds=0.01)
    (line,) = durations.read(lengths, hop_seconds=0.01)
    assert line == LINE and textgrid.read_textgrid(grid).words[1].text == "dog"
    for path, old, new in ((grid, '"dog"', '"cat"'), (lengths, '"dog"', '"cat"')):
        overwrite.check([path], force=False)
        path.write_text(path.read_text().replace(old, new))
        with pytest.raises(UserError, match=f"{path} exists.*--force"):
            overwrite.check([path], force=False)
    lengths.write_text(lengths.read_text()[len('{"made_by": "sfjax 0123456789abcdef", ') :])
    assert not overwrite.is_ours(lengths)


def put_foreign(folder):
    """Files of others, or that hold no mark, under names that a command may write."""
    folder.mkdir(exist_ok=True)
    for name in ("a.wav", "a.flac", "a.ogg", "a.mp3"):
        soundfile.write(folder / name, WAVE, 16_000)
    soundfile.write(folder / "au.wav", WAVE, 16_000, format="AU", subtype="PCM_16")
    with soundfile.SoundFile(folder / "commented.wav", "w", 16_000, 1) as file:
        file.comment = "sfjaxed by hand"
        file.write(WAVE)
    (folder / "a.json").write_text(json.dumps({"rows": [], "made_by": "someone"}))
    (folder / "b.json").write_text("[]")
    (folder / "a.jsonl").write_text('{"path": "a.wav", "text": "mine"}\n')
    (folder / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    (folder / "a.parquet").write_bytes(b"PAR1")
    (folder / "a.TextGrid").write_text("mine")
    (folder / "a.txt").touch()
    (folder / "dangling.wav").symlink_to("nowhere")
    (folder / "a.csv").write_text("name,score,reason\na,1,\n")
    (folder / "b.csv").write_text("run,si_sdr\n")
    return list(folder.iterdir())


def test_other_files_are_refused_by_name_and_replaced_with_force(tmp_path):
    for path in put_foreign(tmp_path):
        with pytest.raises(UserError, match=f"^{path} exists.*--force"):
            overwrite.check([tmp_path / "new.wav", path], force=False)
        overwrite.check([path], force=True)


def test_a_pipe_is_never_replaced(tmp_path):
    os.mkfifo(tmp_path / "a.wav")
    for force in (False, True):
        with pytest.raises(UserError, match=f"{tmp_path}/a.wav must be a file, got a pipe"):
            overwrite.check([tmp_path / "a.wav"], force=force)
    with pytest.raises(UserError, match=r"a\.wav: expected a sound file, found a pipe"):
        audio.probe(tmp_path / "a.wav")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("speak hello --prompt a.wav --prompt-text a -o a.wav", "a.wav would be overwritten by its own result"),
        (
            "speak hello --prompt a.wav --prompt-textgrid a.TextGrid -o b.wav --textgrid a.TextGrid",
            "a.TextGrid would be overwritten by its own result",
        ),
        ("speak hello -o b.wav --textgrid ./b.wav", "b.wav is the name of two results"),
        ("edit a.wav --from a --to b -o a.wav", "a.wav would be overwritten by its own result"),
        (
            "edit a.wav --textgrid-in a.TextGrid --to b -o b.wav --textgrid a.TextGrid",
            "a.TextGrid would be overwritten by its own result",
        ),
        ("convert b.flac --voice a.wav -o a.wav", "a.wav would be overwritten by its own result"),
        ("convert a.wav --voice b.flac -o a.wav", "a.wav would be overwritten by its own result"),
    ],
)
def test_an_input_is_not_replaced_by_its_own_result(refused, tmp_path, monkeypatch, words, expected):
    """The inputs have the mark of sfjax, so that only this rule protects them."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.wav", "b.flac"):
        audio.write(name, WAVE, 16_000)
    textgrid.write_textgrid("a.TextGrid", LINE)
    for force in ([], ["--force"]):
        refused(expected, *words.split(), *force)


SPEAK = ("speak", "hello", "--prompt", "p.wav", "--prompt-text", "a")
EDIT = ("edit", "p.wav", "--from", "a", "--to", "b")


@pytest.mark.parametrize(
    "words",
    [
        (*SPEAK, "-o", "a.wav"),
        (*SPEAK, "-o", "new.wav", "--textgrid", "a.TextGrid"),
        (*SPEAK, "-o", "new.wav", "--write-durations", "b.json"),
        (*EDIT, "-o", "a.flac"),
        (*EDIT, "-o", "new.wav", "--textgrid", "a.TextGrid"),
        ("infill", "p.wav", "-o", "a.mp3", "--model", "m"),
        ("enhance", "p.wav", "--plot", "a.png"),
        ("score", "--reference", "p.wav", "--estimate", "p.wav", "-o", "a.json"),
        ("score", "--reference", "p.wav", "--estimate", "p.wav", "-o", "a.csv"),
        ("evaluate", "--manifest", "m.parquet", "--system", "noisy", "-o", "a.csv"),
        ("wer", "in", "--text", "t.jsonl", "-o", "a.json"),
        ("similarity", "--reference", "p.wav", "--estimate", "p.wav", "-o", "a.json"),
        ("report", "runs", "-o", "new.csv", "a.png"),
        ("mos", "score", "page", "answers.json", "-o", "a.json"),
        ("plan", "--config=configs/pretrain.py:tiny", "--topology", "cpu:1", "-o", "a.json"),
        ("cache-mels", "--manifest", "in/a.parquet", "-o", ".", "--model", "m"),
        ("quickstart", "-o", "quick"),
        ("quickstart", "-o", "pairs"),
        ("prepare", "folder", "in", "a.parquet"),
        ("prepare", "folder", "in", "rejected.parquet"),
        ("prepare", "jsonl", "in.jsonl", "stats.parquet"),
        ("prepare", "rooms", "rooms.parquet", "--count", "1"),
        ("prepare", "folder", "in", "sharded.parquet", "--shards"),
        ("prepare", "librispeech", "in", "a.parquet"),
        ("prepare", "merge", "x.parquet", "y.parquet", "a.parquet"),
    ],
)
def test_every_command_refuses_before_it_works(refused, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    put_foreign(tmp_path)
    soundfile.write("p.wav", WAVE, 16_000)
    (tmp_path / "rejected.rejects.jsonl").write_text('{"text": "mine"}\n')
    (tmp_path / "stats.stats.json").write_text("{}")
    put_foreign(tmp_path / "rooms")
    put_foreign(tmp_path / "sharded.shards")
    (tmp_path / "quick").mkdir()
    (tmp_path / "quick/noisy.json").write_text("{}")
    put_foreign(tmp_path / "pairs")
    (tmp_path / "pairs").rename(tmp_path / "clean")
    (tmp_path / "pairs").mkdir()
    (tmp_path / "clean").rename(tmp_path / "pairs/clean")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    refused("exists, and no mark in it says that sfjax wrote it.*--force", *words)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_list_of_speech_takes_no_file_of_others(tmp_path):
    path = tmp_path / "prompt/a.flac"
    audio.write(path, WAVE, 16_000)
    tts_batch._check_files(tmp_path, ["a", "b"], force=False)
    soundfile.write(path, WAVE, 16_000)
    with pytest.raises(UserError, match="prompt/a.flac exists"):
        tts_batch._check_files(tmp_path, ["a", "b"], force=False)
    tts_batch._check_files(tmp_path, ["a", "b"], force=True)
    path.unlink()
    (tmp_path / "made_by.txt").write_text("me")
    with pytest.raises(UserError, match="made_by.txt exists"):
        tts_batch._check_files(tmp_path, ["a"], force=False)


def test_an_exported_model_whose_card_was_edited_is_not_replaced(call, tmp_path):
    words = ("export", "--workdir", "sfjax://durations", "-o", tmp_path / "model")
    assert call(*words)[0] == 0 and call(*words)[0] == 0
    card = tmp_path / "model/README.md"
    card.write_text("my own words")
    code, complaints, _ = call(*words)
    assert code == 2 and "README.md" in complaints[0] and "--force" in complaints[0]
    assert card.read_text() == "my own words"
    assert call(*words, "--force")[0] == 0 and card.read_text() != "my own words"
