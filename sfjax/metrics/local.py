"""The recogniser and the kind of speaker encoder that the paper scores with, from weights on this machine.

They need PyTorch and transformers; nothing is ever fetched.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from sfjax.errors import UserError
from sfjax.metrics.speaker import audible
from sfjax.metrics.wer import RATE, resampled


class Hubert:
    """HuBERT with a CTC head; the paper's is HuBERT-L fine-tuned on 960 h (facebook/hubert-large-ls960-ft).

    `folder` holds the model and its processor as transformers saves them. Decoding is greedy. Raises `UserError` if
    packages or files are missing or the folder holds another model.
    """

    def __init__(self, folder: str | os.PathLike):
        self.name = f"hubert {Path(folder).resolve().name}"
        self.model, self.processor = _load(folder, "HubertForCTC", "AutoProcessor")

    def __call__(self, wav: Float[np.ndarray, " samples"], rate: int) -> str:
        wav = resampled(wav, rate)
        wav = np.pad(wav, (0, max(0, RATE // 10 - len(wav))))  # the model wants at least one frame
        logits = _run(self.model, self.processor, wav).logits
        return self.processor.batch_decode(logits.argmax(-1), skip_special_tokens=True)[0].lower()


class WavLM:
    """WavLM with an x-vector (TDNN) head, such as microsoft/wavlm-base-plus-sv.

    `folder` holds the model and its feature extractor as transformers saves them. The paper's encoder is of this kind,
    but a larger one with another head that transformers does not have: its figures are not comparable with these.
    Raises `UserError` as `Hubert` does.
    """

    def __init__(self, folder: str | os.PathLike):
        self.name = f"wavlm {Path(folder).resolve().name}"
        self.model, self.extractor = _load(folder, "WavLMForXVector", "AutoFeatureExtractor")

    def __call__(self, wav: Float[np.ndarray, " samples"], rate: int) -> Float[np.ndarray, " size"]:
        vector = _run(self.model, self.extractor, audible(wav, rate)).embeddings[0].numpy()
        return vector / np.linalg.norm(vector)


def _load(folder: str | os.PathLike, wanted: str, processor: str) -> tuple[Any, Any]:
    """The model of class `wanted` in a folder, and what prepares waves for it."""
    try:
        import torch  # noqa: F401  (transformers imports without it, and then fails with a page of text)
        import transformers
    except ImportError as error:
        raise UserError(f"{wanted} needs torch and transformers ({error}): pip install 'sfjax[hubert]'") from None
    path = Path(folder, "config.json")
    if not path.is_file():
        raise UserError(f"{folder}: expected a folder with {wanted} as transformers saves it, found no config.json")
    transformers.utils.logging.disable_progress_bar()  # loading takes a second
    try:
        have = json.loads(path.read_bytes()).get("architectures") or ["no architecture"]
        if have != [wanted]:
            raise UserError(f"{folder}: expected {wanted}, found {', '.join(have)}; give the folder of another model")
        prepare = getattr(transformers, processor).from_pretrained(folder, local_files_only=True)
        model, notes = getattr(transformers, wanted).from_pretrained(
            folder, local_files_only=True, output_loading_info=True
        )
    except (OSError, ValueError, AttributeError, TypeError, RuntimeError, ImportError) as error:
        why = " ".join(str(error).split())[:200]
        raise UserError(f"{folder}: {wanted} and its {processor} could not be loaded ({why})") from None
    missing = sorted(name for name in notes["missing_keys"] if not name.endswith("masked_spec_embed"))  # for training
    if missing:
        raise UserError(f"{folder}: the weights lack {missing[0]} and {len(missing) - 1} more; copy it again")
    return model.float().eval(), prepare


def _run(model: Any, prepare: Any, wav: Float[np.ndarray, " samples"]) -> Any:
    import torch

    with torch.inference_mode():
        return model(**prepare(wav, sampling_rate=RATE, return_tensors="pt"))
