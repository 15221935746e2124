"""Fine-tuning for speech from text in a prompted voice, and for editing (SpeechFlow 4.4).

    sfjax train --config=configs/speak.py:large --workdir=runs/speak --config.init_from=runs/pretrain \
        --config.data.train=speech.parquet

The manifest has phones: `sfjax prepare align`. Without init_from it is Voicebox's supervised training; adapters:
--config.lora.rank=64 --config.optim.peak=1e-3. The paper: 150k updates of 32 × 75 s on LibriSpeech's 960 hours: WER
2.1, SIM-o .700; subsets of 100 or 10 hours are manifests of their own. On two CPU cores 3.6 M parameters, pre-trained,
take 3,000 updates of 41 s in 40 minutes: WER .47 by a recogniser that has .32 on the recordings.
README.md has the commands.
"""

from sfjax.configs import default


def get_config(size: str = "large"):
    """Differences from pre-training: the task, a learning rate that ends at 0."""
    config = default.get_config(size)
    config.task.name = "speak"
    config.task.drop = 0.2
    config.task.mask = "chunk"  # of whole phones (Voicebox 3.3); or spans, as the paper's Table 5 says
    config.task.phones = ()  # those of data.train, or of the model that it starts from
    config.lora.train = "phone_"  # the phones' table and gate, beside adapters
    config.optim.peak = 1e-5
    config.optim.end = 0.0
    config.optim.updates = 150_000
    if size == "box":
        config.optim.peak = 1e-3
        config.optim.updates = 4000
        config.optim.phones = 10.0
        config.sample.steps, config.sample.guidance = 4, 2.0
    return config
