"""Trackers that people look at runs in: each writes the same tracked runs in its own way."""
