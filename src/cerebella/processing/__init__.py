"""Encode and decode as one pair: images, prompt, relative actions, normalisation, statistics."""
