"""What a page shows of the rows of a dataset: chosen, measured and written when the runs of a study have ended."""
