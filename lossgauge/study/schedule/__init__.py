"""Which runs a study asks for, and in which order."""
