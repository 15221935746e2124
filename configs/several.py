"""Fine-tune one model for several tasks (SpeechFlow 4.5).

    sfjax train --config=configs/several.py:large --workdir=runs/several --config.init_from=runs/pretrain \
        --config.data.train=enhance=speech.parquet:10,separate=speech.parquet:4 --config.mix.noise=noise.parquet

Write TASK=MANIFEST:WEIGHT for each manifest. The section of a task may have its own guidance: 0.5 for enhancement, as
in the paper; the others take --config.sample.guidance. The paper mixes enhancement, separation and text to speech
10 : 4 : 1 and trains 700k updates on one GPU: PESQ 2.87, SI-SDRi 9.73 dB, WER 2.3. On two CPU cores, 1,200 updates of
48 s with 3.6 M parameters reach PESQ 1.57 on mixtures with PESQ 1.64, and SI-SDRi −2.3 dB; tests/benchmarks/README.md,
"Adapters and several tasks", has the command.
"""

from ml_collections import ConfigDict

from sfjax.configs import default


def get_config(size: str = "large"):
    """Return the config. Differences from pre-training: the tasks, batches of 75 s, a learning rate that ends at 0."""
    config = default.get_config(size)
    config.task = ConfigDict(
        {
            "name": "several",
            "enhance": {"name": "enhance", "drop": 0.3, "guidance": 0.5},  # the others: sample.guidance
            "separate": {
                "name": "separate",
                "speakers": 2,
                "drop": 0.3,
                "order": "best",
                "copies": "aligned",
                "mask": 6.0,
                "cluster": 3.0,
            },
        }
    )
    config.lora.train = "copy_table|embedding|phone_"  # embeddings of copies, bins and phones, in addition to adapters
    config.optim.end = 0.0
    if size not in default.LAPTOP:
        config.data.seconds = 75.0
        config.optim.peak = 2e-5
        config.optim.updates = 700_000
    return config
