"""All errors that a user can fix. Each message gives the rule, the value, and the fix."""

from collections.abc import Iterable
from difflib import get_close_matches

MOST_NAMES = 40
"""In the list of known names of one message."""


class LossgaugeError(Exception):
    """The base class: the command line prints it as one line and ends with exit code 2."""


class InputError(LossgaugeError, ValueError):
    """Embeddings, labels or a setting break a rule."""


class PlanError(LossgaugeError):
    """A study file breaks a rule."""


class DataError(LossgaugeError):
    """A dataset, an image or a weights file is missing, damaged or not the expected one."""


class CacheError(LossgaugeError):
    """A cached or stored file has changed since it was written, for example by a flipped byte or a missing end."""


class StudyError(LossgaugeError):
    """A study's folder cannot be used as requested."""


class DiskError(StudyError, OSError):
    """A study's file cannot be written; the older version is unchanged."""


class RunError(LossgaugeError):
    """A run cannot continue, for example because its loss is NaN."""


class MissingExtra(LossgaugeError, ImportError):
    """An optional library is not installed; the message names the `pip install`."""


def nearest(word: str, known: Iterable[str]) -> str:
    """`" (did you mean 'x'?)"` for the closest of `known`, or the list of all if none is close; empty if none is known.

    In brackets, so that a sentence can continue after it. Of a long list, the first names.
    """
    options = list(known)
    match = get_close_matches(word, options, n=1, cutoff=0.5)
    if match:
        return f" (did you mean {match[0]!r}?)"
    more = [f"and {len(options) - MOST_NAMES} more"] if len(options) > MOST_NAMES else []
    return f" (known: {', '.join(options[:MOST_NAMES] + more)})" if options else ""
