"""What every test runs under: asyncio in debug mode, and an alarm for whoever blocks the loop."""

import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from blockbuster import blockbuster_ctx

from inloop import TaskManager
from inloop.testing import FakeClock


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"debug": True}


@pytest.fixture(autouse=True)
def nothing_blocks_the_loop() -> Iterator[None]:
    """A blocking call made by inloop in the event loop's thread is an error there."""
    with blockbuster_ctx("inloop"):
        yield


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """Every thread of a store ends with it; idle workers of plain functions end by themselves."""
    yield
    deadline = time.monotonic() + 2
    while left := [t.name for t in threading.enumerate() if t.name == "inloop-keeper"]:
        assert time.monotonic() < deadline, f"threads left behind: {left}"
        time.sleep(0.005)


@pytest.fixture(autouse=True)
def logging_is_as_before() -> Iterator[None]:
    """The record factory is the host's again."""
    before = logging.getLogRecordFactory()
    yield
    assert logging.getLogRecordFactory() is before


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a test's store lies."""
    return tmp_path / "tasks.db"


@pytest.fixture
def tasks(path: Path) -> TaskManager:
    """A manager on a file of its own, not open yet."""
    return TaskManager(path)


@pytest.fixture
def clock() -> FakeClock:
    """A clock that stands still until it is told to advance."""
    return FakeClock()
