"""One loss a file; `registry.py` loads them by name."""
