"""Prepare, mix and load recordings."""
