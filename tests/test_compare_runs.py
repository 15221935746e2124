"""`sfjax report` compares finished runs by the fields that differ, and every line of a sweep is a valid config."""

import json
import shlex
import shutil
from pathlib import Path

import pytest
from PIL import Image

from sfjax import __main__ as cli
from sfjax import train
from sfjax.cli.config_file import load_config
from sfjax.config import read
from sfjax.errors import UserError
from sfjax.evaluation import compare_runs

SWEEPS = sorted((Path(cli.__file__).parents[1] / "configs/sweeps").glob("*.txt"))


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_every_line_of_a_sweep_is_a_config(path):
    names = set()
    for line in path.read_text().splitlines():
        if line and not line.startswith("#"):
            name, *words = shlex.split(line.replace("(", "\\(").replace(")", "\\)"))
            kind = "enhance" if path.stem == "start" else "pretrain"
            train.make_program(read(load_config(f"configs/{kind}.py:tiny", words)))
            names.add(name)
    assert len(names) > 2


@pytest.mark.parametrize(
    "name, content",
    [
        ("config.json", "[]"),
        ("config.json", '{"data": {"seconds": "long"}, "process": "flow", "task": {"name": "enhance"}}'),
        ("config.json", '{"data": {"seconds": 4}, "process": "flow"}'),
        ("metrics.jsonl", '{"loss": 1}\n'),
        ("metrics.jsonl", '{"step": 1, "loss": {}}\n'),
        ("metrics.jsonl", '{"step": Infinity, "loss": 1}\n'),
        ("metrics.jsonl", "5\n"),
        ("scores.json", "{"),
        ("scores.json", '{"mean": 5}'),
        ("scores.json", '{"mean": {"pesq_wb": "high"}}'),
    ],
)
def test_a_run_with_a_damaged_file_is_refused_by_its_name(tmp_path, name, content):
    config = {"data": {"seconds": 4}, "process": "flow", "task": {"name": "enhance"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2}\n')
    (tmp_path / "notes.json").write_text("[1]")  # no report, and no error
    assert compare_runs.runs([tmp_path])[0].curves["loss"][1].tolist() == [2]
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=f"{name}: .*damaged.*leave its run out"):
        compare_runs.runs([tmp_path])


@pytest.mark.slow
def test_runs_stand_side_by_side_by_what_differs(toy_config, call, refused, tmp_path):
    train.run(toy_config("pretrain", **{"optim.peak": 1e-4}), tmp_path / "low")
    shutil.copytree(tmp_path / "low", tmp_path / "high")
    config = json.loads((tmp_path / "high/config.json").read_text())
    config["optim"]["peak"] = 1e-3
    (tmp_path / "high/config.json").write_text(json.dumps(config))
    (tmp_path / "low/valid.json").write_text(json.dumps({"mean": {"pesq_wb": 1.5}}))
    (tmp_path / "high/metrics.jsonl").write_text((tmp_path / "high/metrics.jsonl").read_text() + '{"step": 7, "lo')
    code, _, said = call("report", tmp_path, "-o", tmp_path / "a.csv", tmp_path / "a.png", tmp_path / "a.json")
    assert code == 0
    rows = json.loads((tmp_path / "a.json").read_text())
    assert [row["optim.peak"] for row in rows] == [1e-3, 1e-4] and {row["step"] for row in rows} == {6}
    assert set(rows[1]) == {"run", "optim.peak", "step", "valid_loss", "valid_loss_ema", "valid pesq_wb"}
    assert "valid pesq_wb" in said and (tmp_path / "a.csv").read_text().count("\n") == 3
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    config["process"] = "diffusion"
    (tmp_path / "high/config.json").write_text(json.dumps(config))
    assert call("report", tmp_path, "-o", tmp_path / "b.png")[0] == 0
    one, two = (Image.open(tmp_path / name).size for name in ("a.png", "b.png"))
    assert two == (one[0], 2 * one[1])  # losses of two processes do not compare: panels of their own
    refused("expected folders of runs, found none", "report", tmp_path / "nowhere")
    refused("expected .* .csv, .json or .png, got .txt", "report", tmp_path, "-o", tmp_path / "a.txt")
    (tmp_path / "low/config.json").write_text("{")
    with pytest.raises(UserError, match="low/config.json: .*damaged"):
        compare_runs.runs([tmp_path / "low"])
