"""A study as a page: tables, figures, words. Everything here reads a `StudyView`."""
