"""Vocoders: waves from log-Mel spectrograms."""
