"""The names of the models in this package.

Each model is an exported folder. A file with the same name holds the notes of its card: data, licences, attributions.
"""

ENHANCER, SEPARATOR, EXTRACTOR, INFILLER = "sfjax://enhance", "sfjax://separate", "sfjax://extract", "sfjax://base"
VOCODER = "sfjax://vocoder"
SPEAKER, DURATION_MODEL = "sfjax://speak", "sfjax://durations"
DURATION_MODELS = {SPEAKER: DURATION_MODEL}  # the default duration model of a speaking model
