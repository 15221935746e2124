"""Shape checks on every public border, quick compilation, and the audio that tests are made of."""

import atexit
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np
import pytest
from jaxtyping import install_import_hook

CACHE = "JAX_COMPILATION_CACHE_DIR"
LONGEST = (
    "readme",
    "notebooks",
    "web",
    "web_browser",
    "train",
    "stablehlo",
    "processes",
    "release",
    "tts_lists",
    "vocode",
)  # files start first

# Programs run for moments here, so quick compilation matters more than quick programs: each setting halves its time.
# Subprocesses inherit the second one.
jax.config.update("jax_disable_most_optimizations", True)
os.environ["XLA_FLAGS"] = f"--xla_cpu_use_fusion_emitters=false {os.environ.get('XLA_FLAGS', '')}".strip()

if CACHE not in os.environ:  # workers and subprocesses inherit the folder, so that a program is compiled once
    os.environ[CACHE] = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, os.environ[CACHE], ignore_errors=True)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
jax.config.update("jax_compilation_cache_dir", os.environ[CACHE])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)

install_import_hook("sfjax", "beartype.beartype")


def pytest_collection_modifyitems(items):
    """Start the longest files first."""

    def order(item):
        name = item.path.stem.removeprefix("test_")
        return LONGEST.index(name) if name in LONGEST else len(LONGEST)

    items.sort(key=order)


@pytest.fixture(scope="session")
def real_data() -> Path | None:
    """The folder of real speech and noise that SFJAX_DATA names, or None."""
    return Path(os.environ["SFJAX_DATA"]) if os.environ.get("SFJAX_DATA") else None


@pytest.fixture(scope="session")
def spec():
    """The project's one Mel specification."""
    from sfjax import audio
    from sfjax.configs import default

    return audio.MelSpec(**default.get_config("tiny").mel)


@pytest.fixture(scope="session")
def voice():
    """A function from seconds and seed to a voice-like wave at 16 kHz: gliding harmonics, syllables, breath."""

    def make(seconds: float, seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        time = np.arange(round(seconds * 16_000)) / 16_000
        pitch = 120 + 60 * rng.random() + 20 * np.sin(2 * np.pi * 0.7 * time + rng.random())
        phase = 2 * np.pi * np.cumsum(pitch) / 16_000
        tone = sum(np.sin(k * phase) * np.exp(-k / 8) for k in range(1, 30))
        syllables = np.clip(np.sin(2 * np.pi * 3.1 * time + rng.random()), 0, None) ** 0.5
        wav = syllables * tone + 0.05 * (1 - syllables) * rng.standard_normal(len(time))
        return (0.1 * wav / np.abs(wav).max()).astype(np.float32)

    return make


@pytest.fixture(scope="session")
def corpus(tmp_path_factory, voice):
    """A folder with twelve voice-like files of 1 to 3 s, four noises and manifests of both with two splits."""
    import soundfile

    from sfjax.data import manifest

    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    rows: dict[str, list] = {"speech": [], "noise": []}
    for i in range(16):
        kind = "speech" if i < 12 else "noise"
        wav = voice(1 + 2 * rng.random(), i) if kind == "speech" else 0.05 * rng.standard_normal(32_000)
        name = f"{kind}_{i}.flac"
        soundfile.write(folder / name, wav, 16_000)
        split = "valid" if i % 4 == 3 else "train"
        rows[kind].append(
            dict(
                path=name, start=0, frames=len(wav), rate=16_000, speaker=f"s{i % 6}", text=None, split=split, kind=kind
            )
        )
    for kind, found in rows.items():
        manifest.write(folder / f"{kind}.parquet", found)
    return folder


@pytest.fixture(scope="session")
def spoken(corpus):
    """A manifest of the corpus whose files have made-up words of every phone of English, all of known lengths."""
    from sfjax.data import manifest
    from sfjax.text import espeak, phones

    found = manifest.read(corpus / "speech.parquet", split=None)
    rng, order = np.random.default_rng(1), sorted(espeak.ARPABET)
    rows = []
    for number in range(len(found)):
        row = found.row(number)
        frames, words = -(-row["frames"] // 160), []
        for place in range(12):
            size = int(rng.integers(1, 5))
            words.append([order[(7 * number + 3 * place + i) % len(order)] for i in range(size)])
        tokens = phones.spell(words)
        share = np.array([rng.random() * (token != phones.SILENCE or rng.random() < 0.5) for token in tokens])
        edges = np.round(frames * np.cumsum(share) / share.sum()).astype(int)
        said = {"words": ["".join(word).lower() for word in words], "phones": list(tokens)}
        rows.append(row | said | {"lengths": np.diff(edges, prepend=0).tolist(), "text": " ".join(said["words"])})
    manifest.write(corpus / "spoken.parquet", rows)
    return corpus / "spoken.parquet"


@pytest.fixture(scope="session")
def speaker(toy_config, spoken, tmp_path_factory):
    """The folders of finished toy runs: a model that speaks, and one of durations."""
    from sfjax import train

    folder = tmp_path_factory.mktemp("speaker")
    data = {"data.train": str(spoken), "optim.updates": 2, "run.valid_batches": 0}
    train.run(toy_config("speak", **data), folder / "speak")
    train.run(toy_config("durations", **data), folder / "durations")
    return folder / "speak", folder / "durations"


@pytest.fixture(scope="session")
def toy_config(corpus):
    """A function from a config's name (or `paper:ROW`) and overrides to a run of seconds on the toy corpus."""
    import importlib

    def make(name: str, **overrides):
        name, colon, row = name.partition(":")
        config = importlib.import_module(f"sfjax.configs.{name}").get_config(f"{row},tiny" if colon else "tiny")
        config.update_from_flattened_dict(
            {
                "model.width": 32,
                "model.ffn": 64,
                "model.layers": 2,
                "model.unroll": 1,
                "model.attention_block": 0,
                "data.train": f"{corpus}/speech.parquet",
                "data.buckets": (2.0,),  # a step is compiled for each
                "data.seconds": 4.0,
                "mix.noise": f"{corpus}/noise.parquet",
                "optim.peak": 1e-3,
                "optim.warmup": 2,
                "optim.updates": 6,
                "ema": 0.9,
                "run.workers": 0,
                "run.log": 1,
                "run.validate": 4,
                "run.valid_batches": 1,
                "run.pictures": 0,
                "run.save": 100,
                "sample.steps": 2,
                "infer.seconds": 2.0,
                "infer.overlap": 0.5,
            }
            | overrides
        )
        return config

    return make


@pytest.fixture(scope="session")
def enhancer(toy_config, tmp_path_factory):
    """The folder of a finished toy run of enhancement."""
    from sfjax import train

    folder = tmp_path_factory.mktemp("enhancer")
    train.run(toy_config("enhance"), folder)
    return folder


@pytest.fixture
def call(capsys):
    """A function that runs the command line in this process: its exit code, its complaints and all that it said."""

    from sfjax.__main__ import main

    def run(*words):
        code = main([str(word) for word in words])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, [line for line in said.err.splitlines() if line.startswith("sfjax: ")], said.err + said.out

    return run


@pytest.fixture
def refused(call):
    """A function that runs the command line, which is to end with code 2 and one line that holds `expected`."""

    def run(expected, *words):
        code, complaints, said = call(*words)
        assert code == 2 and len(complaints) == 1, said
        assert re.search(expected, complaints[0]), complaints[0]

    return run


@pytest.fixture(scope="session")
def shell():
    """A function that starts the command line as a process of its own, in a group of its own, as a terminal does."""
    environment = os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}

    def start(*words, limit=None):
        program = (  # a shell that starts the suite in the background makes its children deaf to Ctrl-C
            "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
            "from sfjax.__main__ import main; sys.exit(main(sys.argv[1:]))"
        )
        if limit is not None:
            program = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit})); {program}"
        return subprocess.Popen(
            [sys.executable, "-c", program, *map(str, words)],
            env=environment,
            text=True,
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    return start


@pytest.fixture(scope="session")
def flags():
    """A function from a config and its name to the words that make config `name` of size tiny into it."""
    import importlib

    def fields(tree, path):
        for key, value in tree.items():
            yield from fields(value, f"{path}.{key}") if isinstance(value, dict) else [f"{path}.{key}={value}"]

    def make(config, name):
        plain = importlib.import_module(f"sfjax.configs.{name}").get_config("tiny")
        there = set(fields(plain.to_dict(), "--config"))
        changed = [word for word in fields(config.to_dict(), "--config") if word not in there]
        return [f"--config=configs/{name}.py:tiny", *changed]

    return make


@pytest.fixture(scope="session")
def content():
    """A function from a folder to its files and what is in them."""
    return lambda folder: {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
