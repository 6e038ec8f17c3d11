"""Retrieval: exact search and the metrics over it."""
