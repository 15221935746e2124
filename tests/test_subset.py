"""A random subset lasts its hours, depends on the seed only, and keeps rows, order and other splits."""

import dataclasses
import json

import numpy as np
import pytest
from sounds import noise, put, rows

from sfjax.data import manifest, subset
from sfjax.errors import UserError

FILES = {"path": "p", "noisy": "n", "noise": "e", "estimate": "m", "prompt": "q"}  # columns of files, and their folders


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A manifest of 300 rows of train, valid and of no split, which last 1 to 20 s and name no file that is there."""
    rng, made = np.random.default_rng(0), []
    for number in range(300):
        files = {column: f"audio/{name}{number // 2}.wav" for column, name in FILES.items()}
        said = {"phones": ["AH", "B"], "lengths": [number, 2], "words": ["a"], "anew": None, "mine": {"number": number}}
        more = {"sources": [f"audio/s{number}.wav", "/far/t.wav"], "gains": [1.0, 0.5], "text": f"line {number}"}
        place = {"start": number % 2 * 320_000, "frames": int(rng.integers(16_000, 320_000)), "rate": 16_000}
        split = ("train", "train", "valid", None, "test")[int(rng.integers(5))]
        made.append(files | said | more | place | {"split": split, "speaker": f"s{number % 7}"})
    path = tmp_path_factory.mktemp("subset") / "all.parquet"
    manifest.write(path, made)
    return path


def draw(source, dest=None, **changes):
    """What is drawn of the source, and its rows."""
    drawn = subset.draw(
        source, dest or source.with_name("some.parquet"), **dict(hours=0.2, split="train", seed=0) | changes
    )
    return drawn, list(map(drawn.rows.row, range(len(drawn.rows))))


def is_drawn(row):
    return row["split"] in ("train", None)


@pytest.mark.parametrize("hours", [1e-6, 0.1, 0.3])
def test_a_subset_lasts_its_hours_and_at_most_one_utterance_more(source, hours):
    drawn, made = draw(source, hours=hours)
    lengths = [row["frames"] / row["rate"] / 3600 for row in made if is_drawn(row)]
    assert drawn.drawn == pytest.approx(sum(lengths))
    assert hours <= drawn.drawn < hours + max(lengths)
    there = [row["frames"] / row["rate"] / 3600 for row in rows(source) if is_drawn(row)]
    assert drawn.available == pytest.approx(sum(there))


def test_all_hours_give_all_rows_and_more_hours_are_rejected(source):
    drawn, _ = draw(source)
    assert draw(source, hours=drawn.available)[1] == rows(source)
    with pytest.raises(UserError, match=r"all.parquet: expected 1 hours of split 'train', got 0\.\d+; ask for fewer"):
        draw(source, hours=1.0)


def test_rounding_errors_of_the_sum_do_not_reject_all_hours(tmp_path):
    made = [{"path": f"{i}.wav", "start": 0, "frames": 1600, "rate": 16_000} for i in range(10)]
    assert np.cumsum([0.1] * 10)[-1] < 1
    manifest.write(tmp_path / "all.parquet", made)
    assert len(draw(tmp_path / "all.parquet", hours=1 / 3600)[1]) == 10


def test_rows_keep_their_order_and_every_column_and_other_splits_stay_whole(source):
    made, there = draw(source)[1], rows(source)
    chosen = [row["text"] for row in made]
    assert made == [row for row in there if row["text"] in chosen]
    assert [row for row in made if not is_drawn(row)] == [row for row in there if not is_drawn(row)]
    kinds = {row["split"] for row in made}
    assert kinds == {"train", "valid", "test", None} and len(made) < len(there)


def test_the_draw_depends_on_the_seed_and_not_on_the_order_of_the_rows(source, tmp_path):
    found = manifest.read(source, split=None)
    order = np.random.default_rng(1).permutation(len(found))
    manifest.write(source.with_name("mixed.parquet"), dataclasses.replace(found, table=found.table.take(order)))
    texts = lambda path, seed: {row["text"] for row in draw(path, seed=seed)[1]}
    assert texts(source, 0) == texts(source.with_name("mixed.parquet"), 0) == texts(source, 0)
    assert texts(source, 0) != texts(source, 1)


def test_all_utterances_are_equally_likely(source):
    chosen = [[row["text"] for row in draw(source, hours=0.24, seed=seed)[1] if is_drawn(row)] for seed in range(100)]
    names, counts = np.unique(np.concatenate(chosen), return_counts=True)
    share = np.mean([len(one) for one in chosen]) / sum(map(is_drawn, rows(source)))
    # each count is binomial: of some 180 none is farther than 5 standard deviations from its mean
    assert len(names) == sum(map(is_drawn, rows(source)))
    assert np.abs(counts - 100 * share).max() < 5 * np.sqrt(100 * share * (1 - share))


def test_another_split_can_be_drawn_from(source):
    made = draw(source, hours=0.05, split="test")[1]
    drawn = [row for row in made if row["split"] in ("test", None)]
    assert 0 < len(drawn) < 30
    assert [row for row in made if row not in drawn] == [
        row for row in rows(source) if row["split"] in ("train", "valid")
    ]


@pytest.mark.parametrize("place", ["some.parquet", "deep/some.parquet", "../elsewhere/some.parquet"])
def test_rows_find_their_files_from_any_folder(source, place):
    dest = source.parent / place
    drawn, made = draw(source, dest)
    manifest.write(dest, drawn.rows)
    assert rows(dest) == made == draw(source)[1]
    relative = [not path.startswith("/") for path in drawn.rows.table.column("path").to_pylist()]
    assert all(relative) if place == "some.parquet" else not any(relative)


def test_a_subset_is_prepared_by_a_command(call, tmp_path):
    made = []
    for number in range(12):
        put(tmp_path / f"{number}.wav", noise(16_000, number))
        split = "valid" if number < 2 else "train"
        made.append({"path": f"{number}.wav", "start": 0, "frames": 16_000, "rate": 16_000, "split": split})
    manifest.write(tmp_path / "all.parquet", made)
    dest = tmp_path / "lists" / "few.parquet"
    code, _, printed = call("prepare", "subset", tmp_path / "all.parquet", dest, "--hours", 3.5 / 3600)
    assert code == 0 and "few.parquet: 6 recordings, 0.00 h" in printed and "h of split train" in printed
    found = rows(dest)
    assert [row["split"] for row in found] == ["valid"] * 2 + ["train"] * 4
    assert all(tmp_path.joinpath(row["path"]).is_file() for row in found)
    stats = json.loads(dest.with_name("few.stats.json").read_text())
    assert stats["hours_by_split"] == pytest.approx({"train": 4 / 3600, "valid": 2 / 3600})
    assert stats["log_mel"]["files"] == 6


@pytest.mark.parametrize(
    "wanted, line",
    [
        ("more than 0 hours, got 0;", "{s} {d}/l.parquet --hours 0"),
        ("more than 0 hours, got nan", "{s} {d}/l.parquet --hours nan"),
        ("expected inf hours of split 'train', got 0", "{s} {d}/l.parquet --hours inf"),
        ("all.parquet: the subset would overwrite its own source", "{s} {s} --hours 0.1"),
        ("no rows for split 'dev'; choose from", "{v} {d}/l.parquet --hours 0.1 --split dev"),
        ("a name that ends in .parquet, got .txt", "{s} {d}/l.txt --hours 0.1"),
        ("expected a manifest, found no such file", "{d}/none.parquet {d}/l.parquet --hours 0.1"),
        ("the following arguments are required: --hours", "{s} {d}/l.parquet"),
    ],
)
def test_impossible_draws_are_rejected_in_one_line(refused, source, corpus, tmp_path, wanted, line):
    places = dict(s=source, v=corpus / "speech.parquet", d=tmp_path)
    refused(wanted, "prepare", "subset", *(word.format(**places) for word in line.split()))
    assert not list(tmp_path.iterdir())
