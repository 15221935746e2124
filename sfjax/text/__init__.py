"""Text to phones, and the durations of phones."""
