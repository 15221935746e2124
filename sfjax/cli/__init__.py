"""The commands of the command line, one module for each group: their flags and the functions that run them.

Each command imports JAX and everything that needs it only when it runs, so that `--help` answers fast.
"""

from sfjax.cli import data, listening, models, recordings, scores, serving, speech, training

VERBS = (
    data.PREPARE,
    training.TRAIN,
    training.PLAN,
    recordings.ENHANCE,
    recordings.SEPARATE,
    recordings.EXTRACT,
    speech.SPEAK,
    speech.SPEAK_LIST,
    speech.CONVERT,
    speech.EDIT,
    speech.INFILL,
    serving.SERVE,
    scores.SCORE,
    scores.EVALUATE,
    scores.WER,
    scores.SIMILARITY,
    listening.MOS,
    models.CACHE_MELS,
    models.EXPORT,
    models.INFO,
    models.REPORT,
    models.QUICKSTART,
)
CONFIGURED = ("train", "plan")  # commands that accept overrides of a config
