"""Cerebella: the open, complete stack for real-time vision-language-action robots."""

__version__ = "0.1.0"
