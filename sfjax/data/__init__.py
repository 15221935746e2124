"""Manifests, mixing, loading and preparing of audio."""
