"""The sentences and tables of the report."""
