"""A study on disk: the only code that knows a study's folder."""
