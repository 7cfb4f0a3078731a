"""The stores that the suites run against."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Literal, NamedTuple

import pytest

from inloop._store import open_store

from .rig import Rig


class Kind(NamedTuple):
    """One way to keep tasks: where (a name in the test's own folder), and how durably."""

    where: str
    durability: Literal["full", "normal"]


FULL = Kind("tasks.db", "full")
NORMAL = Kind("tasks.db", "normal")
MEMORY = Kind(":memory:", "full")


def _maker(kind: Kind, folder: Path) -> Callable[[], Rig]:
    where = kind.where if kind.where == ":memory:" else folder / kind.where
    return lambda: Rig(open_store(where, kind.durability))


@pytest.fixture(params=[FULL, NORMAL, MEMORY], ids=["full", "normal", "memory"])
async def rig(
    request: pytest.FixtureRequest, tmp_path: Path, anyio_backend: object
) -> AsyncIterator[Rig]:
    """One owner of a store: every kind of store."""
    rig = await _maker(request.param, tmp_path)().open()
    yield rig
    await rig.close()


@pytest.fixture(params=[FULL, NORMAL], ids=["full", "normal"])
async def pair(
    request: pytest.FixtureRequest, tmp_path: Path, anyio_backend: object
) -> AsyncIterator[tuple[Rig, Rig]]:
    """Two owners of one store: every kind that more than one process can open."""
    make = _maker(request.param, tmp_path)
    one, other = await make().open(), await make().open()
    yield one, other
    await one.close()
    await other.close()


@pytest.fixture
async def full(tmp_path: Path, anyio_backend: object) -> AsyncIterator[Rig]:
    """One owner of a SQLite file, for what is SQLite's own and the same for every kind."""
    rig = await _maker(FULL, tmp_path)().open()
    yield rig
    await rig.close()
