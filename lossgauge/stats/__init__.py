"""Intervals, tests and numbers in words."""
