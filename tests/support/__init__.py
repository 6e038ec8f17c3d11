"""What several test files need: small studies, waiting for a condition, and the command line with and without a process."""
