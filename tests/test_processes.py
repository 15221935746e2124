"""Several processes train what one process trains, end together, and write checkpoints that one process can read."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

import sfjax
from sfjax import audio, checkpoint, sharding, train, validation
from sfjax.config import read
from sfjax.errors import UserError

LOCAL = Path(sfjax.__file__).parents[1] / "launch/local.sh"
PROGRAM = """
import sys
import jax
jax.config.update("jax_num_cpu_devices", int(sys.argv[1]))
jax.config.update("jax_disable_most_optimizations", True)
from sfjax.__main__ import main
sys.exit(main(sys.argv[2:]))
"""


def cache():
    """Where this suite keeps compiled programs, as variables."""
    folder = str(jax.config.jax_compilation_cache_dir)
    return {"JAX_COMPILATION_CACHE_DIR": folder, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.5"}


def start(*words, devices):
    """A process for each list of words, all of one run, each on devices of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    together = lambda i: dict(zip(sharding.EXPLICIT, (address, str(len(words)), str(i)), strict=True))
    environment = os.environ | cache()
    return [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(devices), *map(str, each)],
            text=True,
            stderr=subprocess.PIPE,
            env=environment | (together(i) if len(words) > 1 else {}),
        )
        for i, each in enumerate(words)
    ]


def wait(folder, steps):
    """Returns when the record in a folder has some steps."""
    began = time.time()
    while not ((folder / "metrics.jsonl").exists() and len(losses(folder)) > steps):
        assert time.time() - began < 200
        time.sleep(0.1)


def finish(running, code=0):
    said = [process.communicate(timeout=300)[1] for process in running]
    assert [process.returncode for process in running] == [code] * len(running), said
    return said


def losses(folder):
    entries = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(entry["step"], entry[name]) for entry in entries for name in ("loss", "valid_loss") if name in entry]


@pytest.fixture(scope="module")
def config(toy_config):
    """A training over a mesh of four devices."""
    return toy_config(
        "pretrain",
        **{
            "data.multiple": 4,
            "optim.updates": 10,
            "mesh.fsdp": 2,
            "run.validate": 5,
            "run.save": 5,
            "run.pictures": 2,
            "run.workers": 1,
        },
    )


@pytest.fixture(scope="module")
def words(config, flags):
    """The words of this training, for a workdir."""
    return lambda workdir, *further: ("train", f"--workdir={workdir}", *flags(config, "pretrain"), *further)


@pytest.mark.slow
def test_two_processes_learn_what_one_does(config, words, tmp_path):
    finish(start(words(tmp_path / "one"), devices=4))
    finish(start(*[words(tmp_path / "two", "--config.run.stop=5")] * 2, devices=2))
    # the second half by the launch script, each process with two devices
    done = subprocess.run(
        [LOCAL, "2", sys.executable, "-m", "sfjax", *words(tmp_path / "two")],
        env=os.environ | cache() | {"JAX_NUM_CPU_DEVICES": "2"},
        text=True,
        stderr=subprocess.PIPE,
    )
    assert done.returncode == 0, done.stderr
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert [step for step, _ in one] == [step for step, _ in two] and len(one) == 12
    # sums over devices round differently, and Adam's first updates amplify that
    np.testing.assert_allclose([loss for _, loss in two], [loss for _, loss in one], rtol=1e-4)
    assert done.stderr.count("step 10/10") == 1  # one of them speaks
    assert len(list((tmp_path / "two" / "samples").iterdir())) == len(list((tmp_path / "one" / "samples").iterdir()))
    # what they saved together, one process with one device reads
    (mine, step), (other, _) = (checkpoint.params(tmp_path / name, ema=True)[::2] for name in ("two", "one"))
    assert step == 10
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), mine, other)
    # and draws the same samples from
    made = train.make_program(read(config))
    across = sharding.batch(sharding.mesh(data=1, fsdp=1, tensor=1))
    typed = read(config)
    options = dict(sample=dict(typed.sample), batches=typed.run.valid_batches, pictures=typed.run.pictures)
    (alone,) = validation.Validation(made.objective, train.readers(typed)[1], across, **options).judges
    drawn = jax.device_get(alone.sample(mine, alone.shown))["wave"]
    for i, samples in enumerate(alone.shown["lengths"]):
        theirs, _ = audio.read(tmp_path / f"two/samples/0000010_{i}.wav")
        mine = np.clip(drawn[i, :samples], -1, 1)
        np.testing.assert_allclose(mine, theirs, atol=2**-14)  # they are kept in 16 bits
        assert np.abs(theirs).max() > 100 * 2**-14


@pytest.mark.nightly
def test_all_processes_leave_after_the_same_step_and_go_on_together(words, tmp_path):
    more = "--config.optim.updates=100000"
    running = start(*[words(tmp_path, more)] * 2, devices=2)
    wait(tmp_path, 3)
    running[1].send_signal(signal.SIGTERM)  # one of them is told, all leave
    said = finish(running, code=75)
    assert all("ended by SIGTERM" in each for each in said)
    saved = losses(tmp_path)[-1][0]
    assert checkpoint.params(tmp_path, ema=True)[2] == saved
    finish(start(*[words(tmp_path, more, f"--config.run.stop={saved + 2}")] * 2, devices=2))
    assert [step for step, _ in losses(tmp_path)][-2:] == [saved + 1, saved + 2]


@pytest.mark.nightly
def test_a_dead_process_ends_the_others(words, tmp_path):
    running = start(*[words(tmp_path, "--config.optim.updates=100000")] * 2, devices=2)
    wait(tmp_path, 3)
    running[1].kill()
    killed = time.time()
    _, said = running[0].communicate(timeout=60)
    assert running[0].returncode not in (0, None) and time.time() - killed < 60
    assert said


@pytest.mark.slow
def test_processes_that_disagree_about_the_config_are_told(words, tmp_path):
    running = start(words(tmp_path), words(tmp_path, "--config.seed=1"), devices=2)
    said = finish(running, code=2)
    assert all("processes [1] of 2 have another config" in each for each in said)


def test_an_incomplete_environment_is_told():
    with pytest.raises(UserError, match="expected JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES, JAX_PROCESS_ID"):
        sharding.join_processes({"JAX_COORDINATOR_ADDRESS": "127.0.0.1:1"})
