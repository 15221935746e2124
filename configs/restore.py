"""Fine-tune for speech restoration: enhance recordings with noise and other degradations.

    sfjax train --config=configs/restore.py:small --workdir=runs/restore --config.init_from=runs/pretrain \
        --config.data.train=speech.parquet --config.mix.noise=noise.parquet --config.degrade.rooms=rooms.parquet

Each example passes a random selection of degradations: room, noise or babble, microphone, clipping, band limit, codec,
lost packets, level (sfjax/data/degrade.py). The target is the clean recording; with a room, it is the direct sound
with its first 50 ms. `sfjax prepare rooms rooms.parquet --count 500` simulates rooms. `sfjax prepare degraded` writes
a list; `sfjax evaluate --by degradation` scores each kind of degradation in it. The output is the recording with
spectral gains (`boost`): down, and up where much is missing.
Size box made sfjax://enhance, the model in the package: 4,650 updates, four hours of one core. It raises PESQ for noise
by .47, babble .24, rooms .16, clipping .07, narrow bands .21, codecs .26 and all together .40; clean recordings lose
.12. On 72 mixtures with noise only, PESQ is 2.14 (noisy: 1.64). tests/benchmarks/README.md, "Restoration", has the
commands.
"""

from sfjax.configs import enhance


def get_config(size: str = "large"):
    """Return the config. Differences from enhancement: the probability of each degradation.

    One example in six has no degradation.
    """
    config = enhance.get_config(size)
    config.mix.probability = 0.6
    config.mix.snr = (-5.0, 20.0)
    config.mix.babble = 0.15
    config.infer.reconstruct = "boost"  # restores lost bands; mask only removes noise
    config.degrade.room = 0.25
    config.degrade.microphone = 0.2
    config.degrade.clip = 0.1
    config.degrade.band = 0.2
    config.degrade.codec = 0.05  # codecs are slow, more of them would slow down the loader
    config.degrade.packets = 0.08
    config.degrade.level = 0.3
    return config
