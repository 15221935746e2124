"""Fine-tune for target speaker extraction: the speaker of an enrolment, out of a mixture with another and noise.

    sfjax train --config=configs/extract.py:box --workdir=runs/extract --config.init_from=sfjax://separate \
        --config.data.train=speech.parquet --config.mixture.noise=noise.parquet

Training draws mixtures of two speakers by the rules of LibriMix, and another recording of one of them as the enrolment.
The speech must have speakers. The paper does not have this task.
At size box, 3,200 updates from sfjax://separate (three hours of one core) made sfjax://extract. It raises SI-SDR by
5.2 dB, and 2 % of its results are the wrong speaker: tests/benchmarks/README.md, "Extraction".
"""

from sfjax.configs import default


def get_config(size: str = "large"):
    """Return the config. Differences from pre-training: the task, one bucket, a learning rate that ends at 0."""
    config = default.get_config(size)
    del config.task.fraction, config.task.shortest
    config.task.name = "extract"
    config.task.drop = 0.3
    config.task.mask = 6.0  # weight of the error of the speaker's share in each bin; 0: only the paper's error
    config.data.buckets = (12.0,)  # seconds of enrolment and mixture together
    config.optim.end = 0.0
    if size not in default.LAPTOP:
        config.data.seconds = 48.0
        config.optim.peak = 3e-5
        config.optim.updates = 600_000
    config.lora.train = "copy_table"  # the embeddings of enrolment and mixture, in addition to adapters
    config.infer.seconds = 8.0  # seconds of a mixture, without the enrolment
    config.infer.reconstruct = "mask"
    if size == "box":
        config.t0_fraction = 0.95
        config.task.drop = 0.0
        config.data.buckets = (7.0,)
        config.enrolment.seconds = (1.0, 3.0)
        config.infer.seconds = 4.0
        config.optim.peak = 1e-3
        config.optim.warmup = 100
        config.optim.updates = 3200
        config.sample.solver, config.sample.steps, config.sample.guidance = "euler", 1, 0.0
    return config
