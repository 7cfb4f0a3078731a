"""Where tasks are kept: one protocol, and the SQLite store behind it."""

import os

from inloop._store import place
from inloop._store.protocol import Store
from inloop._store.sqlite import SQLiteStore


def open_store(store: str | os.PathLike[str], durability: place.Durability) -> Store:
    """The store that `TaskManager(store)` names; no I/O until it is opened."""
    return SQLiteStore(place.parse(store), durability)
