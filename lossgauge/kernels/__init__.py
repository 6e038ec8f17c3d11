"""Compiled passes over the matrix of a batch; the plain torch form would read and write the matrix many times.

A kernel gets a task (`tasks.py`) and a range of rows, and overwrites these rows of `matrix` with the gradient.
The batch is sorted by class, so the positives of a row are one range of columns, [start, end), and its negatives are the
two ranges around it; no loop has a branch that depends on the data. Each row is summed in a fixed order, so results do
not depend on the number of threads. The torch forms in the loss files are the reference, and are used on other devices.
"""
