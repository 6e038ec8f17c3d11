"""A figure as JSON inside a page."""

from __future__ import annotations

import json
from typing import Any

from markupsafe import Markup


def embed_json(figure: dict[str, Any]) -> Markup:
    """A figure as JSON for a script element: no `<`, `>` or `&`, so nothing in it can end the element."""
    text = json.dumps(figure, sort_keys=True, default=plain, allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def plain(value: Any) -> Any:
    """What JSON does not know: numpy's numbers as Python's, all else as its text."""
    return value.item() if hasattr(value, "item") else str(value)
