"""Which loss for this data: a search within a time budget, and its answer in words."""
