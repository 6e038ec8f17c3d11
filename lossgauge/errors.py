"""The one error tree: what a user can mend. Each message says the rule, what came, and what to do."""

from collections.abc import Iterable
from difflib import get_close_matches


class LossgaugeError(Exception):
    """The root: the command line prints it as one line and ends with exit code 2."""


class InputError(LossgaugeError, ValueError):
    """Embeddings, labels or a setting break a rule."""


class PlanError(LossgaugeError):
    """A study file breaks a rule."""


class DataError(LossgaugeError):
    """A dataset, an image or a file of weights is absent, damaged or not the one it should be."""


class CacheError(LossgaugeError):
    """A cached or stored file is not what was written: a byte flipped, an end cut off."""


class StudyError(LossgaugeError):
    """A study's folder cannot be used as asked."""


class DiskError(StudyError, OSError):
    """A study's file cannot be written: what was there before is there still."""


class RunError(LossgaugeError):
    """A run came to a state it cannot go on from, such as a loss of NaN."""


class MissingExtra(LossgaugeError, ImportError):
    """An optional library is not installed; the message names the `pip install`."""


def nearest(word: str, known: Iterable[str]) -> str:
    """`"; did you mean 'x'?"` for the closest of `known`, or the list of them where none is close."""
    options = list(known)
    match = get_close_matches(word, options, n=1, cutoff=0.5)
    return f"; did you mean {match[0]!r}?" if match else f"; known: {', '.join(options)}"
