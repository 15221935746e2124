"""The launch scripts start the right commands, queue preempted jobs again and report missing arguments and tools."""

import configparser
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import sfjax
from sfjax.cli import CONFIGURED, VERBS
from sfjax.cli.config_file import load_config
from sfjax.cli.verb import parser
from sfjax.configs import paper as recipes
from sfjax.evaluation import paper_tables

SCRIPTS = sorted((Path(sfjax.__file__).parents[1] / "launch").glob("*.sh"))
LAUNCH = SCRIPTS[0].parent
TRAINERS = ("slurm_v100.sh", "slurm_h100.sh")
UNTESTED_EXTRAS = ("docs", "gcs", "hubert")  # .ci/run does not install them


@pytest.fixture
def cluster(tmp_path):
    """A function that runs a script where `srun`, `scontrol`, `gcloud` and `sfjax` are fakes that note their words."""
    tools = tmp_path / "tools"
    tools.mkdir()
    notes = tmp_path / "notes"

    def fake(name, then):
        (tools / name).write_text(f'#!/bin/bash\necho "{name} $*" >> {notes}\n{then}\n')
        (tools / name).chmod(0o755)

    fake("srun", 'while [[ "$1" == -* ]]; do shift; done; exec "$@"')
    fake("scontrol", "exit 0")
    fake("gcloud", "exit 0")
    fake("sfjax", "exit ${SFJAX_CODE:-0}")

    def run(script, *words, without=(), **variables):
        for name in without:
            (tools / name).unlink()
        notes.write_text("")
        environment = {"PATH": f"{tools}:/usr/bin:/bin", "HOME": str(tmp_path)} | variables
        done = subprocess.run(
            [LAUNCH / script, *words], cwd=LAUNCH.parent, env=environment, capture_output=True, text=True
        )
        return done.returncode, done.stderr.strip(), notes.read_text().splitlines()

    return run


def test_every_script_is_clean_and_begins_with_the_command_that_starts_it():
    assert len(SCRIPTS) == 9
    shellcheck = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    done = subprocess.run([shellcheck, *SCRIPTS, LAUNCH.parent / ".ci/run"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    for script in SCRIPTS:
        head = script.read_text().split("\nset ")[0]
        assert re.search(rf"^#   \S*.*launch/{script.name}", head, re.MULTILINE), script
        assert os.access(script, os.X_OK)


@pytest.mark.parametrize("script", TRAINERS)
def test_a_preempted_job_is_queued_again_and_no_other(cluster, script):
    job = dict(SLURM_JOB_ID="17", SLURM_SUBMIT_DIR=str(LAUNCH.parent))
    code, said, notes = cluster(script, "--workdir=runs/x", SFJAX_CODE="75", **job)
    assert code == 75 and "job 17 is queued again" in said
    assert notes[-1] == "scontrol requeue 17"
    assert any(line.startswith("sfjax train --config=configs/pretrain.py:large") for line in notes)
    for other in ("0", "2", "134"):
        code, said, notes = cluster(script, "--workdir=runs/x", SFJAX_CODE=other, **job)
        assert code == int(other) and not any(line.startswith("scontrol") for line in notes)


@pytest.mark.parametrize("script", TRAINERS)
def test_a_job_that_cannot_run_is_told_why(cluster, script):
    job = dict(SLURM_JOB_ID="17")
    for words, variables, why in (
        (["--workdir=x"], {}, "not inside a SLURM job; start it with sbatch"),
        ([], job, "expected --workdir"),
    ):
        code, said, notes = cluster(script, *words, **variables)
        assert code == 2 and why in said and not notes
    code, said, _ = cluster(script, "--workdir=x", without=["sfjax"], **job)
    assert code == 2 and "sfjax is not on the PATH" in said


@pytest.mark.parametrize("script", [*TRAINERS, "tpu_pod.sh"])
def test_the_training_command_is_one_that_sfjax_takes(cluster, refused, script, monkeypatch):
    further = ["--workdir=runs/x", "--config.data.train=none.parquet", "--config.run.checkpoints=gs://bucket/run"]
    job = dict(SLURM_JOB_ID="17", SLURM_NTASKS="16")
    _, _, notes = cluster(script, *(["pod", "zone"] if script == "tpu_pod.sh" else []), *further, **job)
    command = re.search(r"sfjax (train [^;]*)", notes[-1])[1]
    monkeypatch.chdir(LAUNCH.parent)
    refused("none.parquet: expected a manifest", *command.split())


def test_a_pod_starts_the_command_on_all_its_hosts_again_and_again(cluster):
    words = ["pod", "us-x1", "--workdir=r", "--config.run.checkpoints=gs://b/r", "--config.data.train=it's.parquet"]
    code, _, notes = cluster("tpu_pod.sh", *words)
    assert code == 0
    assert notes[0].startswith("gcloud compute tpus tpu-vm ssh pod --zone=us-x1 --worker=all --command=")
    there = "\n".join(notes).split("--command=", 1)[1].replace("cd ~/sfjax && . .venv/bin/activate && ", "")
    (LAUNCH.parent / "nothing").unlink(missing_ok=True)
    program = 'n=0; sfjax() { n=$((n+1)); echo "$n $*"; [ $n -eq 3 ] && return 4; return 75; }\n' + there
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True)
    assert done.returncode == 4
    assert done.stdout.splitlines()[-1].startswith("3 train --config=configs/pretrain.py:large --workdir=r")
    assert "it's.parquet" in done.stdout
    for wrong, why in ((["pod"], "expected NAME ZONE"), (["pod", "z", "--workdir=r"], "hosts share no disk")):
        code, said, _ = cluster("tpu_pod.sh", *wrong)
        assert code == 2 and why in said


def test_every_task_of_an_array_prepares_its_part(cluster):
    task = dict(SLURM_ARRAY_TASK_ID="3", SLURM_ARRAY_TASK_COUNT="64", SLURM_CPUS_PER_TASK="8")
    _, _, notes = cluster("slurm_prepare.sh", "folder", "/data", "out/a.parquet", "--valid-share", "0.1", **task)
    assert notes == ["sfjax prepare folder /data out/a.part-3.parquet --valid-share 0.1 --part 3/64 --workers 8"]
    _, _, notes = cluster("slurm_prepare.sh", "pairs", "clean", "noisy", "a.parquet", **task)
    assert notes == ["sfjax prepare pairs clean noisy a.part-3.parquet --part 3/64 --workers 8"]
    _, _, notes = cluster("slurm_prepare.sh", "librilight", "/data", "a.parquet", "--sets", "small", **task)
    assert notes == ["sfjax prepare librilight /data a.part-3.parquet --sets small --part 3/64 --workers 8"]
    for words, variables, why in (
        (["folder", "/data"], task, "folder needs its sources and the name of the manifest"),
        (
            ["align", "a.parquet", "b"],
            task,
            "expected folder, pairs, jsonl, lhotse, parquet, a corpus or merge, got align",
        ),
        (["subset", "a.parquet", "b.parquet", "--hours", "1"], task, "or merge, got subset"),
        (["folder", "/data", "a.parquet"], {}, "not inside a SLURM array"),
    ):
        code, said, notes = cluster("slurm_prepare.sh", *words, **variables)
        assert code == 2 and why in said and not notes


@pytest.fixture
def steps(tmp_path):
    """A function that asks the rules of the paper how goals are reached in a folder that has no more than `there`."""

    def ask(*goals, there=()):
        for name in there:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        done = subprocess.run(
            ["make", "-n", "-C", tmp_path, "--no-print-directory", "-f", LAUNCH / "paper.mk", *goals],
            env=os.environ | {"PATH": path},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.replace("\\\n", "").splitlines()

    return ask


def test_the_rules_make_what_every_row_reads_before_they_train_it(steps):
    found = steps(*(f"runs/{row}/trained" for row in recipes.ROWS))
    place = {line.partition("--config=configs/paper.py:")[2].partition(",")[0]: i for i, line in enumerate(found)}
    for row in recipes.ROWS:
        config = recipes.get_config(row)
        if config.init_from:
            run, _, checkpoint = config.init_from.removeprefix("runs/").partition("/")
            assert place[run] < place[row]
            if checkpoint:
                export = (
                    f"sfjax export --workdir runs/{run} --step {checkpoint.replace('k', '000')} -o {config.init_from}"
                )
                assert place[run] < found.index(export) < place[row]
        lists = f"{config.data.train},{config.data.valid},{config.mix.noise},{config.mixture.noise}"
        for name in re.findall(r"data/[^:,]+", lists):
            folder, file = name.rsplit("/", 1)
            made = rf" {name}( |$)|cache-mels .*/{file} -o {folder}$"
            assert any(re.search(made, line) for line in found[: place[row]]), (row, name)


def test_dns_is_trained_on_a_hundred_hours_of_its_corpus(steps):
    lines = steps("runs/enhance_dns/trained", "runs/several/trained")
    draws = [line for line in lines if " subset " in line]
    assert draws == ["sfjax prepare subset data/dns2020.parquet data/dns2020_100.parquet --hours 100"]
    assert all("dns2020.parquet" not in recipes.get_config(row).data.train for row in recipes.ROWS)
    assert "dns2020_100.parquet" in recipes.get_config("enhance_dns").data.train
    assert "enhance=data/dns2020_100.parquet:10" in recipes.get_config("several").data.train


def test_the_rules_write_every_report_that_a_table_reads(steps):
    wanted = {one.partition(":")[2] for one in paper_tables.reports()}
    written = re.findall(
        r"-o runs/(\S+\.json)", "\n".join(steps(*(f"table{number}" for number in paper_tables.TABLES)))
    )
    assert sorted(written) == sorted(wanted)
    assert {one.partition(":")[0] for one in paper_tables.reports()} == set(map(str, paper_tables.TABLES))
    assert not any(need.endswith("mos.json") for need in wanted)  # listeners give it
    shown = re.findall(r"-o runs/(several_[\w-]+/\w+\.json)", "\n".join(steps("figure3")))
    rows = [row for row in recipes.ROWS if row.startswith("several_")]
    assert sorted(shown) == sorted(f"{row}/{test}.json" for row in rows for test in ("cross_sim_o", "wsj0chime3"))


@pytest.mark.slow
def test_the_eleventh_table_makes_a_listening_test_of_the_recordings_and_the_best_model(steps):
    lines = steps("table11", there=["runs/speak_32_lora/trained", "runs/durations/trained", "runs/vocoder/trained"])
    page = next(number for number, line in enumerate(lines) if line.startswith("sfjax mos make"))
    folders = [f"{row}=runs/{row}/cross/full" for row in ("truth", "speak_32_lora")]
    assert lines[page] == f"sfjax mos make {' '.join(folders)} -o mos --items 50 --each 5"
    written = [line for line in lines[:page] if "sfjax speak-list" in line]
    assert any("--system truth" in line and "runs/truth/cross " in line for line in written) and len(written) == 2
    last = steps("figure3")[-1]
    assert last == "sfjax evaluate --figure 3 --runs runs -o figure3.png"


@pytest.mark.slow
def test_every_command_of_the_rules_is_one_that_sfjax_takes(steps):
    found = steps(
        *(f"table{number}" for number in paper_tables.TABLES),
        "figure3",
        f"CONFIGS={LAUNCH.parent}/configs",
        "SIZE=tiny",
    )
    for line in found:
        if line.startswith("make: Nothing to be done"):  # a table of the same reports as another
            continue
        parsed(line)


def parsed(line):
    """The arguments of a command of the rules, and its config if it has one; fails if sfjax would not take it."""
    program, verb, *words = shlex.split(line.partition(" && touch ")[0])
    arguments, rest = parser(VERBS).parse_known_args([verb, *words])
    assert program == "sfjax" and (verb in CONFIGURED or not rest), line
    return arguments, load_config(arguments.config, rest) if verb in CONFIGURED else None


def box(tmp_path, *words, data=("manifest.jsonl", "more/manifest.jsonl", "align.jsonl.xz")):
    """`launch/box.sh` on an empty data folder with these files."""
    for name in data:
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).touch()
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.run([LAUNCH / "box.sh", *words], cwd=tmp_path, env=environment, capture_output=True, text=True)


def test_the_box_makes_what_each_training_reads_before_it(tmp_path):
    done = box(tmp_path, "data", "box", "-n")
    assert done.returncode == 0, done.stderr
    written, exported = set(), set()
    for line in done.stdout.replace("\\\n", "").splitlines():
        arguments, config = parsed(line)
        if config is not None:
            lists = (config.data.train, config.data.valid, config.mix.noise, config.mixture.noise, config.degrade.rooms)
            names = [*",".join(lists).split(","), config.init_from]
            needed = {name.partition(":")[0] for name in names if name}
            assert needed <= written, (line, needed - written)
            assert config.model.width == 256 or config.task.name == "durations"  # of size box
            assert (config.degrade.room > 0) == (arguments.workdir.name == "enhance")
            written.add(str(arguments.workdir))
        elif "workdir" in arguments:
            assert str(arguments.workdir) in written
            exported.add(arguments.output.name)
        else:
            written.add(str(arguments.dest))
    assert exported == {"base", "enhance", "separate", "extract", "speak", "durations", "vocoder"}


def test_the_box_skips_what_is_there_and_says_what_is_missing(tmp_path):
    (tmp_path / "box/data").mkdir(parents=True)
    (tmp_path / "box/data/speech.parquet").touch()
    done = box(tmp_path, "data", "box", "base", "-n")
    assert "data/more_speech.parquet" in done.stdout and "jsonl data/speech" not in done.stdout
    assert [line.split()[1] for line in done.stdout.splitlines()] == ["prepare", "train", "export"]
    for words, why in (
        ([], "expected two folders, .* got nothing"),
        (["data"], "expected two folders"),
        (["gone", "box"], "gone: no such folder"),
        (["box", "other"], "box/manifest.jsonl: no such file"),
        (["data", "box", "sing"], "No rule to make target 'sing'"),
    ):
        done = box(tmp_path, *words)
        assert done.returncode == 2 and re.search(why, done.stderr) and len(done.stderr.splitlines()) == 1


def test_the_rules_leave_what_is_there(steps):
    there = ["runs/speak/trained", "runs/durations/trained", "runs/vocoder/trained", "data/cross.parquet"]
    found = steps("runs/speak/cross.json", there=there)
    assert [" ".join(line.split()[:2]) for line in found] == ["sfjax speak-list", "sfjax wer"]
    found = steps("runs/phase_separate_2/2mix.json", there=["data/2mix.parquet", "runs/phase_separate_2/trained"])
    assert len(found) == 1 and "--model runs/separate_2 --phase runs/phase_separate_2" in found[0]
    assert steps("runs/phase_separate_2/2mix.json", there=["runs/phase_separate_2/2mix.json"])[0].startswith("make: ")


@pytest.mark.parametrize(
    "words, there, why",
    [
        ([], (), "expected a folder, as in: launch/paper.sh --tiny paper_tiny; got nothing"),
        (["--tiny", "-n"], (), "expected a folder, .* got -n"),
        (["x", "1"], (), "x/corpora: no such folder; put the corpora"),
        (["--tiny", "x"], ("x/corpora/VoiceBank/a",), "x/corpora: this folder holds real corpora"),
        (["x"], ("x/corpora/generated",), "x/corpora: .* generated corpora; add --tiny"),
        (["x", "5"], ("x/corpora/VoiceBank/a",), "No rule to make target 'table5'"),
    ],
)
def test_the_paper_needs_its_own_folder(tmp_path, words, there, why):
    for name in there:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run([LAUNCH / "paper.sh", *words], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and re.search(why, done.stderr) and len(done.stderr.splitlines()) == 1


@pytest.mark.nightly
def test_the_paper_goes_from_corpora_to_a_table_and_on_where_it_was_killed(tmp_path):
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"

    def start():
        return subprocess.Popen(
            [LAUNCH / "paper.sh", "--tiny", tmp_path / "paper", "4", "-j2"],
            env=os.environ | {"PATH": path},
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    first = start()
    while len(done := sorted(tmp_path.glob("paper/runs/*/trained"))) < 2 and first.poll() is None:
        time.sleep(0.2)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    before = {path: path.stat().st_mtime_ns for path in done}
    second = start()
    said, _ = second.communicate()
    assert second.returncode == 0 and len(before) >= 2
    assert {path: path.stat().st_mtime_ns for path in done} == before
    lines = [re.split("  +", line.rstrip()) for line in said[said.index("Table 4") :].splitlines()[3:]]
    assert [line[0] for line in lines] == ["Best expert, prior work", "Single-task", "Multi-task"]
    for line in lines[1:]:
        assert len(line) == 7 and all(re.fullmatch(r"-?\d+\.\d+ \| \d+\.\d+", cell) for cell in line[1:])


def local(*words, **variables):
    return subprocess.run([LAUNCH / "local.sh", *words], capture_output=True, text=True, env=os.environ | variables)


def test_local_processes_know_of_each_other_and_end_with_the_first_failure():
    tell = 'echo "$JAX_PROCESS_ID of $JAX_NUM_PROCESSES at $JAX_COORDINATOR_ADDRESS"; exit $((JAX_PROCESS_ID * 75))'
    done = local("2", "bash", "-c", tell)
    assert done.returncode == 75
    assert [line.split(" at ")[0] for line in sorted(done.stdout.splitlines())] == ["0 of 2", "1 of 2"]
    assert len({line.split(" at ")[1] for line in done.stdout.splitlines()}) == 1
    for words, why in (
        ([], "got nothing"),
        (["two", "true"], "got two"),
        (["2"], "a command after"),
        (["2", "no-such"], "no-such is not on the PATH"),
    ):
        done = local(*words)
        assert done.returncode == 2 and why in done.stderr


def test_a_signal_to_the_local_script_reaches_every_process(tmp_path):
    wait = f'trap "exit 75" TERM; touch {tmp_path}/$JAX_PROCESS_ID; while :; do sleep 0.05; done'
    running = subprocess.Popen([LAUNCH / "local.sh", "3", "bash", "-c", wait])
    while len(list(tmp_path.iterdir())) < 3:
        pass
    running.terminate()
    assert running.wait(timeout=20) == 75


def test_a_sweep_starts_each_run_of_its_list_and_tells_which_failed(cluster, tmp_path):
    (tmp_path / "list.txt").write_text("# about it\n\none --config.optim.peak=(1,2)\ntwo\n")
    words = [tmp_path / "list.txt", "runs", "sfjax", "train", "--config=configs/pretrain.py:tiny"]
    code, _, notes = cluster("sweep.sh", *words)
    start = "sfjax train --config=configs/pretrain.py:tiny --workdir=runs"
    assert code == 0 and notes == [f"{start}/one --config.optim.peak=(1,2)", f"{start}/two"]
    code, said, notes = cluster("sweep.sh", *words, SFJAX_CODE="2")
    assert code == 2 and said.endswith("these ended with an error: one two") and len(notes) == 2
    code, _, notes = cluster("sweep.sh", *words, SFJAX_CODE="75")
    assert code == 75 and len(notes) == 1
    for wrong, expected in (
        ([], "expected a list"),
        (["no.txt", *words[1:]], "no such list"),
        ([words[0], "runs", "gone"], "not on the PATH"),
    ):
        code, said, _ = cluster("sweep.sh", *wrong)
        assert code == 2 and expected in said


def test_the_constraints_have_every_package_that_tests_install_in_a_version_that_setup_allows():
    lines = [line for line in (LAUNCH / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    versions = {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}
    setup = configparser.ConfigParser()
    setup.read(LAUNCH.parent / "setup.cfg")
    extras = {name: text for name, text in setup["options.extras_require"].items() if name not in UNTESTED_EXTRAS}
    text = "\n".join([setup["options"]["install_requires"], *extras.values()])
    requirements = [Requirement(line) for line in text.splitlines() if line]
    assert len(requirements) > 40
    for requirement in requirements:
        version = versions.get(canonicalize_name(requirement.name))
        assert version is not None and requirement.specifier.contains(version), f"{requirement}: {version}"
