"""Many rows in one statement.

`values (…), (…), …` instead of `executemany`: sqlite3 gives the GIL away once per statement, and
getting it back from a busy event loop costs up to 5 ms. One statement of a hundred rows pays that
once.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import chain
from typing import Any

SIZES = (256, 64, 16, 4, 1)


def chunks(rows: Sequence[Sequence[Any]]) -> Iterator[tuple[int, list[Any]]]:
    """Rows in runs of a few fixed sizes, so that each statement's text stays cached, flattened."""
    start = 0
    for size in SIZES:
        while len(rows) - start >= size:
            yield size, list(chain.from_iterable(rows[start : start + size]))
            start += size


@cache
def values(sql: str, size: int, columns: int) -> str:
    """The statement with `size` rows of placeholders in place of `{rows}`."""
    row = "(" + ", ".join("?" * columns) + ")"
    return sql.replace("{rows}", ", ".join([row] * size))
