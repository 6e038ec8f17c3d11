"""One run: set up, train, measure, log, publish."""
