"""Where a killed process stood: a page of memory that outlives it.

A process under test keeps its counters in a file that is mapped into memory. The kernel keeps such
a page whatever becomes of the process, so that after `kill -9` the test can read off, to the last
instruction, whether the kill fell into a commit and how many tasks were running.
"""

import mmap
import os
import threading
from pathlib import Path

FIELDS = (
    "running",  # tasks whose code runs now
    "threads",  # of these: plain functions
    "writing",  # in a write transaction: 1; its commit has begun: 2
    "commits",  # write transactions
    "acks",  # enqueues that returned
    "ended",  # attempts that ended
    "armed",  # the point at which the process is to kill itself; 0: none (written by the test)
    "least",  # so many tasks must be running when it does
    "fell",  # the point at which it killed itself
)


class Vitals:
    """Whole numbers by name, shared by the process and the test that watches it."""

    def __init__(self, path: Path) -> None:
        size = 8 * len(FIELDS)
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.ftruncate(fd, size)
            self._numbers = memoryview(mmap.mmap(fd, size)).cast("q")
        finally:
            os.close(fd)
        self._lock = threading.Lock()

    def __getitem__(self, name: str) -> int:
        return self._numbers[FIELDS.index(name)]

    def __setitem__(self, name: str, value: int) -> None:
        self._numbers[FIELDS.index(name)] = value

    def add(self, name: str, n: int = 1) -> None:
        """From any thread."""
        with self._lock:
            self[name] += n

    def as_dict(self) -> dict[str, int]:
        """All of them."""
        return dict(zip(FIELDS, self._numbers, strict=True))
