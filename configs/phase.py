"""Phase net: predict magnitude and phase of a source from its log-Mel spectrogram and the recording (SpeechFlow A.2).

    sfjax train --config=configs/phase.py --workdir=runs/phase --config.data.train=speech.parquet

By default, training makes mixtures and takes the log-Mel spectrograms of the clean sources. To train on the log-Mel
spectrograms that a model predicts, save them first:

    sfjax prepare mixtures speech.parquet train.parquet --count 3000 --split train
    sfjax prepare mixtures speech.parquet valid.parquet --count 100 --split valid
    sfjax cache-mels --model runs/separate --manifest train.parquet -o predicted
    sfjax cache-mels --model runs/separate --manifest valid.parquet -o predicted

and set --config.task.mels=predicted --config.data.train=predicted/train.parquet
--config.data.valid=predicted/valid.parquet. For speech in noise set --config.task.speakers=1 and
--config.mix.noise=noise.parquet. The paper: SI-SDRi 15.85 dB on LibriMix 2Mix, against 11.74 dB with the phase of the
mixture.

On two CPU cores, 1,000 updates of 20 s of speech in noise take 13 minutes. With clean log-Mel spectrograms, PESQ is
then 3.83 and SI-SDR 16.5 dB, against 3.78 and 15.1 dB with the noisy phase. 500 updates of 24 s of two speakers take
12 minutes; SI-SDRi rises from 12.0 to 13.1 dB. tests/benchmarks/README.md has the commands in
"Separation in the paper's form, and phase nets".
"""

from sfjax.configs import default


def get_config(size: str = "large"):
    """Return the config. Differences from pre-training: the task, its network, short crops, a high learning rate."""
    config = default.get_config(size)
    del config.task.fraction, config.task.shortest, config.task.drop
    config.precision = "fp32"
    config.task.name = "phase"
    config.task.speakers = 2
    config.task.mels = "clean"
    config.data.buckets = (4.0,)
    config.data.seconds = 64.0
    config.optim.peak = 1e-3
    config.optim.end = 0.0
    config.optim.warmup = 500
    config.optim.updates = 20_000
    config.optim.clip = 5.0
    config.optim.muon = 0.0
    config.ema = 0.999
    return config
