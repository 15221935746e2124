"""A local web page to try models, built with gradio.

The page sends nothing to other servers, keeps its files in its own temporary folder, and runs one job at a time.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
from pathlib import Path

from sfjax.errors import UserError

if importlib.util.find_spec("gradio") is None:
    raise UserError("the page needs gradio; install it with pip install 'sfjax[demo]'")

_FOLDER = tempfile.TemporaryDirectory(prefix="sfjax-page-")
FOLDER = Path(_FOLDER.name).resolve()  # uploads and results; deleted when the process ends
os.environ |= {  # gradio reads these when it is imported
    "GRADIO_TEMP_DIR": str(FOLDER),
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
