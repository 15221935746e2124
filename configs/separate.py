"""Fine-tune for speech separation (SpeechFlow 4.3).

    sfjax train --config=configs/separate.py:large --workdir=runs/separate --config.init_from=runs/pretrain \
        --config.data.train=speech.parquet

Training mixes the speakers of data.train by the rules of LibriMix; --config.mixture.noise adds noise.
Three speakers: --config.task.speakers=3 --config.data.buckets='(24.0,)' --config.infer.seconds=8.
The paper: 85 epochs (--config.optim.epochs=85) of 360 hours in batches of 37.5 s, which hold two examples, on one GPU;
SI-SDRi 11.74 dB and ESTOIi 0.35 on LibriMix 2Mix.

This config differs from the paper. To train as in the paper, set --config.task.order=random --config.task.copies=plain
--config.task.mask=0 --config.task.cluster=0 --config.infer.reconstruct=phase. But then 3.6 M parameters do not learn to
separate in half an hour on two CPU cores: SI-SDRi −3.1 dB. This config at size box, from sfjax://base, reaches SI-SDRi
6.7 dB and ESTOIi 0.111 after 4,900 updates, four hours on one core: tests/benchmarks/README.md, "Separation".
"""

from sfjax.configs import default


def get_config(size: str = "large"):
    """Return the config. Differences from pre-training: the task, two speakers of 8 s, a final learning rate of 0."""
    config = default.get_config(size)
    del config.task.fraction, config.task.shortest
    config.task.name = "separate"
    config.task.speakers = 2
    config.task.drop = 0.3
    config.task.order = "best"  # order of the sources if t = 0; random: the order drawn, as in the paper
    config.task.copies = "aligned"  # tells the network which frames are the same moment; plain: as in the paper
    config.task.mask = 6.0  # weight of the error of the ratio masks; 0: as in the paper
    config.task.cluster = 3.0  # weight of the deep clustering loss; 0: as in the paper
    config.data.buckets = (16.0,)  # seconds of all speakers together
    config.optim.end = 0.0
    if size not in default.LAPTOP:
        config.data.seconds = 37.5
        config.optim.peak = 3e-5  # from scratch: 5e-5
        config.optim.updates = 4_420_000  # 85 epochs of 360 h; in each, every utterance is the first speaker once
    config.lora.train = "copy_table|embedding"  # embeddings of copies and bins, in addition to adapters
    config.infer.seconds = 8.0  # seconds of a mixture
    if size == "box":
        config.t0_fraction = 0.95
        config.task.drop = 0.0
        config.data.buckets = (4.0,)
        config.optim.updates = 10_000
        config.sample.solver, config.sample.steps, config.sample.guidance = "euler", 1, 0.0
    config.infer.reconstruct = "ratio"  # wiener if mixtures contain noise; phase: as in the paper
    return config
