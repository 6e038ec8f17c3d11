"""One file for each loss; `registry.py` loads them by name."""
