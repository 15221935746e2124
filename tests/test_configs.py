"""Every config builds at every size; each section has exactly the keyword arguments of the function that reads it."""

import dataclasses
import importlib
import inspect
import math
import re
from pathlib import Path

import pytest

import sfjax
from sfjax import audio, configs, flow, lora, model, objective, optim, precision, sharding, tasks, transformer
from sfjax.__main__ import main
from sfjax.config import read
from sfjax.configs import default, paper
from sfjax.data import degrade, examples, noise_mixer
from sfjax.errors import UserError
from sfjax.vocoder import discriminators, hifigan, networks, phase_net, spectral

NAMES = sorted(path.stem for path in Path(configs.__path__[0]).glob("*.py") if path.stem not in ("__init__", "paper"))
ROWS = [("paper", f"{row},{size}") for row in paper.ROWS for size in ("tiny", "large")]
EVERY = [(name, size) for name in NAMES for size in default.SIZES] + ROWS


def build(name, size):
    return importlib.import_module(f"sfjax.configs.{name}").get_config(size)


def keywords(function):
    parameters = inspect.signature(function).parameters.values()
    return {p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}


def given(function):
    """Keyword arguments without a default: what a config has to give."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name for p in parameters if p.kind == p.KEYWORD_ONLY and p.default is p.empty}


@pytest.mark.parametrize("name, size", EVERY)
def test_every_section_binds_to_its_consumer(name, size):
    config = build(name, size)
    assert config.precision in precision.POLICIES
    assert set(config.mel) == keywords(audio.MelSpec)
    sizes = transformer.TransformerConfig if name == "durations" else model.EstimatorConfig
    assert set(config.model) == {field.name for field in dataclasses.fields(sizes)}
    sections = [section for section in config.task.to_dict().values() if isinstance(section, dict)]
    for section in sections or [config.task]:
        section = {field: value for field, value in section.items() if field != "guidance"}
        assert set(section) == {"name"} | {field.name for field in dataclasses.fields(tasks.make(**section))}
    tasks.make(**config.task)
    assert set(config.mix) == keywords(noise_mixer.Mixer) and set(config.mixture) == keywords(examples.Talk) - {
        "speakers"
    }
    assert set(config.enrolment) == keywords(examples.Enrolled) - {"mixed", "unit"}
    assert set(config.degrade) == keywords(degrade.Chain) - {"mixer", "rate"}
    degrade.Chain(None, 16_000, **dict(config.degrade) | {"room": 0.0, "rooms": None})
    assert set(config.lora) == {field.name for field in dataclasses.fields(lora.Adapter)}
    assert set(config.phase) == keywords(phase_net.PhaseNet) - {"spec", "dtype", "parent", "name"}
    sizes = keywords(hifigan.Generator) - {"mels", "dtype", "parent", "name"}
    judges = keywords(discriminators.Discriminators) - {"channels", "dtype", "parent", "name"}
    assert set(config.vocoder) == sizes | judges | {
        *hifigan.Weights._fields,
        "discriminators",
        "frames",
        "begin",
        "network",
    }
    assert set(config.spectral) == keywords(spectral.SpectralNet) - {"spec", "dtype", "parent", "name"}
    networks.network(read(config))
    assert config.process in objective.PROCESSES
    assert set(config.optim) == given(optim.count_updates) | given(optim.schedule) | given(optim.optimizer)
    assert set(config.mesh) == given(sharding.mesh)
    assert set(config.sample) == given(flow.sample) | given(flow.solve)
    flow.check(**config.sample)
    settings = config.optim.to_dict()
    rate = optim.schedule(**{name: settings.pop(name) for name in given(optim.schedule)})
    optim.optimizer(rate, **{name: settings[name] for name in given(optim.optimizer)})
    assert config.model.layers % 2 == 0 and config.model.width % config.model.heads == 0


WRONG = {
    "mel": {"hop": (0, 700), "window": (2000,), "high": (9e3,), "std": (0.0, math.nan), "bands": ("80",)},
    "model": {
        "lookahead": (-2, 99, 0.5),
        "history": (0,),
        "width": (-64, 65, 64.5),
        "layers": (3, True),
        "heads": (0,),
        "remat": ("some",),
        "dropout": (1.0,),
    },
    "data": {"seconds": (math.inf,), "buckets": ((), (4.0, -1.0), 4.0)},
    "mix": {"snr": ((0.0,), (0.0, None))},
    "run": {"log": (0,), "keep": (-1,), "checkpoints": (5,)},
    "optim": {"peak": ("fast",)},
    "debug": {"nans": (1,)},
    "": {"ema": ("much",), "accumulate": (1.5,), "seed": (-1,)},
}


@pytest.mark.parametrize(
    "section, name, value",
    [
        (section, name, value)
        for section, fields in WRONG.items()
        for name, values in fields.items()
        for value in values
    ],
)
def test_a_value_of_a_wrong_type_or_size_is_refused_by_its_field(section, name, value):
    plain = build("enhance", "tiny").to_dict()
    (plain[section] if section else plain)[name] = value
    with pytest.raises(UserError, match=rf"{section}.*\b{name}\b"):
        read(plain)


@pytest.mark.parametrize("name, size", EVERY)
def test_a_typed_config_has_the_values_of_the_file(name, size):
    config = build(name, size)
    typed = read(config)
    making = ("data", "mix", "degrade", "mixture", "enrolment")
    for section in (*making, "optim", "mesh", "sample", "infer", "run", "debug", "model"):
        assert vars(getattr(typed, section)) == config[section].to_dict()
    assert vars(typed.mel) == config.mel.to_dict()


@pytest.mark.parametrize(
    "section, change, told",
    [
        ("optim", {"peek": 1.0}, "optim.peek"),
        ("optim", {"peak": None}, "no field peak"),
        ("run", None, "no section run"),
    ],
)
def test_a_config_with_missing_or_unknown_fields_is_refused(section, change, told):
    config = default.get_config("tiny").to_dict()
    if change is None:
        del config[section]
    else:
        values = config[section] | change
        config[section] = {field: value for field, value in values.items() if value is not None}
    with pytest.raises(UserError, match=told):
        read(config)


@pytest.mark.parametrize("section", ["data", "run", "infer"])
def test_every_field_that_a_program_reads_by_name_is_read_and_there(section):
    source = "".join(path.read_text() for path in Path(sfjax.__file__).parent.rglob("*.py"))
    read = set(re.findall(rf"config\.{section}\.(\w+)", source))
    if section == "data":  # readers and shapes get this section as `data`
        read |= set(re.findall(r"\bdata\.(\w+)", source)) & set(default.get_config("tiny")[section])
    if section == "infer":  # held by the model as `chunking`
        read = set(re.findall(r'(?:chunking\[|chunking\.pop\()"(\w+)"', source)) | {"overlap"}
    assert read == set(default.get_config("tiny")[section])


@pytest.mark.parametrize("size", ["huge", "", "Tiny"])
def test_an_unknown_size_is_refused(size):
    for name in NAMES:
        with pytest.raises(ValueError, match="unknown size .*tiny, box, small, base, large"):
            build(name, size)


@pytest.mark.parametrize("name", sorted({*NAMES} - {"default"}))
def test_the_command_in_a_docstring_parses(name, tmp_path, monkeypatch, capsys):
    text = importlib.import_module(f"sfjax.configs.{name}").__doc__
    commands = [line.split() for line in text.splitlines() if line.strip().startswith("sfjax ")]
    assert commands
    monkeypatch.chdir(tmp_path)  # where no manifest lies: the command gets as far as looking for it
    for words in commands:
        assert main(words[1:]) == 2
        assert re.search(r"speech.parquet: expected a manifest|runs/\w+: expected a run", capsys.readouterr().err)
    assert not list(tmp_path.iterdir())
