"""Vocoder: make waveforms from log-Mel spectrograms, by HiFi-GAN or, at size box, by a spectral vocoder.

HiFi-GAN: SpeechFlow 4.4; Kong et al., arXiv 2010.05646.

    sfjax train --config=configs/vocode.py --workdir=runs/vocoder --config.data.train=speech.parquet
    sfjax train --config=configs/vocode.py:box --workdir=runs/vocoder --config.data.train=speech.parquet

--config.vocoder.network=spectral chooses the spectral vocoder at other sizes: a network with the fields of
--config.spectral (1.7 M parameters), followed by Griffin-Lim. tests/benchmarks/README.md, "Vocoder", compares both with
Griffin-Lim alone.

By default, training takes the log-Mel spectrograms of the recordings. To train on those that a model predicts, save
them with `sfjax cache-mels` as in configs/phase.py, then set --config.task.mels=predicted
--config.init_from=runs/vocoder. The original HiFi-GAN: 2.5M updates of 16 segments of 8192 samples. On one CPU core,
1,000 updates of 4 s with the log-Mel loss alone and 250 with discriminators take 50 minutes, with 64 channels. PESQ is
then 1.16; Griffin-Lim has 3.66 and the spectral vocoder 3.97.
"""

from sfjax.configs import default


def get_config(size: str = "large"):
    """Return the config. Differences from pre-training: the task, its networks, short crops, the original's AdamW."""
    config = default.get_config(size)
    del config.task.fraction, config.task.shortest, config.task.drop
    config.precision = "fp32"
    config.task.name = "vocode"
    config.task.mels = "clean"
    if size == "box":
        config.vocoder.network = "spectral"
        config.data.buckets = (1.0,)
        config.data.seconds = 24.0
        config.optim.updates = 4000
        return config
    if size in ("tiny", "small"):
        config.vocoder.channels = 128
        config.vocoder.discriminators = 0.25
    config.data.buckets = (2.0,)  # a segment is cut from each crop
    config.data.seconds = 32.0
    config.optim.peak = 2e-4
    config.optim.end = 1e-5
    config.optim.warmup = 500
    if size not in default.LAPTOP:
        config.optim.updates = 1_000_000
    config.optim.clip = 0.0
    config.optim.b1 = 0.8
    config.optim.b2 = 0.99
    config.optim.decay = 0.01
    config.optim.muon = 0.0
    config.ema = 0.999
    return config
