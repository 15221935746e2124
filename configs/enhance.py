"""Fine-tune for speech enhancement (SpeechFlow 4.2).

    sfjax train --config=configs/enhance.py:large --workdir=runs/enhance --config.init_from=runs/pretrain \
        --config.data.train=speech.parquet --config.mix.noise=noise.parquet

The paper: 160 epochs of VoiceBank-DEMAND (--config.optim.epochs=160) in batches of 50 s on one GPU; PESQ 3.13, from
scratch (peak 2e-4) 2.92.
On two CPU cores, 1,200 updates of 41 s with 3.6 M parameters take 20 minutes. PESQ is then 1.80, on mixtures with PESQ
1.64; from scratch 1.72; after 1,200 more updates 1.85. With half of the training times at t = 0
(--config.t0_fraction=0.5) and output by spectral gains (--config.infer.reconstruct=mask) it is 1.97, and 2.07 after
5,500 updates on more speech and noise. Size box adds the amplitude loss (--config.amplitude=10), which improves every
score of short runs. tests/benchmarks/README.md has the commands.
This is the paper's task: the only degradation is noise. sfjax://enhance, the model in the package, was trained with
configs/restore.py:box; it has 2.14 on the same mixtures and also enhances other degradations.
"""

from sfjax.configs import default


def get_config(size: str = "large"):
    """Return the config. Differences from pre-training: the task, batches of 50 s, a learning rate that ends at 0."""
    config = default.get_config(size)
    del config.task.fraction, config.task.shortest
    config.task.name = "enhance"
    config.task.drop = 0.3
    config.optim.end = 0.0
    if size not in default.LAPTOP:
        config.data.seconds = 50.0
        config.optim.peak = 2e-5  # from scratch: 2e-4
        config.optim.updates = 164_000  # about 160 epochs of VoiceBank-DEMAND
    config.sample.guidance = 0.5
    if size == "box":
        config.model.residual = True
        config.t0_fraction = 0.8
        config.amplitude = 10.0
        config.task.drop = 0.1
        config.optim.peak = 1e-3
        config.optim.updates = 4000
        config.sample.solver, config.sample.steps, config.sample.guidance = "euler", 1, 0.0
        config.infer.reconstruct = "mask"
    elif size in ("tiny", "small"):  # measured with 3.6 M parameters: tests/benchmarks/README.md, "Solvers"
        config.sample.solver = "euler"
        config.sample.steps = 4
    return config
