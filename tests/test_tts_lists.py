"""Test lists hold the right utterances and prompts, and a model synthesizes every row of them."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest
import soundfile

from sfjax import inference
from sfjax.cli.data import PROTOCOLS
from sfjax.data import manifest, tts_lists
from sfjax.errors import UserError
from sfjax.evaluation.paper_tables import MOS, TABLES
from sfjax.inference import tts_batch
from sfjax.text import durations
from sfjax.text.phones import SILENCE

FEW = dict(solver="euler", steps=1, guidance=0.0)
HOW = dict(seconds=0.7, between=(1.0, 2.9), seed=0, hop_seconds=0.01)


@pytest.fixture(scope="module")
def found(spoken):
    return manifest.read(spoken, split=None)


@pytest.fixture(scope="module")
def rows(found):
    """The rows of the list of each kind, by kind."""
    return {kind: tts_lists.make_list(found, kind, **HOW)[0] for kind in tts_lists.KINDS}


def by_path(found):
    return {found.row(i)["path"]: found.row(i) for i in range(len(found))}


def ends(row):
    """The end of each word of a row in frames."""
    return [round(100 * word.end) for word in durations.times(tts_lists.line(row), hop_seconds=0.01)]


# Lists


@pytest.mark.parametrize("kind", tts_lists.KINDS)
def test_a_list_is_the_same_whatever_the_order_of_the_rows(found, rows, kind):
    order = np.random.default_rng(0).permutation(len(found))
    mixed = dataclasses.replace(found, table=found.table.take(order))
    again, rejects = tts_lists.make_list(mixed, kind, **HOW)
    assert again == rows[kind] and len(again) > 2 and len(again) + len(rejects) == len(found)
    paths = [row["path"] for row in again]
    assert paths == sorted(paths) and all(row["protocol"] == kind for row in again)


def test_a_cross_prompt_is_another_utterance_of_the_speaker_up_to_the_nearest_word_end(found, rows):
    known = by_path(found)
    for row in rows["cross"]:
        other = known[row["prompt"]]
        assert row["prompt"] != row["path"] and other["speaker"] == row["speaker"]
        assert 1 <= other["frames"] / other["rate"] <= 2.9
        nearest = min(ends(other), key=lambda end: abs(end - 70))
        assert sum(row["prompt_lengths"]) == nearest and row["prompt_frames"] == min(160 * nearest, other["frames"])
        count = len(row["prompt_words"])
        assert row["prompt_words"] == tuple(other["words"][:count]) and ends(other)[count - 1] == nearest
        assert {name: known[row["path"]][name] for name in tts_lists.KEPT} == {
            name: row[name] for name in tts_lists.KEPT
        }


def test_another_seed_draws_other_prompts(found):
    alike = dataclasses.replace(
        found, table=found.table.set_column(found.columns.index("speaker"), "speaker", [["one"] * len(found)])
    )
    drawn = [
        [row["prompt"] for row in tts_lists.make_list(alike, "cross", **HOW | {"seed": seed})[0]] for seed in range(2)
    ]
    assert drawn[0] != drawn[1] and len(set(drawn[0])) > 1


def test_a_continued_prompt_is_the_beginning_and_at_least_one_word_follows(found, rows):
    long, _ = tts_lists.make_list(found, "continued", **HOW | {"seconds": 60.0})
    for row in (*rows["continued"], *long):
        assert row["prompt"] == row["path"] and row["prompt_start"] == row["start"]
        first, rest = tts_lists.line(row).cut(len(row["prompt_words"]))
        assert first == tts_lists.line(row, "prompt_") and rest.words and row["text"].split()[-1] == rest.words[-1]
        assert durations.joined(first, rest) == tts_lists.line(row)
    assert all(sum(row["prompt_lengths"]) == ends(row)[-2] for row in long)
    for row in rows["continued"]:
        assert sum(row["prompt_lengths"]) == min(ends(row)[:-1], key=lambda end: abs(end - 70))


def test_the_edited_words_have_their_middle_in_the_centre_half(rows):
    for row in rows["edited"]:
        seconds = sum(row["lengths"]) / 100
        said = durations.times(tts_lists.line(row), hop_seconds=0.01)
        inside = [i for i, word in enumerate(said) if abs((word.start + word.end) / 2 / seconds - 0.5) < 0.2501]
        assert row["anew"] == (inside[0], inside[-1] + 1) and inside == list(range(*row["anew"]))
        assert row["prompt"] == row["path"] and row["prompt_frames"] == row["frames"]
        assert row["prompt_phones"] == tuple(row["phones"])


def a_row(name, speaker, lengths, rate=16_000):
    """An utterance of one-phone words; `lengths` are of silences and phones in turn."""
    phones = [SILENCE, *["AA_S", SILENCE] * (len(lengths) // 2)]
    return dict(
        path=name,
        start=0,
        frames=sum(lengths) * rate // 100,
        rate=rate,
        speaker=speaker,
        text=None,
        split=None,
        phones=phones,
        lengths=lengths,
        words=["a"] * (len(lengths) // 2),
    )


def test_utterances_that_do_not_fit_are_left_out_with_their_reason(tmp_path):
    rows = [
        a_row("a.wav", "one", [100, 300, 100]),
        a_row("b.wav", "one", [100, 40, 10, 300, 50]),
        a_row("c.wav", "alone", [10, 480, 10]),
        a_row("d.wav", None, [10, 480, 10]),
        a_row("e.wav", "one", [10, 80, 10]),
        a_row("f.wav", "one", [500]),
        a_row("g.wav", "one", [5, 90, 390, 5, 10]),
    ]
    found, how = manifest.build(tmp_path / "m.parquet", rows), HOW | {"between": (4.0, 10.0), "seconds": 3.0}
    short, silent = "lasts 1.00 s, expected 4 to 10 s", "no words with phones"
    only, nobody, single = "the only utterance of speaker 'alone'", "no speaker", "a single word"
    wanted = {
        "cross": {"e": short, "f": silent, "c": only, "d": nobody},
        "continued": {"e": short, "f": silent, "a": single, "c": single, "d": single},
        "edited": {"e": short, "f": silent, "g": "no word in its centre half"},
    }
    for kind, reasons in wanted.items():
        made, rejects = tts_lists.make_list(found, kind, **how)
        assert {reject.path[-5]: reject.reason for reject in rejects} == reasons
        assert [row["path"][-5] for row in made] == sorted(set("abcdefg") - reasons.keys())
        assert all(row["text"] == " ".join(row["words"]) for row in made)


def test_a_prompt_at_another_rate_has_the_frames_of_its_phones(tmp_path, spec):
    from sfjax import audio

    rows = [a_row(f"{rate}.wav", "one", [11, 290, 2, 230, 7], rate) for rate in (8_000, 11_025, 22_050, 44_100, 48_000)]
    made, _ = tts_lists.make_list(
        manifest.build(tmp_path / "m.parquet", rows), "continued", **HOW | {"between": (4.0, 10.0), "seconds": 3.0}
    )
    assert len(made) == 5
    for row in made:
        wave = audio.resample(np.zeros(row["prompt_frames"], np.float32), row["rate"], spec.sample_rate)
        assert spec.num_frames(len(wave)) == sum(row["prompt_lengths"]) == 301


def test_the_kinds_are_those_of_the_command_line_and_the_tests_of_the_paper():
    tests = {column.test.partition("_")[0] for number in (3, 6) for column in TABLES[number].columns} - {MOS}
    assert tuple(PROTOCOLS) == tts_lists.KINDS and set(tts_lists.KINDS) == tests


@pytest.mark.parametrize(
    "wanted, kind, changes",
    [
        ("unknown protocol 'sung'; choose from cross", "sung", {}),
        ("expected lengths above 0 s, .* got 5 and 4", "cross", {"between": (5.0, 4.0)}),
        ("prompt of more than 0 s, got 0", "cross", {"seconds": 0.0}),
    ],
)
def test_invalid_protocols_are_rejected(found, wanted, kind, changes):
    with pytest.raises(UserError, match=wanted):
        tts_lists.make_list(found, kind, **HOW | changes)


# Synthesis


@pytest.fixture(scope="module")
def model(speaker):
    run, durations = speaker
    return inference.load(run, duration_model=durations)


def listing(folder, rows):
    return manifest.build(folder / "list.parquet", rows)


def say(model, rows, folder, **changes):
    how = dict(seed=0, force=False, progress=lambda done, total: None) | FEW | changes
    return tts_batch.synthesize(model, listing(folder, rows), folder, **how)


def read(path):
    return soundfile.read(path, dtype="int16")[0].astype(int)


def name(row):
    return row["path"].rpartition("/")[2].removesuffix(".flac")


@pytest.fixture(scope="module")
def short(rows):
    """The three shortest rows of each kind."""
    return {kind: sorted(some, key=lambda row: row["frames"])[:3] for kind, some in rows.items()}


def kept(row):
    """Return how many frames an edited row keeps before and after the generated words."""
    line = tts_lists.line(row)
    (first, end), groups = row["anew"], line.groups()
    return sum(line.lengths[: groups[first - 1][1]]), sum(line.lengths[groups[end][0] :])


@pytest.fixture(scope="module")
def said(model, short, tmp_path_factory):
    """Folders of three rows of each kind, synthesized."""
    folders = {}
    for kind in tts_lists.KINDS:
        folders[kind] = tmp_path_factory.mktemp(kind)
        assert say(model, short[kind], folders[kind]) == (3, 0, [])
    return folders


@pytest.mark.parametrize("kind", tts_lists.KINDS)
def test_every_row_has_generated_speech_its_prompt_and_the_resynthesised_prompt(said, short, content, kind):
    names = {name(row) for row in short[kind]}
    assert {str(path.relative_to(said[kind])) for path in content(said[kind])} == {
        f"{place}/{name}.flac" for place in tts_batch.FOLDERS for name in names
    } | {"made_by.txt"}
    for row in short[kind]:
        prompt, again = (read(said[kind] / place / f"{name(row)}.flac") for place in ("prompt", "vocoded"))
        own = read(row["prompt"])[row["prompt_start"] : row["prompt_start"] + row["prompt_frames"]]
        if kind == "edited":  # the voice that it had is what it keeps
            begin, behind = kept(row)
            own = np.concatenate([own[: 160 * begin], own[160 * (sum(row["lengths"]) - behind) :]])
        np.testing.assert_allclose(prompt, own, atol=1)  # by way of floats
        assert len(prompt) == len(again) and 0.3 < np.std(again) / np.std(prompt) < 2
        assert np.corrcoef(prompt, again)[0, 1] < 0.99


def test_speech_after_a_prompt_has_the_length_of_the_duration_model(model, said, short):
    for row in short["cross"]:
        prompt, line = tts_batch._prompt(model, row), tts_lists.line(row)
        whole = durations.joined(prompt.line, line._replace(lengths=(0,) * len(line.phones)))
        found = model.duration_model(whole, np.arange(len(whole.phones)) >= len(prompt.line.phones))
        lasting = found[len(prompt.line.phones) : -1].sum()  # less the silences at both ends, of 10 frames at most
        frames = len(read(said["cross"] / "full" / f"{name(row)}.flac")) / 160
        assert lasting - 25 <= frames <= lasting + 25 and frames == int(frames)  # parts overlap by 2, and are rounded


def test_continued_speech_begins_with_the_samples_of_the_recording(said, short):
    for row in short["continued"]:
        wave, own = read(said["continued"] / "full" / f"{name(row)}.flac"), read(row["path"])
        known = row["prompt_frames"]
        np.testing.assert_allclose(wave[:known], own[:known], atol=1)
        assert len(wave) > known + 160 and np.std(wave[known:]) > 1


def test_editing_changes_no_sample_outside_of_the_words_and_their_fade(said, short):
    for row in short["edited"]:
        wave, own, line = read(said["edited"] / "full" / f"{name(row)}.flac"), read(row["path"]), tts_lists.line(row)
        assert 0 < row["anew"][0] < row["anew"][1] < len(line.words)
        begin, behind = kept(row)
        head, tail = 160 * begin - 80, 160 * behind - 80 - (-len(own) % 160)
        np.testing.assert_array_equal(wave[:head], own[:head])
        np.testing.assert_array_equal(wave[-tail:], own[-tail:])
        shared = min(len(wave), len(own)) - tail
        assert (wave[head + 160 : shared] != own[head + 160 : shared]).mean() > 0.9


@pytest.mark.parametrize("kind", tts_lists.KINDS)
def test_generated_speech_is_placed_between_the_kept_parts_of_the_recording(said, short, kind):
    for row in short[kind]:
        whole, made = (read(said[kind] / place / f"{name(row)}.flac") for place in ("full", "generated"))
        before, behind = row["prompt_frames"] if kind == "continued" else 0, 0
        if kind == "edited":
            before, behind = (160 * frames for frames in kept(row))
            behind -= -len(read(row["path"])) % 160  # its last frame is not whole
        assert len(whole) == before + len(made) + behind
        inner = slice(80, len(made) - 80)  # within the cross-fades
        np.testing.assert_allclose(whole[before:][inner], made[inner], atol=1)


@pytest.mark.parametrize(
    "kind", ["cross", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("continued", "edited"))]
)
def test_a_row_synthesized_alone_equals_the_row_of_the_list(model, said, short, tmp_path, kind):
    row = short[kind][2]
    say(model, [row], tmp_path)
    for place in tts_batch.FOLDERS:
        alone, together = (read(folder / place / f"{name(row)}.flac") for folder in (tmp_path, said[kind]))
        # sums of other shapes round otherwise, which 32 turns of Griffin-Lim enlarge; other noise is another wave
        np.testing.assert_allclose(alone, together, atol=20)
    say(model, [row], tmp_path, seed=1, force=True)
    other, before = (read(folder / "full" / f"{name(row)}.flac") for folder in (tmp_path, said[kind]))
    assert np.abs(other - before).max() > 200


def test_a_second_run_synthesizes_only_missing_files(model, short, said, tmp_path, content):
    shutil.copytree(said["cross"], tmp_path / "copy")
    before = content(tmp_path / "copy")
    assert say(model, short["cross"], tmp_path / "copy") == (0, 3, [])
    lost, kept = (name(row) for row in short["cross"][:2])
    (tmp_path / f"copy/vocoded/{lost}.flac").unlink()
    (tmp_path / f"copy/full/{kept}.flac").write_bytes(b"what stays")
    heard = []
    again = say(model, short["cross"], tmp_path / "copy", progress=lambda *counts: heard.append(counts))
    assert again == (1, 2, []) and heard == [(1, 1)]
    after = content(tmp_path / "copy")
    assert after.keys() == before.keys() and after[tmp_path / f"copy/full/{kept}.flac"] == b"what stays"


def test_results_of_another_model_or_seed_are_not_mixed_with_new_ones(model, short, said, tmp_path, content):
    shutil.copytree(said["cross"], tmp_path / "copy")
    before = content(tmp_path / "copy")
    moved = lambda params: jax.tree.map(lambda x: x + 0.01, params)
    other = dataclasses.replace(model, params=moved(model.params))
    hasty = dataclasses.replace(
        model, duration_model=model.duration_model._replace(params=moved(model.duration_model.params))
    )
    for who, how in ((other, {}), (hasty, {}), (model, {"seed": 1}), (model, {"guidance": 0.5})):
        with pytest.raises(UserError, match="another model, .*use --force"):
            say(who, short["cross"], tmp_path / "copy", **how)
    assert content(tmp_path / "copy") == before
    assert say(other, short["cross"], tmp_path / "copy", force=True) == (3, 0, [])
    changed = [path.name for path, held in content(tmp_path / "copy").items() if held != before[path]]
    assert {f"{name(row)}.flac" for row in short["cross"]} | {"made_by.txt"} == set(changed)


def test_a_row_that_fails_is_reported_and_the_others_are_synthesized(model, short, tmp_path):
    silent = tmp_path / "silent.flac"
    soundfile.write(silent, np.zeros(16_000), 16_000)
    one, two = short["cross"][:2]
    made = say(model, [one | {"prompt": str(silent), "prompt_frames": 16_000}, two], tmp_path)
    assert made.synthesized == 1 and [reject.path for reject in made.failed] == [one["path"]]
    assert "the prompt is silent" in made.failed[0].reason
    assert [path.stem for path in (tmp_path / "full").iterdir()] == [name(two)]


@pytest.mark.parametrize(
    "wanted, change",
    [
        ("found no column 'prompt'", lambda row: [row.pop("prompt") and row]),
        ("unknown protocol 'sung'; choose from cross", lambda row: [row | {"protocol": "sung"}]),
        ("have the same name; put them into two lists", lambda row: [row, row]),
    ],
)
def test_invalid_lists_are_rejected(model, short, tmp_path, wanted, change):
    with pytest.raises(UserError, match=wanted):
        say(model, change(dict(short["cross"][0])), tmp_path)


def test_a_model_without_phones_or_durations_is_rejected(model, enhancer, short, tmp_path):
    with pytest.raises(UserError, match="without phones.*configs/speak.py"):
        say(inference.load(enhancer), short["cross"], tmp_path)
    with pytest.raises(UserError, match="needs a duration model; give .*--duration-model"):
        say(dataclasses.replace(model, duration_model=None), short["cross"], tmp_path)


# The command line


def test_commands_prepare_and_synthesize_a_list(call, spoken, speaker, tmp_path, found, monkeypatch):
    listed = tmp_path / "lists" / "continued.parquet"
    code, _, printed = call(
        "prepare", "protocol", spoken, listed, "--kind", "continued", "--seconds", 0.7, "--between", 1, 1.6
    )
    rows = manifest.read(listed, split=None)
    assert code == 0 and f"{len(rows)} recordings" in printed
    rejects = (tmp_path / "lists/continued.rejects.jsonl").read_text().splitlines()
    assert len(rejects) == len(found) - len(rows) and "expected 1 to 1.6 s" in rejects[0]
    assert rows.row(0) == rows.row(0) | {"split": rows.row(0)["split"], "protocol": "continued"}
    assert rows.row(0)["prompt"] == rows.row(0)["path"] and rows.row(0)["path"] in by_path(found)
    few = ["--model", speaker[0], "--duration-model", speaker[1], "--solver", "euler", "--steps", 1, "--guidance", 0]
    code, _, printed = call("speak-list", listed, "-o", tmp_path / "out", *few)
    assert code == 0 and f"{len(rows)} synthesized, 0 existed" in printed
    assert len(list((tmp_path / "out/full").iterdir())) == len(rows)
    scoring = [line.split() for line in printed.splitlines() if line.startswith("sfjax ") and "-o" in line]
    assert [words[-1].rpartition("/")[2] for words in scoring] == [
        "continued.json",
        "continued_sim_o.json",
        "continued_sim_r.json",
    ]
    from sfjax.cli import VERBS
    from sfjax.cli.verb import parser

    arguments = [parser(VERBS).parse_args(words[1:]) for words in scoring]
    assert arguments[0].text == listed and arguments[0].folder.is_dir()
    assert all(given.reference.is_dir() and given.estimate == tmp_path / "out/generated" for given in arguments[1:])


@pytest.mark.parametrize("kind", ["cross", "continued"])
def test_the_ground_truth_of_a_list_is_its_recordings(call, spoken, tmp_path, kind):
    listed, out = tmp_path / f"{kind}.parquet", tmp_path / "truth" / kind
    call("prepare", "protocol", spoken, listed, "--kind", kind, "--seconds", 0.7, "--between", 1, 2.9)
    code, _, printed = call("speak-list", listed, "-o", out, "--system", "truth")
    rows = manifest.read(listed, split=None)
    assert code == 0 and f"{len(rows)} written, 0 existed" in printed and "sim_r" not in printed
    for row in map(rows.row, range(len(rows))):
        full, generated, prompt = (read(out / folder / f"{name(row)}.flac") for folder in tts_batch.RECORDED)
        np.testing.assert_allclose(full, read(row["path"]), atol=1)
        behind = row["prompt_frames"] if kind == "continued" else 0
        assert 0 < behind < row["frames"] or kind == "cross"
        np.testing.assert_allclose(generated, read(row["path"])[behind:], atol=1)
        np.testing.assert_allclose(prompt, read(row["prompt"])[: row["prompt_frames"]], atol=1)
    _, _, printed = call("speak-list", listed, "-o", out, "--system", "truth")
    assert f"0 written, {len(rows)} existed" in printed
    (out / "made_by.txt").write_text("0" * 64)  # of a model
    code, complaints, _ = call("speak-list", listed, "-o", out, "--system", "truth")
    assert code == 2 and "use --force" in complaints[0]


def test_an_edited_list_has_no_ground_truth(short, tmp_path):
    with pytest.raises(UserError, match="got edited"):
        tts_batch.write_recordings(listing(tmp_path, short["edited"]), tmp_path / "out", rate=16_000, force=False)


@pytest.mark.parametrize(
    "wanted, line",
    [
        (
            "needs phones, found no column 'lengths'",
            "prepare protocol {c}/speech.parquet l.parquet --kind cross",
        ),
        ("unknown --kind 'sung'; choose from cross", "prepare protocol {s} l.parquet --kind sung"),
        ("the list is its own source", "prepare protocol {s} {s} --kind cross"),
        ("none of 12 utterances fits; .*expected 4 to 10 s", "prepare protocol {s} {d}/l.parquet --kind cross"),
        ("no rows for split 'test'; choose from", "prepare protocol {s} {d}/l.parquet --kind cross --split test"),
        ("found no column 'prompt'", "speak-list {s} -o {d}/out --model {m} --duration-model {t}"),
        (
            "expected a manifest, found no such file",
            "speak-list {d}/none.parquet -o {d}/out --model {m} --duration-model {t}",
        ),
        ("needs a duration model; give .*--duration-model", "speak-list {s} -o {d}/out --model {m}"),
        ("without phones", "speak-list {s} -o {d}/out --model {e} --duration-model {t}"),
    ],
)
def test_impossible_commands_are_rejected_in_one_line(
    refused, corpus, spoken, speaker, enhancer, tmp_path, wanted, line
):
    places = dict(c=corpus, s=spoken, m=speaker[0], t=speaker[1], e=enhancer, d=tmp_path)
    refused(wanted, *(word.format(**places) for word in line.split()))
