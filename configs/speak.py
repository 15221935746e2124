"""Fine-tune for text to speech in the voice of a prompt, and for editing (SpeechFlow 4.4).

    sfjax train --config=configs/speak.py:large --workdir=runs/speak --config.init_from=runs/pretrain \
        --config.data.train=speech.parquet

The manifest needs phones: `sfjax prepare align` adds them. Without init_from, this is the supervised training of
Voicebox. For adapters, set --config.lora.rank=64 --config.optim.peak=1e-3. The paper: 150k updates of 32 × 75 s on the
960 hours of LibriSpeech; WER 2.1, SIM-o 0.700. For subsets of 100 or 10 hours, prepare a manifest of each. On one CPU
core, 3,000 updates of 41 s with 3.6 M pre-trained parameters take an hour. The word error rate is then 0.47, by a
recogniser with 0.32 on the recordings. tests/benchmarks/README.md, "Speech from text", has the commands.
"""

from sfjax.configs import default


def get_config(size: str = "large"):
    """Return the config. Differences from pre-training: the task, a learning rate that ends at 0."""
    config = default.get_config(size)
    config.task.name = "speak"
    config.task.drop = 0.2
    config.task.mask = "chunk"  # hide a chunk of whole phones (Voicebox 3.3); or spans, as in the paper's Table 5
    config.task.phones = ()  # (): the phones of data.train, or of the model in init_from
    config.lora.train = "phone_"  # phone embedding and its gate, in addition to adapters
    config.optim.end = 0.0
    if size not in default.LAPTOP:
        config.optim.peak = 1e-5
        config.optim.updates = 150_000
    if size == "box":
        config.optim.peak = 1e-3
        config.optim.updates = 4000
        config.optim.phones = 10.0
        config.sample.steps, config.sample.guidance = 4, 2.0
    return config
