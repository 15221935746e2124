"""Every model of the paper's tables and Figure 3: `configs/paper.py:ROW`, or `:ROW,SIZE` for a smaller network.

    sfjax train --config=configs/paper.py:pretrain --workdir=runs/pretrain
    sfjax train --config=configs/paper.py:enhance --workdir=runs/enhance
    sfjax evaluate --model runs/enhance --manifest data/voicebank.parquet --split test -o runs/enhance/voicebank.json
    sfjax evaluate --table 1 --runs runs
    sfjax evaluate --figure 3 --runs runs -o figure3.png

Train each row in runs/ROW. Its config names the run that it starts from, and manifests in the folder data, which
`sfjax prepare` writes:

- librilight, voicebank and wham;
- dns2020_100: 100 hours of DNS 2020, drawn at random (`sfjax prepare subset`);
- librispeech_360: train-clean-360 and dev-clean;
- phones and phones_100, with phones (`sfjax prepare align`): 960 and 100 hours of LibriSpeech, and dev-clean;
- phones_10: a subset of phones_100;
- separate_2 and separate_2_noise: log-Mel spectrograms for phase nets, from `sfjax cache-mels` (configs/phase.py).

launch/paper.sh runs everything in the right order. launch/slurm_v100.sh trains a row on a cluster, with
--config.precision=fp16, because a V100 has no bfloat16.

The table below has the row, its GPUs, updates, hours, and the paper's main scores: PESQ on VoiceBank-DEMAND and
WSJ0-CHiME3, SI-SDRi in dB, WER in % and SIM-o with cross-sentence prompts. `sfjax evaluate --table` prints all scores.
The paper trains enhancement and separation for epochs, so these rows set `optim.epochs`: 160, 75 with DNS, 85. `sfjax
train` counts their updates in its manifest; those in the table are of the whole corpora.
The hours are estimates for that many V100, not measurements: 0.245 TFLOP per second of audio, as `sfjax plan` counts,
at 30 % of 125 TFLOP/s. Adapters and phase nets take less. The paper prints no numbers for Figure 3. The figure shows
SIM-o and PESQ of the rows `several_…`, by the updates of pre-training at four learning rates, and by the share of
examples with a condition. Rows such as `several_rate_5e-5_150k` start from a checkpoint that `sfjax export --step`
wrote into the folder of the pre-trained run.

    pretrain                 32   600,000   82
    enhance                   1   164,000   14  PESQ 3.13 and 2.70
    enhance_scratch           1   164,000   14  PESQ 2.92 and 2.38
    enhance_dns               1   300,000   26  PESQ 2.71 and 2.87
    enhance_dns_scratch       1   300,000   26  PESQ 2.53 and 2.56
    separate_2                1 4,420,000  257  SI-SDRi 11.74
    separate_2_noise          1 4,420,000  257  SI-SDRi 10.46
    separate_3                1 8,840,000  385  SI-SDRi 11.08
    separate_3_noise          1 8,840,000  385  SI-SDRi 8.22
    separate_2_scratch        1 4,420,000  257  SI-SDRi 11.24
    separate_2_noise_scratch  1 4,420,000  257  SI-SDRi 10.00
    separate_3_scratch        1 8,840,000  385  SI-SDRi 8.65
    separate_3_noise_scratch  1 8,840,000  385  SI-SDRi 7.39
    phase_separate_2          1    20,000    2  SI-SDRi 15.85
    phase_separate_2_noise    1    20,000    2  SI-SDRi 12.41
    speak                     1   150,000   17  WER 2.2, SIM-o 0.678
    speak_32                 32   150,000   20  WER 2.2, SIM-o 0.697
    speak_100                 1   150,000   17  WER 2.8, SIM-o 0.613
    speak_10                  1   150,000   17  WER 4.1, SIM-o 0.578
    speak_scratch             1   150,000   17  WER 2.3, SIM-o 0.526
    speak_32_scratch         32   150,000   20  WER 2.0, SIM-o 0.569
    speak_100_scratch         1   150,000   17  WER 2.3, SIM-o 0.412
    speak_10_scratch          1   150,000   17  WER 2.4, SIM-o 0.360
    speak_lora                1   150,000   17  WER 2.6, SIM-o 0.696
    speak_2_lora              2   150,000   20  WER 2.5, SIM-o 0.695
    speak_4_lora              4   150,000   20  WER 2.4, SIM-o 0.698
    speak_8_lora              8   150,000   20  WER 2.3, SIM-o 0.697
    speak_16_lora            16   150,000   20  WER 2.2, SIM-o 0.697
    speak_32_lora            32   150,000   20  WER 2.1, SIM-o 0.700
    several                   1   700,000   81  WER 2.3, SIM-o 0.651, PESQ 2.87, SI-SDRi 9.73
    pretrain_80_100          32   300,000   41
    pretrain_60_100          32   300,000   41
    pretrain_60_90           32   300,000   41
    pretrain_70_90           32   300,000   41
    pretrain_shortest_5      32   300,000   41
    pretrain_shortest_15     32   300,000   41
    pretrain_default         32   300,000   41
    speak_80_100              1   150,000   17  WER 2.2, SIM-o 0.627
    speak_60_100              1   150,000   17  WER 2.3, SIM-o 0.581
    speak_60_90               1   150,000   17  WER 2.2, SIM-o 0.599
    speak_70_90               1   150,000   17  WER 2.1, SIM-o 0.614
    speak_shortest_5          1   150,000   17  WER 2.0, SIM-o 0.661
    speak_shortest_15         1   150,000   17  WER 2.2, SIM-o 0.609
    speak_default             1   150,000   17  WER 2.2, SIM-o 0.655
    pretrain_rate_1e-5       32   750,000  102
    pretrain_rate_2e-5       32   750,000  102
    pretrain_rate_5e-5       32   750,000  102
    pretrain_rate_1e-4       32   750,000  102
    pretrain_cond_0          32   600,000   82
    pretrain_cond_20         32   600,000   82
    pretrain_cond_40         32   600,000   82
    pretrain_cond_60         32   600,000   82
    pretrain_cond_80         32   600,000   82
    pretrain_cond_90         32   600,000   82
    pretrain_cond_100        32   600,000   82
    several_rate_1e-5_150k    1   700,000   81
    several_rate_1e-5_300k    1   700,000   81
    several_rate_1e-5_450k    1   700,000   81
    several_rate_1e-5_600k    1   700,000   81
    several_rate_2e-5_150k    1   700,000   81
    several_rate_2e-5_300k    1   700,000   81
    several_rate_2e-5_450k    1   700,000   81
    several_rate_2e-5_600k    1   700,000   81
    several_rate_5e-5_150k    1   700,000   81
    several_rate_5e-5_300k    1   700,000   81
    several_rate_5e-5_450k    1   700,000   81
    several_rate_5e-5_600k    1   700,000   81
    several_rate_1e-4_150k    1   700,000   81
    several_rate_1e-4_300k    1   700,000   81
    several_rate_1e-4_450k    1   700,000   81
    several_rate_1e-4_600k    1   700,000   81
    several_rate_1e-5         1   700,000   81
    several_rate_2e-5         1   700,000   81
    several_rate_5e-5         1   700,000   81
    several_rate_1e-4         1   700,000   81
    several_cond_0            1   700,000   81
    several_cond_20           1   700,000   81
    several_cond_40           1   700,000   81
    several_cond_60           1   700,000   81
    several_cond_80           1   700,000   81
    several_cond_90           1   700,000   81
    several_cond_100          1   700,000   81
    several_scratch           1   700,000   81
"""

import importlib
import itertools
import re
from typing import Any, NamedTuple

SPEED = 0.3 * 125 / 0.245  # seconds of audio per second on a V100, as estimated above


class Row(NamedTuple):
    """A row: the name of the config that it changes, the number of devices that share a batch, and the changes."""

    config: str
    devices: int
    changes: dict[str, Any]

    def hours(self) -> float:
        """Estimate the hours of the training, with batches of the longest examples."""
        config = _changed(self, "large")
        longest = max(config.data.buckets)
        seconds = max(config.data.seconds // longest, 1) * longest
        return config.optim.updates * seconds / self.devices / SPEED / 3600


def _pretraining(updates: int, **changes: Any) -> Row:
    data = {"data.train": "data/librilight.parquet", "data.valid": "data/librispeech_360.parquet"}
    return Row("pretrain", 32, {**data, "optim.updates": updates, **changes})


def _tuned(config: str, devices: int = 1, *, base: str = "pretrain", **changes: Any) -> Row:
    return Row(config, devices, {"init_from": base and f"runs/{base}", **changes})


def _enhancing(train: str, epochs: float, **changes: Any) -> Row:
    data = {"data.train": f"data/{train}.parquet", "data.valid": "data/voicebank.parquet"}
    return _tuned("enhance", **{**data, "optim.epochs": epochs, **changes})


PLAIN = {
    "task.order": "random",
    "task.copies": "plain",
    "task.mask": 0.0,
    "task.cluster": 0.0,
    "infer.reconstruct": "phase",
}


def _separating(speakers: int, noise: str, **changes: Any) -> Row:
    longer = {"task.speakers": 3, "data.buckets": (24.0,), "optim.updates": 8_840_000} if speakers == 3 else {}
    speech = {"data.train": "data/librispeech_360.parquet", "mixture.noise": noise and f"data/{noise}.parquet"}
    return _tuned("separate", **{**speech, **longer, **PLAIN, "optim.epochs": 85.0, **changes})


def _speaking(devices: int = 1, hours: str = "", **changes: Any) -> Row:
    seconds = 75.0 * devices
    train = f"data/phones{hours and f'_{hours}'}.parquet"
    return _tuned("speak", devices, **{"data.train": train, "data.seconds": seconds, **changes})


def _phases(base: str) -> Row:
    lists = {f"data.{split}": f"data/{base}/{split}.parquet" for split in ("train", "valid")}
    return Row("phase", 1, {"task.mels": "predicted", **lists})


def _several(**changes: Any) -> Row:
    task = {"name": "speak", "drop": 0.2, "mask": "chunk", "fraction": (0.7, 1.0), "shortest": 10, "phones": ()}
    parts = {"enhance": "dns2020_100.parquet:10", "separate": "librispeech_360.parquet:4", "speak": "phones.parquet:1"}
    train = ",".join(f"{name}=data/{manifest}" for name, manifest in parts.items())
    data = {"data.train": train, "data.valid": train.replace("dns2020_100", "voicebank")}
    several = {f"task.separate.{name.removeprefix('task.')}": value for name, value in PLAIN.items() if "task" in name}
    return _tuned("several", **{"task.speak": task, **several, "mixture.noise": "data/wham.parquet", **data, **changes})


ADAPTERS = {"lora.rank": 64, "optim.peak": 1e-3}
MASKS = {  # Table 10
    "80_100": {"task.fraction": (0.8, 1.0)},
    "60_100": {"task.fraction": (0.6, 1.0)},
    "60_90": {"task.fraction": (0.6, 0.9)},
    "70_90": {"task.fraction": (0.7, 0.9)},
    "shortest_5": {"task.shortest": 5},
    "shortest_15": {"task.shortest": 15},
    "default": {},
}
RATES = {f"rate_{rate}": {"optim.peak": float(rate)} for rate in ("1e-5", "2e-5", "5e-5", "1e-4")}  # Figure 3
SHOWN = {f"cond_{share}": {"task.drop": round(1 - share / 100, 2)} for share in (0, 20, 40, 60, 80, 90, 100)}
STEPS = (150, 300, 450, 600)  # thousands of updates: these checkpoints of the runs of Figure 3 are fine-tuned, too
LONG = {"run.keep_every": 150_000}
SCRATCH = {"base": "", "optim.peak": 5e-5}
DNS_UPDATES = {"optim.updates": 300_000}  # its clips last 30 s

ROWS = {
    "pretrain": _pretraining(600_000),
    # Tables 1 and 7
    "enhance": _enhancing("voicebank", 160.0),
    "enhance_scratch": _enhancing("voicebank", 160.0, base="", **{"optim.peak": 2e-4}),
    "enhance_dns": _enhancing("dns2020_100", 75.0, **DNS_UPDATES),
    "enhance_dns_scratch": _enhancing("dns2020_100", 75.0, base="", **{"optim.peak": 2e-4, **DNS_UPDATES}),
    # Table 2
    **{
        f"separate_{speakers}{noise and '_noise'}{scratch and '_scratch'}": _separating(
            speakers, noise, **SCRATCH if scratch else {}
        )
        for scratch, speakers, noise in itertools.product(("", "scratch"), (2, 3), ("", "wham"))
    },
    **{f"phase_{base}": _phases(base) for base in ("separate_2", "separate_2_noise")},
    # Tables 3, 6, 8 and 9
    "speak": _speaking(),
    "speak_32": _speaking(32),
    "speak_100": _speaking(hours="100"),
    "speak_10": _speaking(hours="10"),
    "speak_scratch": _speaking(**SCRATCH),
    "speak_32_scratch": _speaking(32, **SCRATCH),
    "speak_100_scratch": _speaking(hours="100", **SCRATCH),
    "speak_10_scratch": _speaking(hours="10", **SCRATCH),
    "speak_lora": _speaking(**ADAPTERS),
    **{f"speak_{devices}_lora": _speaking(devices, **ADAPTERS) for devices in (2, 4, 8, 16, 32)},
    # Table 4
    "several": _several(),
    # Table 10
    **{f"pretrain_{name}": _pretraining(300_000, **change) for name, change in MASKS.items()},
    **{f"speak_{name}": _speaking(base=f"pretrain_{name}") for name in MASKS},
    # Figure 3
    **{f"pretrain_{name}": _pretraining(750_000, **change, **LONG) for name, change in RATES.items()},
    **{f"pretrain_{name}": _pretraining(600_000, **change) for name, change in SHOWN.items()},
    **{f"several_{name}_{step}k": _several(base=f"pretrain_{name}/{step}k") for name in RATES for step in STEPS},
    **{f"several_{name}": _several(base=f"pretrain_{name}") for name in (*RATES, *SHOWN)},
    "several_scratch": _several(**SCRATCH),  # the dashed line; the paper does not give its rate
}


def get_config(row: str = "pretrain"):
    """Return the config of `ROW` or `ROW,SIZE`."""
    name, _, size = row.partition(",")
    if name not in ROWS:
        raise ValueError(f"unknown row {name!r}; choose from {', '.join(ROWS)}")
    return _changed(ROWS[name], size or "large")


def needs() -> list[str]:
    """Return what each row needs, as ROW:PATH for launch/paper.mk.

    These are manifests, and the `trained` file of the run that it starts from or a folder with an exported checkpoint.
    """
    needed = []
    for row in ROWS:
        config = get_config(row)
        data = f"{config.data.train},{config.data.valid},{config.mix.noise},{config.mixture.noise}"
        run = config.init_from.removeprefix("runs/")
        files = [f"runs/{run}/trained" if run in ROWS else f"runs/{run}"] if run else []
        needed += [f"{row}:{file}" for file in files + re.findall(r"data/[\w/]+\.parquet", data)]
    return needed


def _changed(row: Row, size: str):
    config = importlib.import_module(f"sfjax.configs.{row.config}").get_config(size)
    for path, value in row.changes.items():
        *sections, field = path.split(".")
        section = config
        for name in sections:
            section = section[name]
        section[field] = value
    return config
