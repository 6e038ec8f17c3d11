"""`lossgauge watch`: the report on this machine's own address while the study runs."""
