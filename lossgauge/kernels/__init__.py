"""Compiled passes over a batch's matrix, where the plain torch form would read and write it many times."""
