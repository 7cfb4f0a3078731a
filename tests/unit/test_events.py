"""Who hears of what: every listener every event, once, in order, and none before it is stored."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest

from inloop import Event, NotOpen, State, TaskManager
from inloop._events import AT_ONCE, MOST_WAITING, Feed, Listener, Outcomes
from inloop._exchange import Ended
from inloop.testing import settled

pytestmark = pytest.mark.anyio


def event(id: int | None, task_id: str = "a") -> Event:
    """An event at a place of the history; without one, live only."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return Event(task_id, "moved", now, None, State.QUEUED, 0, "code", id=id)


class History:
    """A store's history, and how often it was read."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.reads = 0
        self.answers = asyncio.Event()
        self.answers.set()

    def write(self, task_id: str = "a") -> None:
        self.events.append(event(len(self.events) + 1, task_id))

    async def last(self) -> int:
        await asyncio.sleep(0)
        return len(self.events)

    async def after(self, place: int, most: int) -> list[Event]:
        self.reads += 1
        found = self.events[place : place + most]
        await self.answers.wait()
        return found


class Room:
    """A feed that is pumped from a history."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self.history = History()
        self.feed = Feed()
        self._stack = stack
        self._pump = asyncio.create_task(self.feed.pump(self.history.after))

    async def listen(self, task_id: str | None = None) -> Listener:
        """One more listener."""
        return await self._stack.enter_async_context(self.feed.listen(self.history.last, task_id))

    def write(self, *task_ids: str) -> None:
        """Store an event of each of these tasks, then say so."""
        for task_id in task_ids:
            self.history.write(task_id)
        self.feed.poke()

    async def leave(self) -> None:
        self._pump.cancel()
        await asyncio.gather(self._pump, return_exceptions=True)


@pytest.fixture
async def room() -> AsyncIterator[Room]:
    async with AsyncExitStack() as stack:
        room = Room(stack)
        yield room
        await room.leave()


async def heard(listener: Listener, n: int) -> list[int | None]:
    """The ids of the next n events."""
    async with asyncio.timeout(10):
        return [(await anext(listener)).id for _ in range(n)]


async def nothing_more(listener: Listener) -> bool:
    """Whether the listener hears no further event, though everything stored was read."""
    await asyncio.sleep(0.01)
    return listener._waiting.empty()


# ---- the feed


async def test_every_listener_hears_every_event_once_and_in_order(room: Room) -> None:
    """Two listeners, one history."""
    one, other = await room.listen(), await room.listen()
    for _ in range(3):
        room.write("a", "b")
        await asyncio.sleep(0)
    for listener in (one, other):
        assert await heard(listener, 6) == [1, 2, 3, 4, 5, 6]
        assert await nothing_more(listener)


async def test_a_watcher_of_one_task_hears_of_that_one(room: Room) -> None:
    """Events of other tasks do not reach it."""
    listener = await room.listen("b")
    room.write("a", "b", "a", "b")
    assert await heard(listener, 2) == [2, 4]
    assert await nothing_more(listener)


async def test_a_listener_hears_from_now_on(room: Room) -> None:
    """What was stored before it came is not told."""
    room.write("a", "a")
    listener = await room.listen()
    room.write("a")
    assert await heard(listener, 1) == [3]


async def test_a_second_listener_too_hears_from_now_on(room: Room) -> None:
    """Also where the first one has not been told yet of what was stored before."""
    first = await room.listen()
    room.write("a", "a")
    second = await room.listen()
    room.write("a")
    assert await heard(first, 3) == [1, 2, 3]
    assert await heard(second, 1) == [3]
    assert await nothing_more(second)


async def test_a_listener_hears_nothing_that_its_predecessor_missed(room: Room) -> None:
    """The last one leaves while its events are being read; the next begins at its own time."""
    room.history.answers.clear()
    async with room.feed.listen(room.history.last):
        room.write("a", "a")
        while room.history.reads == 0:
            await asyncio.sleep(0)
    second = await room.listen()
    room.history.answers.set()
    room.write("a")
    assert await heard(second, 1) == [3]
    assert await nothing_more(second)


async def test_a_long_history_is_read_to_its_end(room: Room) -> None:
    """More than one read's worth of events at once: all arrive."""
    listener = await room.listen()
    room.write(*["a"] * (2 * AT_ONCE + 1))
    assert await heard(listener, 2 * AT_ONCE + 1) == list(range(1, 2 * AT_ONCE + 2))


async def test_without_listeners_nothing_is_read(room: Room) -> None:
    """An app that does not subscribe pays nothing for events."""
    room.write("a", "a")
    async with room.feed.listen(room.history.last):
        pass
    room.write("a")
    await asyncio.sleep(0.01)
    assert room.history.reads == 0
    assert not room.feed.is_heard


async def test_live_events_reach_those_whom_they_concern(room: Room) -> None:
    """What is never stored, such as progress, is told at once."""
    of_a, of_all = await room.listen("a"), await room.listen()
    room.feed.tell(event(None, "b"))
    room.feed.tell(event(None, "a"))
    assert [(await anext(of_a)).task_id] == ["a"]
    assert [(await anext(of_all)).task_id for _ in range(2)] == ["b", "a"]


async def test_it_knows_which_tasks_are_watched(room: Room) -> None:
    """Only those that somebody watches one by one."""
    await room.listen()
    async with room.feed.listen(room.history.last, "a"):
        assert room.feed.watched() == {"a"}
    assert room.feed.watched() == set()


async def test_closing_ends_every_stream_after_its_last_event(room: Room) -> None:
    """What was told before is still read; then the loop over the events ends."""
    listener = await room.listen()
    room.feed.tell(event(7))
    room.feed.close()
    assert [told.id async for told in listener] == [7]


def test_a_slow_listener_loses_the_oldest_and_knows_how_many() -> None:
    """It holds ten thousand events; beyond that the oldest give way and are counted."""
    listener = Listener()
    for n in range(MOST_WAITING + 3):
        listener.put(event(n))
    assert listener.lost == 3
    assert listener._waiting.qsize() == MOST_WAITING == 10_000
    assert listener._waiting.get_nowait() == event(3)


# ---- outcomes


def ended(task_id: str) -> Ended:
    return Ended(task_id, "f", State.SUCCEEDED, 1, "1", None, None)


async def test_all_handles_of_a_task_share_its_outcome() -> None:
    """Told once, it is known to all; without any handle it is not kept."""
    outcomes = Outcomes()
    one, other = outcomes.of("a"), outcomes.of("a")
    assert one is other
    outcomes.tell("a", ended("a"))
    assert one.ended == ended("a")
    outcomes.tell("b", ended("b"))
    assert outcomes.get("b") is None
    del one, other
    assert outcomes.get("a") is None


async def test_those_who_listen_are_told() -> None:
    """Each listener's future is done once the outcome is told; only those who wait are counted."""
    outcomes = Outcomes()
    outcomes.open()
    outcome = outcomes.of("a")
    assert outcomes.awaited() == []
    with outcomes.listen(outcome) as one, outcomes.listen(outcome) as other:
        assert outcomes.awaited() == ["a"]
        one.cancel()
        outcomes.tell("a", ended("a"))
        assert other.done()
        assert not other.cancelled()
    assert outcomes.awaited() == []


async def test_a_known_outcome_is_sure_until_somebody_else_writes() -> None:
    """Another process may retry a task: what is known is looked up again then."""
    outcomes = Outcomes()
    outcome = outcomes.of("a")
    assert not outcomes.is_sure(outcome)
    outcomes.tell("a", ended("a"))
    assert outcomes.is_sure(outcome)
    outcomes.doubt()
    assert not outcomes.is_sure(outcome)
    outcomes.tell("a", ended("a"))
    assert outcomes.is_sure(outcome)


async def test_closing_tells_those_who_wait_that_nobody_will_know() -> None:
    """`NotOpen`, naming the task."""
    outcomes = Outcomes()
    outcomes.open()
    with outcomes.listen(outcomes.of("a")) as waiting:
        outcomes.close()
        with pytest.raises(NotOpen, match="task a"):
            await waiting


async def test_nobody_can_wait_while_the_manager_is_closed() -> None:
    """Before opening and after closing nobody would ever be told: `NotOpen`, at once."""
    outcomes = Outcomes()
    outcome = outcomes.of("a")
    for _ in range(2):
        with pytest.raises(NotOpen, match="task a"), outcomes.listen(outcome):
            raise AssertionError("unreachable")
        outcomes.open()
        outcomes.close()


# ---- the whole: manager, store and subscribers


async def moves(events: Listener, n: int) -> list[tuple[str, State | None, State]]:
    """The next n moves."""
    found: list[tuple[str, State | None, State]] = []
    async with asyncio.timeout(10):
        while len(found) < n:
            told = await anext(events)
            if told.what == "moved":
                found.append((told.task_id, told.origin, told.to))
    return found


async def test_a_subscriber_hears_a_task_through(tasks: TaskManager) -> None:
    """From its first move to its last, in order."""

    @tasks.task
    async def work() -> None: ...

    async with tasks, tasks.subscribe() as events:
        handle = await work.using(delay=0.001).enqueue()
        await handle
        assert [to for _, _, to in await moves(events, 4)] == [
            State.SCHEDULED,
            State.QUEUED,
            State.RUNNING,
            State.SUCCEEDED,
        ]


async def test_no_event_is_told_before_its_commit(tasks: TaskManager, path: Path) -> None:
    """When a subscriber hears of a move, another connection sees it in the file already."""

    @tasks.task
    async def work() -> None: ...

    async with tasks, tasks.subscribe() as events:
        seen = sqlite3.connect(path)
        handles = await work.enqueue_many([() for _ in range(20)])
        await asyncio.gather(*handles)
        for _ in range(3 * len(handles)):
            told = await anext(events)
            row = seen.execute("select state from inloop_event where id = ?", [told.id])
            assert row.fetchone() == (told.to,)
        seen.close()


async def test_a_result_is_not_told_before_its_commit(tasks: TaskManager, path: Path) -> None:
    """Awaiting a handle returns when another connection sees that the task has ended."""

    @tasks.task
    async def work() -> None: ...

    async with tasks:
        seen = sqlite3.connect(path)
        for _ in range(20):
            handle = await work.enqueue()
            await handle
            row = seen.execute("select state from inloop_task where id = ?", [handle.id])
            assert row.fetchone() == ("succeeded",)
        seen.close()


async def test_events_of_another_manager_on_the_file_are_heard(
    tasks: TaskManager, path: Path
) -> None:
    """The history is one, whoever writes it."""
    other = TaskManager(path, work=False)

    @other.task(name="elsewhere")
    async def work() -> None: ...

    async with tasks, other, tasks.subscribe() as events:
        handle = await work.enqueue()
        assert await moves(events, 1) == [(handle.id, None, State.QUEUED)]


async def test_a_watched_task_ends_its_own_stream(tasks: TaskManager) -> None:
    """`handle.watch()` begins with the task's first event, whenever one comes, and ends with it."""

    @tasks.task
    async def work() -> None: ...

    async with tasks:
        handle = await work.enqueue()
        early = [told.to async for told in handle.watch()]
        await settled(tasks)
        late = [told.to async for told in handle.watch()]
    assert early == late == [State.RUNNING, State.SUCCEEDED]


async def test_closing_the_manager_ends_a_subscription(tasks: TaskManager) -> None:
    """A subscriber in another asyncio task is not left waiting for ever."""
    listens = asyncio.Event()

    async def listen() -> list[Event]:
        async with tasks.subscribe() as events:
            listens.set()
            return [told async for told in events]

    async with tasks:
        listening = asyncio.create_task(listen())
        await listens.wait()
    async with asyncio.timeout(10):
        assert await listening == []


async def test_subscribing_needs_an_open_manager(tasks: TaskManager) -> None:
    """`NotOpen`, as for every verb."""
    with pytest.raises(NotOpen):
        async with tasks.subscribe():
            raise AssertionError("unreachable")
