"""The paper's speech recogniser and speaker encoder, from local weights, with PyTorch.

They need PyTorch and transformers. They never download anything.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from sfjax.errors import UserError
from sfjax.metrics.model_input import RATE, audible, resampled


class Hubert:
    """HuBERT with a CTC head. The paper uses HuBERT-L fine-tuned on 960 h (facebook/hubert-large-ls960-ft).

    `folder` contains the model and its processor as transformers saves them. Decoding is greedy. Raises `UserError` if
    packages or files are missing or the folder contains another model.
    """

    def __init__(self, folder: str | os.PathLike):
        self.name = f"hubert {Path(folder).resolve().name}"
        self.model, self.processor = _load(folder, "HubertForCTC", "AutoProcessor")

    def __call__(self, wav: Float[np.ndarray, " samples"], rate: int) -> str:
        wav = resampled(wav, rate)
        wav = np.pad(wav, (0, max(0, RATE // 10 - len(wav))))  # the model needs at least one frame
        logits = _run(self.model, self.processor, wav).logits
        return self.processor.batch_decode(logits.argmax(-1), skip_special_tokens=True)[0].lower()


class WavLM:
    """WavLM with an x-vector (TDNN) head, such as microsoft/wavlm-base-plus-sv.

    `folder` contains the model and its feature extractor as transformers saves them. The paper's encoder is a larger
    WavLM with another head, which transformers lacks, so its scores do not compare with the scores of this class.
    Raises `UserError` as `Hubert` does.
    """

    def __init__(self, folder: str | os.PathLike):
        self.name = f"wavlm {Path(folder).resolve().name}"
        self.model, self.extractor = _load(folder, "WavLMForXVector", "AutoFeatureExtractor")

    def __call__(self, wav: Float[np.ndarray, " samples"], rate: int) -> Float[np.ndarray, " size"]:
        vector = _run(self.model, self.extractor, audible(wav, rate)).embeddings[0].numpy()
        return vector / np.linalg.norm(vector)


def _load(folder: str | os.PathLike, model_class: str, processor_class: str) -> tuple[Any, Any]:
    """Load a model of transformers from a folder, and the processor that prepares waveforms for it."""
    try:
        # transformers imports without torch, and then fails with a page of text
        import torch  # noqa: F401  # pyright: ignore[reportMissingImports] (optional dependency)
        import transformers  # pyright: ignore[reportMissingImports] (optional dependency)
    except ImportError as error:
        raise UserError(f"{model_class} needs torch and transformers ({error}): pip install 'sfjax[hubert]'") from None
    path = Path(folder, "config.json")
    if not path.is_file():
        raise UserError(
            f"{folder}: expected a folder with {model_class} as transformers saves it, found no config.json"
        )
    transformers.utils.logging.disable_progress_bar()  # loading takes only a second
    try:
        architectures = json.loads(path.read_bytes()).get("architectures") or ["no architecture"]
        if architectures != [model_class]:
            raise UserError(
                f"{folder}: expected {model_class}, found {', '.join(architectures)}; give the folder of {model_class}"
            )
        processor = getattr(transformers, processor_class).from_pretrained(folder, local_files_only=True)
        model, loading_info = getattr(transformers, model_class).from_pretrained(
            folder, local_files_only=True, output_loading_info=True
        )
    except (OSError, ValueError, AttributeError, TypeError, RuntimeError, ImportError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{folder}: {model_class} and its {processor_class} could not be loaded ({reason})") from None
    # masked_spec_embed is used in training only
    missing = sorted(name for name in loading_info["missing_keys"] if not name.endswith("masked_spec_embed"))
    if missing:
        raise UserError(f"{folder}: the weights lack {missing[0]} and {len(missing) - 1} more; copy it again")
    return model.float().eval(), processor


def _run(model: Any, processor: Any, wav: Float[np.ndarray, " samples"]) -> Any:
    import torch  # pyright: ignore[reportMissingImports] (optional dependency)

    with torch.inference_mode():
        return model(**processor(wav, sampling_rate=RATE, return_tensors="pt"))
