"""Fine-tuning for speech enhancement (SpeechFlow 4.2).

    sfjax train --config=configs/enhance.py:large --workdir=runs/enhance --config.init_from=runs/pretrain \
        --config.data.train=speech.parquet --config.mix.noise=noise.parquet

The paper: 160 epochs of VoiceBank-DEMAND in batches of 50 s on one GPU: PESQ 3.13, from scratch (peak 2e-4) 2.92.
On two CPU cores 3.6 M parameters take 1,200 updates of 41 s in 20 minutes: PESQ 1.80 on mixtures whose own is
1.64, from scratch 1.72; 1.85 after 1,200 more. With half of the times at 0 (--config.early=0.5) and waves by gains
(--config.infer.wave=gains) it is 1.97, and 2.07 for the model of this package, after 5,500 updates on more speech and
noise. README.md has the commands. Size box adds the error of amplitudes (--config.amplitude=10), which improves every
score of short runs: tests/benchmarks/README.md, "Enhancement".
"""

from sfjax.configs import default


def get_config(size: str = "large"):
    """Differences from pre-training: the task, batches of 50 s, and a learning rate that ends at 0."""
    config = default.get_config(size)
    del config.task.fraction, config.task.shortest
    config.task.name = "enhance"
    config.task.drop = 0.3
    config.data.seconds = 50.0
    config.optim.peak = 2e-5  # from scratch: 2e-4
    config.optim.end = 0.0
    config.optim.updates = 108_000  # 160 epochs of VoiceBank-DEMAND's 9.4 h
    config.sample.guidance = 0.5
    if size == "box":
        config.model.residual = True
        config.early = 0.8
        config.amplitude = 10.0
        config.task.drop = 0.1
        config.data.seconds = 72.0
        config.optim.peak = 1e-3
        config.optim.updates = 4000
        config.sample.solver, config.sample.steps, config.sample.guidance = "euler", 1, 0.0
        config.infer.wave = "gains"
    elif size in ("tiny", "small"):  # measured with 3.6 M parameters: README.md, "Solvers"
        config.sample.solver = "euler"
        config.sample.steps = 4
    return config
