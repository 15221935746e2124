"""The names of the models in this package.

Each model is an exported folder. A file with the same name holds the notes of its card: data, licences, attributions.
"""

ENHANCER, SPEAKER, DURATION_MODEL = "sfjax://enhance", "sfjax://speak", "sfjax://durations"
