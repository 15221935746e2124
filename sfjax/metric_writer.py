"""Log a run: progress line, JSON lines, TensorBoard scalars, pictures, audio and profiler traces."""

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

from sfjax import audio, spectrogram_plot


class Journal:
    """Write the log of a run from step `first` to `last`: a full entry and a progress line every `every` steps.

    Progress lines go to `out`. Entries of steps after `first`, from an earlier start, are dropped.
    """

    def __init__(self, workdir: str | Path, *, first: int, last: int, out: Any, every: int):
        self.folder, self.last, self.out, self.every = Path(workdir), last, out, every
        self.path, self.bad_path = self.folder / "metrics.jsonl", self.folder / "bad_files.txt"
        earlier = [line for line in self._lines() if json.loads(line)["step"] <= first]
        self.path.write_text("".join(earlier))
        self.lines = self.path.open("a", buffering=1)
        self.board = Board(self.folder / "tensorboard", first=first)
        self.compiled = False
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

    def log_step(
        self, done: int, metrics: dict[str, float], *, seconds: float, waits: dict[str, float], clipped: bool
    ) -> None:
        """Log a training step on `seconds` of audio.

        `waits` are the seconds that the host waited for data and for the device. `clipped` says whether the gradient
        norm was above its bound.
        """
        self.steps += 1
        self.sums.update(waits | {"audio": seconds, "clipped": clipped})
        if done % self.every and done != self.last:
            self._write({"step": done, "loss": metrics["loss"]})
        else:
            self._log_progress(done, metrics, speed=self._speed() if self.compiled else {})
            self._reset()
        if not self.compiled:  # the first step compiled: it does not count in the speed
            self.compiled = True
            self._reset()

    def _speed(self):
        elapsed = time.perf_counter() - self.since
        return {
            "steps_per_second": self.steps / elapsed,
            "audio_seconds_per_second": self.sums["audio"] / elapsed,
            "clipped_share": self.sums["clipped"] / self.steps,
            **{f"{name}_wait_share": self.sums[name] / elapsed for name in ("data", "device")},
            **_device_memory(),
        }

    def _log_progress(self, done, metrics, *, speed):
        self._write({"step": done, **metrics, **speed})
        self.board.add_summaries(
            done, *(summary.scalar(f"train/{name}", value) for name, value in (metrics | speed).items())
        )
        line = f"step {done}/{self.last}  loss {metrics['loss']:.4f}  lr {metrics['learning_rate']:.2e}"
        if speed:
            left = duration((self.last - done) / speed["steps_per_second"])
            line += f"  {speed['steps_per_second']:.2f} steps/s  {speed['audio_seconds_per_second']:.0f} audio-s/s"
            line += f"  {left} left"
        self._print(line + (f"  skipped {metrics['skipped']:.0f}" if metrics["skipped"] else ""))

    @contextlib.contextmanager
    def pause(self):
        """Exclude the time spent in this context from the training time."""
        start = time.perf_counter()
        yield
        self.since += time.perf_counter() - start

    def log_validation(self, done: int, metrics: dict[str, float]) -> None:
        """Log validation metrics."""
        if metrics:
            self._write({"step": done, **{f"valid_{name}": value for name, value in metrics.items()}})
            self.board.add_summaries(done, *_scalars("valid", metrics))
            self._print(f"step {done}  " + "  ".join(f"valid {name} {value:.4f}" for name, value in metrics.items()))

    def write_pictures(
        self, done: int, shown: dict[str, Any], lengths: np.ndarray, spec: audio.MelSpec, task: str
    ) -> None:
        """Write pictures of the condition, sample and target of a few examples of a task, and the samples' audio."""
        folder = self.folder / "samples"
        folder.mkdir(exist_ok=True)
        for i, samples in enumerate(lengths):
            name = f"{task}_{i}" if task else f"{i}"
            panels = {panel: shown[panel][i, : shown["frames"][i]] for panel in ("condition", "sample", "target")}
            image = spectrogram_plot.spectrograms(panels, spec, folder / f"{done:07d}_{name}.png")
            wave = np.clip(shown["wave"][i, :samples], -1.0, 1.0)
            audio.write(folder / f"{done:07d}_{name}.wav", wave, spec.sample_rate)
            picture = summary.image(f"sample/{name}", image, dataformats="HWC")
            self.board.add_summaries(done, picture, summary.audio(f"sample/{name}", wave, spec.sample_rate))

    def log_bad_files(self, reasons: list[str]) -> None:
        """Log each file that could not be read, once."""
        for reason in reasons:
            if reason not in self.known:
                self.known.add(reason)
                with self.bad_path.open("a") as file:
                    file.write(reason + "\n")
                self._print(f"skipped {reason}")

    def close(self, done: int, spent: float) -> None:
        """Log the last saved step and the seconds spent, and close all files."""
        self._print(f"saved step {done} in {self.folder} after {duration(spent)}")
        self.lines.close()
        self.board.close()

    def _write(self, entry):
        print(json.dumps(entry), file=self.lines)

    def _print(self, line):
        print(line, file=self.out, flush=True)


def _scalars(prefix, metrics):
    return [summary.scalar(f"{prefix}/{name}", value) for name, value in metrics.items()]


def duration(seconds: float) -> str:
    """Return a duration in its two largest units: 45 s, 12 min, 3 h 5 min, 2 d 7 h."""
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if seconds < 60:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    if hours < 24:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{hours // 24} d {hours % 24} h"


def _device_memory() -> dict[str, float]:
    """Return the bytes in use on this process's first device, now and at most; empty on a CPU, which does not count."""
    stats = jax.local_devices()[0].memory_stats() or {}
    names = {"bytes_in_use": "device_bytes", "peak_bytes_in_use": "device_bytes_peak"}
    return {name: float(stats[key]) for key, name in names.items() if key in stats}


class Silence:
    """The journal of all processes but the first: writes nothing."""

    bad_path = "the first process's list"

    def log_step(self, *_, **__) -> None:
        """Do nothing."""

    log_validation = write_pictures = log_bad_files = close = log_step

    def pause(self):
        """Return a context that does nothing."""
        return contextlib.nullcontext()


class Board:
    """A TensorBoard event file; events of steps after `first`, from an earlier start, are hidden.

    The caller's thread writes the file: tensorboardX's own thread dies on a full disk, and the run would then wait for
    it forever.
    """

    proto: Any = event_pb2  # its classes are created at import, so a type checker cannot see them

    def __init__(self, folder: Path, *, first: int):
        folder.mkdir(exist_ok=True)
        self.events = EventsWriter(str(folder / "events"))
        self.events.write_event(
            self._event(first + 1, session_log=self.proto.SessionLog(status=self.proto.SessionLog.START))
        )

    def add_summaries(self, step: int, *summaries: Any) -> None:
        """Write summaries of a step and flush them."""
        for value in summaries:
            self.events.write_event(self._event(step, summary=value))
        self.events.flush()

    def _event(self, step, **content):
        return self.proto.Event(step=step, wall_time=time.time(), **content)

    def close(self) -> None:
        """Close the file."""
        self.events.close()


class Trace(contextlib.AbstractContextManager):
    """A profiler trace, in `folder`, of the steps `first` to `last`, counted from one; from 0 to 0 there is none."""

    def __init__(self, folder: Path, first: int, last: int):
        self.folder, self.first, self.last, self.running = folder, first, last, False

    def before(self, number: int) -> None:
        """Start or stop the trace, before the step that follows `number` steps."""
        if self.running and number >= self.last:
            self.__exit__()
        if number + 1 == self.first <= self.last:
            jax.profiler.start_trace(str(self.folder))
            self.running = True

    def __exit__(self, *_):
        if self.running:
            jax.profiler.stop_trace()
        self.running = False
