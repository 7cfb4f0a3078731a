"""Many rows in one statement.

`values (…), (…), …` instead of `executemany`: sqlite3 gives the GIL away once per statement, and
getting it back from a busy event loop costs up to 5 ms. One statement of a hundred rows pays that
once.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import chain
from typing import Any

# Every size up to this has a statement of its own, kept compiled by sqlite3's statement cache: a
# usual batch is one statement.
MOST = 100


def chunks(rows: Sequence[Sequence[Any]]) -> Iterator[tuple[int, list[Any]]]:
    """Rows in runs of at most `MOST`, flattened, each with its number of rows."""
    for start in range(0, len(rows), MOST):
        run = rows[start : start + MOST]
        yield len(run), list(chain.from_iterable(run))


@cache
def values(sql: str, size: int, columns: int) -> str:
    """The statement with `size` rows of placeholders in place of `{rows}`."""
    row = "(" + ", ".join("?" * columns) + ")"
    return sql.replace("{rows}", ", ".join([row] * size))
