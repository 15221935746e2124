"""A local web page to try models on: recordings and words in; players, pictures and downloads out.

It is gradio's, told to send nothing to anybody, to keep its files in a folder of its own and to do one job at a time.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
from pathlib import Path

from sfjax.errors import UserError

if importlib.util.find_spec("gradio") is None:
    raise UserError("the page needs gradio: pip install 'sfjax[demo]'")

_FOLDER = tempfile.TemporaryDirectory(prefix="sfjax-page-")
FOLDER = Path(_FOLDER.name).resolve()  # of uploads and results; it goes when the process ends
os.environ |= {  # which gradio reads as it is imported
    "GRADIO_TEMP_DIR": str(FOLDER), "GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1",
}  # fmt: skip
