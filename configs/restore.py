"""Fine-tuning for speech restoration: enhancement of recordings with more wrong than noise.

    sfjax train --config=configs/restore.py:small --workdir=runs/restore --config.init_from=runs/pretrain \
        --config.data.train=speech.parquet --config.mix.noise=noise.parquet --config.degrade.rooms=rooms.parquet

Each example goes through a random part of a chain: room, noise or babble, microphone, clipping, band limit, codec,
lost packets, level (sfjax/data/degrade.py). The target is the clean recording; where there is a room, it is the direct
sound with its first 50 ms. `sfjax prepare rooms rooms.parquet --count 500` simulates rooms, and `sfjax prepare
degraded` writes a list on which `sfjax evaluate --by degradation` scores each kind by itself. Waves are gains in both
directions (`equalise`). tests/benchmarks/README.md, "Restoration", has the figures of size box.
"""

from sfjax.configs import enhance


def get_config(size: str = "large"):
    """Differences from enhancement: the probability of each degradation. One example in six has none of them."""
    config = enhance.get_config(size)
    config.mix.probability = 0.6
    config.mix.snr = (-5.0, 20.0)
    config.mix.babble = 0.15
    config.infer.wave = "equalise"  # what is lost has to come back; gains for noise alone
    config.degrade.room = 0.25
    config.degrade.microphone = 0.2
    config.degrade.clip = 0.1
    config.degrade.band = 0.2
    config.degrade.codec = 0.05  # more would cost the loader its speed
    config.degrade.packets = 0.08
    config.degrade.level = 0.3
    return config
