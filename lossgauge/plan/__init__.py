"""What a study asks for: the study file as data."""
