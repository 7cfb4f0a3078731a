"""Small values that are stored as JSON text: errors and tags."""

import json

from inloop._model import ErrorText


def dump_error(error: ErrorText | None) -> str | None:
    """An error as it is stored."""
    if error is None:
        return None
    text = json.dumps(
        [error.type, error.message, error.traceback], ensure_ascii=False, separators=(",", ":")
    )
    # Messages may hold lone surrogates, which UTF-8 has no place for.
    return text.encode("utf-8", "backslashreplace").decode()


def load_error(text: str | None) -> ErrorText | None:
    """A stored error."""
    return None if text is None else ErrorText(*json.loads(text))


def dump_tags(tags: tuple[str, ...]) -> str | None:
    """Tags as they are stored; no tags take no room."""
    return json.dumps(tags, ensure_ascii=False, separators=(",", ":")) if tags else None


def load_tags(text: str | None) -> tuple[str, ...]:
    """Stored tags."""
    return () if text is None else tuple(json.loads(text))
