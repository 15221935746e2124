"""Words, their phones and how long each phone lasts."""
