"""Pre-train on unlabelled speech (SpeechFlow 4.1).

    sfjax train --config=configs/pretrain.py:large --workdir=runs/pretrain --config.data.train=speech.parquet

The paper: 600k updates of 32 × 75 s on 32 V100 GPUs, 60k hours of audiobooks.
On two CPU cores, 3,000 updates of 41 s with 3.6 M parameters take 37 minutes; tests/benchmarks/README.md, "Results on
real speech", has the command.
Short runs learn faster with --config.optim.peak=3e-3 --config.optim.muon=6.6 --config.model.precondition=flow: see
tests/benchmarks/README.md, "Speedrun".
"""

from sfjax.configs import default


def get_config(size: str = "large"):
    """Return the config, which is `default`."""
    return default.get_config(size)
