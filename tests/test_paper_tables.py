"""The rows and tables of the paper agree with each other, and tables show your scores before the paper's figures."""

import json
import re

import jax
import numpy as np
import pytest
from matplotlib.figure import Figure

from sfjax import sharding, train
from sfjax.config import read
from sfjax.configs import paper as recipes
from sfjax.data import inventory, loader
from sfjax.evaluation import paper_figures, paper_tables

DOC = [line.split(maxsplit=4) for line in recipes.__doc__.splitlines() if re.match(r"    \w\S*  ", line)]
LINES = [(number, line) for number, table in paper_tables.TABLES.items() for line in table.lines]
SHOWN = {"pesq_wb": "PESQ", "si_sdri": "SI-SDRi", "wer": "WER", "sim": "SIM-o"}


def rows(line):
    return {line.row} if isinstance(line.row, str) else set(line.row.values())


def test_every_line_of_a_table_is_of_a_row_or_of_no_model():
    of_tables = set().union(*(rows(line) for _, line in LINES))
    assert of_tables - set(recipes.ROWS) - {"noisy", "bound", "clean", "truth", paper_tables.PRIOR} == {
        "phase_separate_3",
        "phase_separate_3_noise",
    }
    assert {name for name in recipes.ROWS if not name.startswith(("pretrain", "several_"))} <= of_tables


def test_every_line_has_a_figure_for_every_column():
    for number, line in LINES:
        assert len(line.figures) == len(paper_tables.TABLES[number].columns)


def test_the_docstring_lists_every_row_with_its_devices_updates_and_hours():
    assert [line[0] for line in DOC] == list(recipes.ROWS)
    for name, devices, updates, hours, *_ in DOC:
        row = recipes.ROWS[name]
        assert int(devices) == row.devices
        assert int(updates.replace(",", "")) == recipes.get_config(name).optim.updates
        assert int(hours) == round(row.hours())


@pytest.mark.parametrize("name, figures", [(line[0], (line[4:] or [""])[0]) for line in DOC])
def test_the_docstring_has_the_figures_of_the_tables(name, figures):
    wanted = {}
    for number, line in LINES:
        if line.label == "Single-task":
            continue
        for column, figure in zip(paper_tables.TABLES[number].columns, line.figures, strict=True):
            row = line.row if isinstance(line.row, str) else line.row[column.test]
            assert row or line.source  # prior work
            main = column.score in SHOWN and not re.match("continued|edited|cross_sim_r", column.test)
            if row == name and main and figure is not None:
                wanted.setdefault(SHOWN[column.score], {})[column.test] = figure
    found = dict(part.split(" ", 1) for part in figures.split(", ")) if figures else {}
    assert {name: [float(one) for one in said.split(" and ")] for name, said in found.items()} == {
        name: list(by_test.values()) for name, by_test in wanted.items()
    }


def test_a_row_differs_from_its_config_by_what_the_paper_says():
    one = recipes.get_config("speak_8_lora")
    assert (one.lora.rank, one.optim.peak, one.data.seconds, one.init_from) == (64, 1e-3, 600.0, "runs/pretrain")
    assert recipes.get_config("enhance_scratch").init_from == "" and recipes.get_config("enhance").optim.peak == 2e-5
    assert recipes.get_config("pretrain_60_90").task.fraction == (0.6, 0.9)
    assert recipes.get_config("pretrain_cond_20").task.drop == pytest.approx(0.8)
    assert recipes.get_config("several_rate_1e-4").init_from == "runs/pretrain_rate_1e-4"
    assert recipes.get_config("separate_3_noise").task.speakers == 3


def test_epochs_of_the_full_corpora_take_the_updates_of_the_table():
    """Train-clean-360 has 104,014 utterances; 100 hours of DNS are 12,000 clips of 30 s."""
    clips = {"separate": (85, 104_014, 12.0), "enhance_dns": (75, 12_000, 30.0)}
    for name in recipes.ROWS:
        config = recipes.get_config(name)
        for prefix, (epochs, utterances, seconds) in clips.items():
            if name.startswith(prefix):
                data = config.data
                lengths = (np.full(utterances, seconds * config.task.get("speakers", 1)),)
                plan = loader.Plan(lengths, (1.0,), data.buckets, data.seconds, data.multiple, seed=0)
                assert config.optim.epochs == epochs
                assert config.optim.updates == pytest.approx(epochs * sum(plan.counts), rel=1e-3)
    assert recipes.get_config("enhance").optim.epochs == recipes.get_config("enhance_scratch").optim.epochs == 160


def test_the_rules_export_the_checkpoints_that_rows_start_from():
    exported = [need for need in recipes.needs() if re.search(r"/\d+k$", need)]
    assert len(exported) == len(recipes.RATES) * len(recipes.STEPS) == 16
    assert "several_rate_5e-5_150k:runs/pretrain_rate_5e-5/150k" in exported


def test_runs_of_rows_are_those_that_others_start_from():
    for name in recipes.ROWS:
        base = recipes.get_config(name).init_from
        run, _, step = base.removeprefix("runs/").partition("/")
        assert not run or run in recipes.ROWS
        if step:  # an exported checkpoint that the run keeps
            updates = 1000 * int(step.removesuffix("k"))
            pretraining = recipes.get_config(run)
            assert updates % pretraining.run.keep_every == 0 and updates < pretraining.optim.updates


def test_what_was_reached_stands_before_what_the_paper_has(tmp_path, call):
    def report(row, test, **mean):
        (tmp_path / row).mkdir(exist_ok=True)
        (tmp_path / row / f"{test}.json").write_text(json.dumps({"mean": mean}))

    report("enhance", "voicebank", pesq_wb=3.1234, estoi=0.861)
    report("speak_32_lora", "cross", errors=0.5, words=20.0)
    report("speak_32_lora", "cross_sim_o", sim=0.69)
    code, _, out = call("evaluate", "--table", "1", "--runs", tmp_path)
    line = next(line for line in out.splitlines() if line.startswith("SpeechFlow  "))
    assert code == 0 and line.split("  ")[0] == "SpeechFlow" and "3.12 | 3.13" in line and "0.86 | 0.87" in line
    assert line.count("– |") == 6
    _, _, out = call("evaluate", "--table", "8", "--runs", tmp_path)
    line = next(line for line in out.splitlines() if line.startswith("LoRA, 32"))
    assert "2.50 | 2.10" in line and "0.690 | 0.700" in line
    labels = [line.split("  ")[0] for line in out.splitlines()[3:]]
    assert labels == [line.label for line in paper_tables.TABLES[8].lines]


def test_prior_work_has_only_figures_of_the_paper_and_names_its_source(tmp_path, call):
    _, _, out = call("evaluate", "--table", "2", "--runs", tmp_path)
    lines = out.splitlines()
    (line,) = (line for line in lines if line.startswith("Conv-TasNet, prior work"))
    assert re.findall(r"\S+ \| \S+", line) == [
        f"– | {figure}" for figure in ("15.24", "0.22", "12.55", "0.22", "12.30", "0.26", "10.28", "0.21")
    ]
    assert "Conv-TasNet: Luo & Mesgarani 2019, reproduced by Cosentino et al. 2020" in lines
    assert not any("prior work" in line or "SpeechFlow:" in line for line in lines if line.startswith("SpeechFlow"))
    assert not [need for need in paper_tables.reports() if ":/" in need]  # nothing to make for it


def test_opinions_of_a_listening_test_stand_beside_other_scores(tmp_path, call):
    opinions = {"mean": {"truth": 4.01, "speak_32_lora": 3.5}, "interval": {"truth": [3.91, 4.11]}}
    (tmp_path / "mos.json").write_text(json.dumps(opinions))
    _, _, out = call("evaluate", "--table", "11", "--runs", tmp_path)
    assert "4.01 ± 0.10 | 3.80 ± 0.09" in out and "3.50 | 3.43 ± 0.09" in out
    _, _, out = call("evaluate", "--table", "3", "--runs", tmp_path)
    assert "4.01 ± 0.10 | 3.80" in out and "3.50 | 3.43" in out


def test_figure_3_shows_every_row_of_several_tasks_and_the_line_of_scratch(tmp_path, call, monkeypatch):
    drawn = {report.partition("/")[0] for report in paper_figures.reports()}
    assert drawn == {name for name in recipes.ROWS if name.startswith("several_")}
    assert {f"rate_{rate}" for rate in ("1e-5", "2e-5", "5e-5", "1e-4")} == recipes.RATES.keys()
    for report in paper_figures.reports():
        row, _, name = report.partition("/")
        steps = re.search(r"_(\d+)k$", row)
        level = int(steps[1]) / 1000 if steps else 0.75
        path = tmp_path / row / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"mean": {"sim": level, "pesq_wb": 0.2 if row == "several_scratch" else 2.5}}))
    (tmp_path / "several_cond_20/wsj0chime3.json").unlink()
    axes, save = [], Figure.savefig

    def keep_axes(figure, *arguments, **options):
        axes.extend(figure.axes)
        save(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", keep_axes)
    total = len(paper_figures.reports())
    assert paper_figures.draw(3, tmp_path, tmp_path / "memory.png") == total - 1
    by_updates, _, _, by_share = axes
    assert [list(line.get_ydata()) for line in by_updates.lines[:4]] == [[0.15, 0.3, 0.45, 0.6, 0.75]] * 4
    assert list(by_updates.lines[0].get_xdata()) == [150, 300, 450, 600, 750]
    assert [line.get_linestyle() for line in by_share.lines] == ["-", "--"]
    assert list(by_share.lines[0].get_xdata()) == [0, 40, 60, 80, 90, 100]
    assert set(by_share.lines[1].get_ydata()) == {0.2}
    code, _, printed = call("evaluate", "--figure", "3", "--runs", tmp_path, "-o", tmp_path / "figure3.png")
    assert code == 0 and f"{total - 1} of {total} scores" in printed
    assert (tmp_path / "figure3.png").read_bytes()[:4] == b"\x89PNG"


def test_tables_and_reports_that_are_none_are_refused(tmp_path, refused):
    refused("unknown table 5; choose from 1, 2, 3, 4, 6, 7, 8, 9, 10, 11", "evaluate", "--table", "5")
    (tmp_path / "noisy").mkdir()
    (tmp_path / "noisy/voicebank.json").write_text("[]")
    refused("voicebank.json: expected a report as JSON", "evaluate", "--table", "1", "--runs", tmp_path)
    refused("expected --manifest FILE.parquet or --table N or --figure N", "evaluate", "--model", "x")
    figure = ("evaluate", "--runs", tmp_path, "--figure")
    refused("unknown figure 2; choose from 3", *figure, "2", "-o", tmp_path / "x.png")
    refused("expected -o FILE.png", *figure, "3")
    refused("x.jpg: expected a name that ends in .png", *figure, "3", "-o", tmp_path / "x.jpg")
    refused("no report of Figure 3, for example several_rate_1e-5_150k/", *figure, "3", "-o", tmp_path / "x.png")
    refused(
        "unknown row 'enhanced'; choose from pretrain", "train", "--config=configs/paper.py:enhanced", "--workdir=x"
    )


def test_the_commands_of_the_docstring_are_understood(tmp_path, monkeypatch, call):
    monkeypatch.chdir(tmp_path)  # where no manifest and no run lies: the commands get as far as looking for them
    commands = [line.split()[1:] for line in recipes.__doc__.splitlines() if line.startswith("    sfjax ")]
    assert len(commands) == 5
    for words in commands:
        code, complaints, _ = call(*words)
        looked = re.search(r"\w+.parquet: expected a manifest|runs/[a-z]+: expected a run", "".join(complaints))
        assert (code == 2 and looked) or (code == 0 and "--table" in words) or "no report" in "".join(complaints)


@pytest.fixture(scope="module")
def pretrained(toy_config, tmp_path_factory):
    """The folder of a toy run that others start from."""
    folder = tmp_path_factory.mktemp("pretrained")
    train.run(toy_config("pretrain", **{"run.stop": 1}), folder)
    return folder


def program(name):
    """What of a row decides what is compiled: rates, updates, GPUs and where it starts do not."""
    config = recipes.get_config(f"{name},tiny").to_dict()
    noise = bool(config["mixture"].pop("noise"))
    return repr([noise, *((key, config[key]) for key in config if key not in ("optim", "data", "run", "init_from"))])


REAL = (
    "enhance",
    "separate_2_noise",
    "speak_lora",
    "phase_separate_2",
)  # their step is run; the shapes of all are checked
PROGRAMS = {program(name): name for name in reversed(recipes.ROWS)}  # the first row of each


def test_rows_of_one_program_differ_in_rates_updates_gpus_or_where_they_start():
    assert len(PROGRAMS) == 22
    assert program("speak") == program("speak_32_scratch") == program("speak_60_90") != program("speak_lora")


@pytest.fixture
def toy_row(toy_config, pretrained, corpus, spoken):
    """A function from a row's name to its config on the toy corpus."""

    def make(name):
        row = recipes.get_config(f"{name},tiny")
        train_data = re.sub(r"data/phones\w*\.parquet", str(spoken), row.data.train)
        train_data = re.sub(r"data/[\w/]+\.parquet", f"{corpus}/speech.parquet", train_data)
        changes = {"data.train": train_data, "data.valid": "", "run.valid_batches": 0}
        changes |= {"optim.epochs": 0.0, "optim.updates": 1}
        changes |= {"init_from": str(pretrained)} if row.init_from else {}
        changes |= {"mixture.noise": f"{corpus}/noise.parquet"} if row.mixture.noise else {}
        changes |= {"task.mels": "clean"} if row.task.name == "phase" else {}  # there are no predicted ones
        if "speakers" in row.task:
            changes |= {"data.buckets": (0.5 * row.task.speakers,)}
        return toy_config(f"paper:{name}", **changes)

    return make


@pytest.mark.parametrize("name", sorted(PROGRAMS.values()))
def test_a_step_of_every_program_keeps_the_shapes_of_its_state(name, toy_row):
    config = read(inventory.with_phones(toy_row(name)))
    program = train.make_program(config)
    mesh = sharding.mesh(jax.devices()[:1], data=1, fsdp=1, tensor=1)
    state, step = train.on_mesh(program, mesh)
    after, metrics = jax.eval_shape(
        step, state, train.batch_shapes(config.task, config.mel, config.data, mesh, pieces=config.accumulate)
    )
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(lambda x: (x.shape, x.dtype), state)
    assert metrics["loss"].shape == ()


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_a_row_takes_a_step(name, toy_row, tmp_path):
    train.run(toy_row(name), tmp_path)
    (line,) = (json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert line["step"] == 1 and np.isfinite(line["loss"])
