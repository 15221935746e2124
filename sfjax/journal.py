"""What a run says while it goes: a progress line, JSON lines, TensorBoard scalars, pictures, audio and traces."""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto import event_pb2

from sfjax import audio, picture


class Journal:
    """Writes the record of a run from step `first` on; lines of later steps from an earlier start are dropped."""

    def __init__(self, workdir: str | Path, *, first: int, out: Any, every: int):
        self.folder, self.out, self.every = Path(workdir), out, every
        self.path, self.bad_path = self.folder / "metrics.jsonl", self.folder / "bad_files.txt"
        kept = [line for line in self._lines() if json.loads(line)["step"] <= first]
        self.path.write_text("".join(kept))
        self.lines = self.path.open("a", buffering=1)
        self.board = Board(self.folder / "tensorboard", first=first)
        self.known = set(self.bad_path.read_text().splitlines()) if self.bad_path.exists() else set()
        self._reset()

    def _lines(self):
        if not self.path.exists():
            return
        for line in self.path.read_text().splitlines(keepends=True):
            if line.endswith("\n"):  # a killed run may leave half a line
                yield line

    def _reset(self):
        self.since, self.steps, self.sums = time.perf_counter(), 0, Counter()

    def step(
        self,
        done: int,
        last: int,
        metrics: dict[str, float],
        *,
        seconds: float,
        waits: dict[str, float],
        clipped: bool,
    ) -> None:
        """Records a step of `seconds` of audio, what the host waited for and for how many seconds.

        The rest of the time is the host's own. `clipped` says whether the gradient was longer than its bound.
        """
        self.steps += 1
        self.sums.update(waits | {"audio": seconds, "clipped": clipped})
        if done % self.every and done != last:
            self._write({"step": done, "loss": metrics["loss"]})
            return
        spent = time.perf_counter() - self.since
        speed = {
            "steps_per_second": self.steps / spent,
            "audio_seconds_per_second": self.sums["audio"] / spent,
            "clipped_share": self.sums["clipped"] / self.steps,
            **{f"{name}_wait_share": self.sums[name] / spent for name in waits},
            **_memory(),
        }
        self._write({"step": done, **metrics, **speed})
        self.board.write(done, *(summary.scalar(f"train/{name}", value) for name, value in (metrics | speed).items()))
        left = (last - done) / speed["steps_per_second"] / 60
        self._say(
            f"step {done}/{last}  loss {metrics['loss']:.4f}  lr {metrics['learning_rate']:.2e}  "
            f"{speed['steps_per_second']:.2f} steps/s  {speed['audio_seconds_per_second']:.0f} audio-s/s  "
            f"{left:.0f} min left" + (f"  skipped {metrics['skipped']:.0f}" if metrics["skipped"] else "")
        )
        self._reset()

    @contextlib.contextmanager
    def pause(self):
        """What happens in this context does not count as training time."""
        began = time.perf_counter()
        yield
        self.since += time.perf_counter() - began

    def valid(self, done: int, metrics: dict[str, float]) -> None:
        """Records validation metrics."""
        if metrics:
            self._write({"step": done, **{f"valid_{name}": value for name, value in metrics.items()}})
            self.board.write(done, *(summary.scalar(f"valid/{name}", value) for name, value in metrics.items()))
            self._say(f"step {done}  " + "  ".join(f"valid {name} {value:.4f}" for name, value in metrics.items()))

    def pictures(self, done: int, shown: dict[str, Any], lengths: np.ndarray, spec: audio.MelSpec, task: str) -> None:
        """Draws the condition, sample and target of a few items of a task, and keeps the samples' audio."""
        folder = self.folder / "samples"
        folder.mkdir(exist_ok=True)
        for i, samples in enumerate(lengths):
            name = f"{task}_{i}" if task else f"{i}"
            panels = {panel: shown[panel][i, : shown["frames"][i]] for panel in ("condition", "sample", "target")}
            image = picture.spectrograms(panels, spec, folder / f"{done:07d}_{name}.png")
            wave = np.clip(shown["wave"][i, :samples], -1.0, 1.0)
            audio.write(folder / f"{done:07d}_{name}.wav", wave, spec.sample_rate)
            drawn = summary.image(f"sample/{name}", image, dataformats="HWC")
            self.board.write(done, drawn, summary.audio(f"sample/{name}", wave, spec.sample_rate))

    def bad_files(self, reasons: list[str]) -> None:
        """Names each file that went bad, once."""
        for reason in reasons:
            if reason not in self.known:
                self.known.add(reason)
                with self.bad_path.open("a") as file:
                    file.write(reason + "\n")
                self._say(f"skipped {reason}")

    def close(self, done: int, spent: float) -> None:
        """Ends the record."""
        self._say(f"saved step {done} in {self.folder} after {spent / 60:.1f} min")
        self.lines.close()
        self.board.close()

    def _write(self, entry):
        self.lines.write(json.dumps(entry) + "\n")

    def _say(self, line):
        print(line, file=self.out, flush=True)


def _memory() -> dict[str, float]:
    """Bytes in use on this process's first device, now and at most; empty where it does not count them, as a CPU."""
    found = jax.local_devices()[0].memory_stats() or {}
    names = {"bytes_in_use": "device_bytes", "peak_bytes_in_use": "device_bytes_peak"}
    return {name: float(found[key]) for key, name in names.items() if key in found}


class Silence:
    """The journal of every process but the first: none."""

    bad_path = "the first process's list"

    def step(self, *_, **__) -> None:
        """Nothing."""

    valid = pictures = bad_files = close = step

    def pause(self):
        """Nothing around a block."""
        return contextlib.nullcontext()


class Board:
    """A TensorBoard event file; events of steps after `first` from an earlier start are hidden.

    The caller's thread writes it: tensorboardX's own dies on a full disk, and the run would then wait for it forever.
    """

    proto: Any = event_pb2  # its classes are made at import, where a type checker sees none

    def __init__(self, folder: Path, *, first: int):
        folder.mkdir(exist_ok=True)
        self.events = EventsWriter(str(folder / "events"))
        self.events.write_event(
            self._event(first + 1, session_log=self.proto.SessionLog(status=self.proto.SessionLog.START))
        )

    def write(self, step: int, *summaries: Any) -> None:
        """Writes summaries of a step, at once."""
        for each in summaries:
            self.events.write_event(self._event(step, summary=each))
        self.events.flush()

    def _event(self, step, **content):
        return self.proto.Event(step=step, wall_time=time.time(), **content)

    def close(self) -> None:
        """Ends the file."""
        self.events.close()


class Trace(contextlib.AbstractContextManager):
    """The profiler's trace, in `folder`, of the steps `first` to `last`, counted from one; none from 0 to 0."""

    def __init__(self, folder: Path, first: int, last: int):
        self.folder, self.first, self.last, self.running = folder, first, last, False

    def before(self, number: int) -> None:
        """Starts or stops it before the step after `number` steps."""
        if self.running and number >= self.last:
            self.__exit__()
        if number + 1 == self.first <= self.last:
            jax.profiler.start_trace(str(self.folder))
            self.running = True

    def __exit__(self, *_):
        if self.running:
            jax.profiler.stop_trace()
        self.running = False
