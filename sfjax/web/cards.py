"""The card of a model on the web page: its name, its task, its score, its licence and its data."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from sfjax.errors import UserError
from sfjax.export import locate, model_card
from sfjax.inference import Model


class Card(NamedTuple):
    """Facts about a model for its users; `notes` are Markdown, "" if the exporter wrote none."""

    name: str
    does: str
    score: str
    licence: str
    notes: str


def card(model: Model, task: Any) -> Card:
    """Return the card of a model for one of its tasks, with the notes of its exporter if it has any."""
    try:
        path = locate.folder_of(model.folder) / locate.CARD
        notes = model_card.data_section(path.read_text(encoding="utf-8", errors="replace"))
    except (OSError, UserError):  # a run has no card
        notes = ""
    does = model_card.kind(task).does.format(speakers=getattr(task, "speakers", 1)).partition(" (")[0]
    return Card(
        name=model.folder or model.name,
        does=does[:1].upper() + does[1:],
        score=model_card.score(notes) or "no score is stated",
        licence=model_card.licence(notes) or "none is stated; ask its author before you use it",
        notes=re.sub(r"^(licen[cs]e|score):.*", "", notes, flags=re.MULTILINE | re.IGNORECASE).strip(),
    )
