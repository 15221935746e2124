"""Fine-tune for live restoration: a causal network, for `sfjax enhance --live` and `model.stream()`.

    sfjax train --config=configs/live.py:box --workdir=runs/live --config.init_from=runs/restore \
        --config.data.train=speech.parquet --config.mix.noise=noise.parquet --config.degrade.rooms=rooms.parquet

Output is `sfjax.inference.stream.latency` behind the input: 90 ms at size box. A causal network has the same parameters
as one that sees the whole recording, so training can start from a restoration model or from a pre-trained one. Start
from restoration: at size box, the loss of updates 11 to 15 is 1.8 from `sfjax://enhance` and 19.3 from `sfjax://base`.
"""

from sfjax.configs import restore


def get_config(size: str = "large"):
    """Return the config. Differences from restoration: a causal network, one Euler step, a shorter schedule."""
    config = restore.get_config(size)
    config.model.lookahead = 4  # frames: 40 ms
    config.t0_fraction = 0.8  # one Euler step is a regression
    config.sample.solver, config.sample.steps, config.sample.guidance = "euler", 1, 0.0
    if size == "box":
        config.optim.warmup = 100
        config.optim.updates = 2000
    return config
