"""Fine-tuning for speech separation (SpeechFlow 4.3).

    sfjax train --config=configs/separate.py:large --workdir=runs/separate --config.init_from=runs/pretrain \
        --config.data.train=speech.parquet

Mixtures are made while training, as LibriMix makes them, of the speakers of data.train; --config.mixture.noise adds
noise to them. Three speakers: --config.task.speakers=3 --config.data.buckets='(24.0,)' --config.infer.seconds=8.
The paper: 85 epochs of 360 hours in batches of 37.5 s on one GPU: SI-SDRi 11.74 dB and ESTOIi .35 on LibriMix 2Mix.
The paper's form is --config.task.order=random --config.task.copies=plain --config.task.mask=0
--config.task.cluster=0 --config.infer.wave=inverse: with it 3.6 M parameters do not learn to separate in half an hour
of two CPU cores: SI-SDRi −3.1 dB. This form at size box, from sfjax://base, has SI-SDRi 6.7 dB and ESTOIi .111 after
4,900 updates, four hours of one core: tests/benchmarks/README.md, "Separation".
"""

from sfjax.configs import default


def get_config(size: str = "large"):
    """Differences from pre-training: the task, two speakers of 8 s, a learning rate that ends at 0."""
    config = default.get_config(size)
    del config.task.fraction, config.task.shortest
    config.task.name = "separate"
    config.task.speakers = 2
    config.task.drop = 0.3
    config.task.order = "best"  # of the sources where t = 0; random: as drawn, as in the paper
    config.task.copies = "aligned"  # the network knows the same moment in all copies; plain: as in the paper
    config.task.mask = 6.0  # weight of the error of the sources' shares of the mixture; 0: as in the paper
    config.task.cluster = 3.0  # weight of deep clustering; 0: as in the paper
    config.data.buckets = (16.0,)  # seconds of all speakers together
    config.data.seconds = 37.5
    config.optim.peak = 3e-5  # from scratch: 5e-5
    config.optim.end = 0.0
    config.optim.updates = 2_900_000  # 85 epochs of 360 h, of which each utterance is once the first speaker
    config.lora.train = "copy_table|embedding"  # of copies and bins, beside adapters
    config.infer.seconds = 8.0  # of a mixture
    if size == "box":
        config.early = 0.95
        config.task.drop = 0.0
        config.data.buckets = (4.0,)
        config.data.seconds = 72.0
        config.optim.peak = 2e-3
        config.optim.updates = 10_000
        config.sample.solver, config.sample.steps, config.sample.guidance = "euler", 1, 0.0
    config.infer.wave = "ratio"  # wiener where there is noise in mixtures; inverse: as in the paper
    return config
