"""What users hand in, checked at the call: each message names the value, and what would do."""

import re
from collections.abc import Iterable
from datetime import datetime, timedelta

from inloop._model import Micros

# A hundred years: nobody waits longer, and every instant that comes of it is one a datetime knows.
MOST_SECONDS = 100 * 365 * 86400.0
LATEST_YEAR = 9000


def check_text(value: object, what: str) -> str:
    """A name, queue, tag or key: text that is not empty and can be stored and shown."""
    if not isinstance(value, str):
        raise TypeError(f"{what}={value!r}: must be text")
    if not value or "\0" in value or len(value) > 1000 or _SURROGATE.search(value):
        raise ValueError(
            f"{what}={value[:100]!r}: must be 1 to 1000 characters, without NUL or lone surrogates"
        )
    return value


_SURROGATE = re.compile("[\ud800-\udfff]")


def check_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Tags; one string is a mistake for a tuple of one."""
    if isinstance(tags, str):
        raise TypeError(f"tags={tags!r}: must be a list or tuple of texts, such as ({tags!r},)")
    return tuple(check_text(tag, "tag") for tag in tags)


def check_priority(priority: object) -> int:
    """A whole number that leaves room for what goes before all priorities."""
    if isinstance(priority, bool) or not isinstance(priority, int):
        raise TypeError(f"priority={priority!r}: must be a whole number (higher runs first)")
    if abs(priority) > 1 << 31:
        raise ValueError(f"priority={priority}: must be between -2**31 and 2**31")
    return priority


def duration(value: object, what: str, least: float | None = None) -> float:
    """Seconds, from a number or a timedelta: more than 0, or at least `least`."""
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{what}={value!r}: must be seconds, or a timedelta")
    fits = value > 0 if least is None else value >= least
    if not fits or not value <= MOST_SECONDS:
        bound = "more than 0" if least is None else f"{least:g} or more"
        raise ValueError(f"{what}={value!r}: must be finite, {bound} seconds, at most 100 years")
    return float(value)


def instant(value: object, what: str) -> datetime:
    """An aware datetime."""
    if not isinstance(value, datetime):
        raise TypeError(f"{what}={value!r}: must be a datetime with a time zone")
    if value.utcoffset() is None:
        raise ValueError(
            f"{what}={value!r}: has no time zone, so the instant is unknown; write "
            f"datetime.now(UTC) + …, or value.astimezone()"
        )
    if value.year > LATEST_YEAR:
        raise ValueError(f"{what}={value!r}: is after the year {LATEST_YEAR}")
    return value


def to_whole(seconds: float) -> Micros:
    """Whole microseconds."""
    return round(seconds * 1e6)


def check_count(value: object, what: str, least: int = 1, most: int = 1_000_000) -> int:
    """A whole number of something."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{what}={value!r}: must be a whole number")
    if not least <= value <= most:
        raise ValueError(f"{what}={value}: must be {least} to {most:,}")
    return value
