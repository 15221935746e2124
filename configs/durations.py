"""Duration model: predict the lengths of phones, for text to speech (Voicebox 3.1 and B.1).

    sfjax train --config=configs/durations.py:large --workdir=runs/durations --config.data.train=speech.parquet

The manifest needs phones: `sfjax prepare align` adds them. Voicebox: 8 layers of 512 units, batches of 120k frames,
learning rate 1e-4. On two CPU cores, 2,000 updates of 120 s at size tiny take 10 minutes. The mean error is then 4.9
frames per phone, against 6.9 with the mean length of each phone. tests/benchmarks/README.md, "Speech from text", has
the command.
"""

from sfjax.configs import default


def get_config(size: str = "large"):
    """Return the config. Differences from pre-training: the task, its network, the learning rate."""
    config = default.get_config(size)
    del config.task.fraction, config.task.shortest
    config.precision = "fp32"
    config.task.name = "durations"
    config.task.drop = 0.2
    config.task.hide = 0.2  # probability that every length is hidden
    config.task.fraction = (0.1, 1.0)  # share of phones that are hidden otherwise
    config.task.phones = ()  # (): the phones of data.train
    if size == "box":
        config.model.width, config.model.layers, config.model.heads, config.model.ffn = default.SIZES["tiny"]
        config.model.unroll = 2
    elif size not in ("tiny", "small"):
        config.model.width, config.model.layers, config.model.heads, config.model.ffn = 512, 8, 8, 2048
        config.model.unroll = 4
    del config.model.patch, config.model.precondition, config.model.residual
    del config.model.lookahead, config.model.history
    config.model.attention_block = 0
    config.model.remat = "none"
    config.optim.end = 0.0
    config.optim.muon = 0.0
    if size not in default.LAPTOP:
        config.data.seconds = 1200.0
        config.optim.peak = 1e-4
        config.optim.updates = 600_000
    if size == "box":
        config.data.seconds = 120.0
        config.data.buckets = (4.0, 8.0, 16.0)
        config.optim.peak = 1e-3
        config.optim.updates = 2000
    config.run.pictures = 0
    return config
