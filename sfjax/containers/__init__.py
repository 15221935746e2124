"""Sound files that libsndfile alone does not read, or not to their end.

Every module has a function that takes the content of a file (bytes or a memory map) and opens it, or raises
`BadSound` with the reason if only a part could be read. `sfjax.audio_io` chooses the module by the content.
"""

from __future__ import annotations


class BadSound(Exception):
    """Why a file cannot be read to its end, and what to do; without the name of the file."""
