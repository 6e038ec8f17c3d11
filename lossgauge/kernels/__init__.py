"""Compiled passes over a batch's matrix, where the plain torch form would read and write it many times.

A kernel is given a task (`tasks.py`) and a range of its rows, and overwrites these rows of `matrix` with the gradient
there. The batch is sorted by class, so a row's positives are one run of columns, [start, end), its negatives the two
runs around it, and no loop has a branch that depends on the data. Each row is summed in one order: results do not
depend on the number of threads. The torch forms beside the losses are the reference, and serve every other device.
"""
