"""TaskManager: declares task functions, opens and closes, and wires the parts. The only place that
does."""

import asyncio
import contextvars
import logging
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from functools import partial
from types import CellType, TracebackType
from typing import Any, Literal, ParamSpec, TypeVar, overload

import aiosqlite

from inloop import _context
from inloop._checks import check_count, check_priority, check_tags, check_text, duration
from inloop._chores import ends_of
from inloop._clock import Clock, SystemClock
from inloop._codec import MAX_SIZE, Coder
from inloop._engine import Engine
from inloop._errors import NotOpen
from inloop._events import Feed, Listener, Outcomes
from inloop._exchange import Added, NewTask
from inloop._function import (
    AsyncTaskFunction,
    Key,
    OnCrash,
    Options,
    SyncTaskFunction,
    TaskFunction,
    as_key,
    check_function,
    check_retry,
)
from inloop._handle import TaskHandle
from inloop._logs import gathering
from inloop._model import Micros, State
from inloop._retry import NEVER, Retry
from inloop._settings import (
    Namespace,
    Queue,
    Retention,
    Settings,
    grace_now,
    level_of,
    retention_of,
    slots_of,
)
from inloop._store import open_store
from inloop._store.place import Durability
from inloop._verbs import Verbs

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

SLICE = 500


class TaskManager(Verbs):
    """Durable background tasks in this process's event loop."""

    def __init__(
        self,
        store: str | os.PathLike[str] = "inloop.db",
        *,
        name: str | None = None,
        concurrency: int = 100,
        queues: Mapping[str, Queue] | None = None,
        durability: Durability = "full",
        retention: Retention = timedelta(days=7),
        grace: float | timedelta = 10.0,
        work: bool = True,
        capture_logs: int | str = logging.INFO,
        max_lag: float | timedelta = 0.1,
        max_size: int = MAX_SIZE,
    ) -> None:
        """Describe a manager; nothing is opened or touched before it is entered.

        store: a path, ":memory:" (this process only, keeps nothing) or sqlite:///path. name: shown
        to people; default: the store's. concurrency: tasks that run at once in this process.
        queues: limits of named queues; others exist on first use. durability: "full" survives power
        loss, "normal" the death of any process. retention: how long ended tasks are kept, one
        duration or one per final state; None: for ever. grace: seconds that running tasks get at
        shutdown (the environment's INLOOP_GRACE goes before it). work=False: enqueue and control
        only. capture_logs: the least level of log records that become a task's log. max_lag:
        seconds of event-loop lag above which no task is started. max_size: bytes of one task's
        arguments, and of its result. Raises `TypeError` or `ValueError` for what cannot be meant.
        """
        if durability not in ("full", "normal"):
            raise ValueError(f"durability={durability!r}: must be 'full' or 'normal'")
        self._store = open_store(store, durability)
        self.name = check_text(name, "name") if name is not None else os.fspath(store)
        self.state = Namespace()
        self._grace = self._grace_now = duration(grace, "grace", least=0.0)
        self._max_size = check_count(max_size, "max_size", most=1 << 30)
        self._clock: Clock = SystemClock()
        self._settings = Settings(
            concurrency=check_count(concurrency, "concurrency"),
            limits=slots_of(queues or {}),
            retention=retention_of(retention),
            work=bool(work),
            capture_logs=level_of(capture_logs),
            max_lag=duration(max_lag, "max_lag"),
        )
        self._functions: dict[str, TaskFunction[Any, Any]] = {}
        self._outcomes = Outcomes()
        self._feed = Feed()
        self._saying: set[asyncio.Future[Any]] = set()
        self._engine: Engine | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = 0
        self._accepts = False

    def __repr__(self) -> str:
        return f"<TaskManager {self.name!r}>"

    # ---- declaring

    @overload
    def task(  # type: ignore[overload-overlap] # `async def` goes first, and a coroutine is an R too
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncTaskFunction[P, R]: ...
    @overload
    def task(self, function: Callable[P, R], /) -> SyncTaskFunction[P, R]: ...
    @overload
    def task(
        self,
        /,
        *,
        name: str | None = None,
        queue: str = "default",
        priority: int = 0,
        retry: Retry = NEVER,
        timeout: float | timedelta | None = None,
        expires: float | timedelta | None = None,
        key: str | Key | Callable[..., str | None] | None = None,
        on_crash: OnCrash = "rerun",
        runs_in: Literal["loop", "thread"] | None = None,
        tags: tuple[str, ...] | list[str] = (),
    ) -> "Decorator": ...

    def task(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        name: str | None = None,
        queue: str = "default",
        priority: int = 0,
        retry: Retry = NEVER,
        timeout: float | timedelta | None = None,
        expires: float | timedelta | None = None,
        key: str | Key | Callable[..., str | None] | None = None,
        on_crash: OnCrash = "rerun",
        runs_in: Literal["loop", "thread"] | None = None,
        tags: tuple[str, ...] | list[str] = (),
    ) -> Any:
        """Declare a task function; as `@tasks.task` or with options, `@tasks.task(queue="mail")`.

        name: kept with stored tasks; default: the function's qualified name, which survives moving
        its module. queue: its lane. priority: higher runs first within the queue. retry: when a
        failure is tried again; default: never. timeout: seconds of running per attempt, counted
        only while it holds a slot; None: no limit. expires: seconds after it is due when it is no
        longer worth starting; None: never. key: a template such as "mail:{user_id}", a function of
        the arguments, or `Key(...)`: at most one unfinished task has it. on_crash: what happens if
        its process dies while it runs. runs_in: "loop" for `async def`, "thread" for `def`. tags:
        words to find it by. Raises `TypeError` or `ValueError` for what cannot be meant, also for
        a second function of the same name.
        """
        if on_crash not in ("rerun", "fail", "hold"):
            raise ValueError(f"on_crash={on_crash!r}: must be 'rerun', 'fail' or 'hold'")
        make = partial(
            Options,
            queue=check_text(queue, "queue"),
            priority=check_priority(priority),
            retry=check_retry(retry),
            timeout=None if timeout is None else duration(timeout, "timeout"),
            expires=None if expires is None else duration(expires, "expires"),
            key=None if key is None else as_key(key),
            on_crash=on_crash,
            tags=check_tags(tags),
        )

        def declare(function: Callable[..., Any]) -> TaskFunction[Any, Any]:
            is_async = check_function(function, runs_in)
            known_as = function.__qualname__ if name is None else name
            options = make(name=check_text(known_as, "name"))
            kind = AsyncTaskFunction if is_async else SyncTaskFunction
            declared: TaskFunction[Any, Any] = kind(self, function, options)
            return self._declare(declared)

        return declare if function is None else declare(function)

    def _declare(self, declared: TaskFunction[Any, Any]) -> TaskFunction[Any, Any]:
        known = self._functions.get(declared.name)
        if known is not None and not _is_reload(known, declared):
            raise ValueError(
                f"two task functions are named {declared.name!r}: {_where(known.function)} and "
                f"{_where(declared.function)}; give one of them @tasks.task(name=…)"
            )
        self._functions[declared.name] = declared
        if self._engine is not None:
            self._engine.declare()
        return declared

    # ---- opening and closing

    async def __aenter__(self) -> "TaskManager":
        loop = _running_loop()
        self._grace_now = grace_now(self._grace)
        if self._engine is not None and self._pid == os.getpid():
            raise RuntimeError(
                f"{self!r} is open already{'' if loop is self._loop else ' in another event loop'}:"
                f" enter it once, and close it before it is entered again"
            )
        engine = Engine(
            self._store, self._clock, self._functions, self._settings, self._outcomes, self._feed
        )
        self._engine, self._loop, self._pid = engine, loop, os.getpid()
        gathering.begin(self._settings.capture_logs)
        try:
            await engine.open()
        except BaseException:
            self._closed()
            raise
        self._accepts = True
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self._close(self._grace_now)

    async def _close(self, grace: float) -> None:
        if self._engine is None or self._pid != os.getpid():
            return  # a fork leaves what its parent opened to its parent
        try:
            await self._engine.close(grace)
        finally:
            self._closed()

    async def _crash(self) -> None:
        if self._engine is not None:
            try:
                await self._engine.crash()
            finally:
                self._closed()

    def _closed(self) -> None:
        self._engine = self._loop = None
        self._accepts = False
        self._outcomes.doubt()
        self._feed = Feed()
        gathering.end()

    @asynccontextmanager
    async def lifespan(self, app: object) -> AsyncIterator[None]:
        """Open while the app runs: `FastAPI(lifespan=tasks.lifespan)`."""
        async with self:
            yield

    async def _ready(self) -> None:
        """`NotOpen` unless this is the manager's loop; waits while the calling task is paused."""
        if not self._accepts or self._pid != os.getpid() or _loop_or_none() is not self._loop:
            raise NotOpen(self._why_not_open())
        attempt = _context.inside.get()
        if attempt is not None:
            await attempt.passed()

    def _why_not_open(self) -> str:
        if self._engine is not None and self._pid != os.getpid():
            return (
                f"{self!r} was opened by process {self._pid}, and this is its fork {os.getpid()}: "
                f"start this process by spawn, or open the manager after the fork"
            )
        if self._engine is not None and self._accepts:
            return (
                f"{self!r} is open in another event loop, and this is not its thread: from another "
                f"thread use asyncio.run_coroutine_threadsafe(…, loop).result()"
            )
        return (
            f"{self!r} is not open: give the outermost app lifespan=tasks.lifespan (that of a "
            f"mounted app never runs), or use it within `async with tasks:`"
        )

    # ---- enqueueing

    async def _add(
        self, function: TaskFunction[P, R], news: list[NewTask], connection: object
    ) -> list[TaskHandle[R]]:
        engine = self._engine
        assert engine is not None
        if connection is not None:
            added = await self._store.add_within(connection, news)
            return [self._handle(function, one) for one in added]
        if len(news) == 1:
            news[0].start = news[0].due <= news[0].created and engine.reserve(news[0])
        # Held before the task exists: it may end before this coroutine goes on. Many are looked
        # up when they are awaited.
        outcomes = [self._outcomes.of(new.id) for new in news[:SLICE]]
        answer: asyncio.Future[list[Added]] = asyncio.get_running_loop().create_future()

        def done(added: list[Added] | None, error: BaseException | None) -> None:
            # Also if nobody waits any more: a slot was kept, and the task may have been claimed.
            engine.added(news, added)
            if answer.done():
                return
            if error is None and added is not None:
                answer.set_result(added)
            else:
                answer.set_exception(error or RuntimeError("the store gave no answer"))

        try:
            self._store.add(news, engine.lanes, done)
        except BaseException:
            engine.added(news, None)
            raise
        added = await answer
        handles: list[TaskHandle[R]] = []
        for one in added:
            handles.append(self._handle(function, one))
            if len(handles) % SLICE == 0:
                await asyncio.sleep(0)  # a hundred thousand handles must not hold up the loop
        del outcomes
        return handles

    def _handle(self, function: TaskFunction[P, R], added: Added) -> TaskHandle[R]:
        outcome = self._outcomes.of(added.id)
        return TaskHandle(self, added.id, function._decode_result, outcome, created=added.created)

    @overload
    def handle(self, id: str) -> TaskHandle[object]: ...
    @overload
    def handle(self, id: str, returns: TaskFunction[..., R]) -> TaskHandle[R]: ...
    @overload
    def handle(self, id: str, returns: type[R]) -> TaskHandle[R]: ...

    def handle(
        self, id: str, returns: TaskFunction[..., Any] | type[Any] | None = None
    ) -> TaskHandle[Any]:
        """A handle to a task by its id; nothing is read before it is used.

        returns: the task function, or the type, to decode the result by; None: plain JSON values.
        """
        if isinstance(returns, TaskFunction):
            decode: Callable[[str], Any] = returns._decode_result
        else:
            decode = Coder.of(object if returns is None else returns).decode
        check_text(id, "id")
        return TaskHandle(self, id, decode, self._outcomes.of(id))

    # ---- for handles and verbs

    def _is_running(self, task_id: str) -> bool:
        return self._engine is not None and self._engine.is_running(task_id)

    def _now(self) -> Micros:
        return self._clock.now()

    def _poke(self) -> None:
        if self._engine is not None:
            self._engine.poke()

    def _retained(self, now: Micros) -> dict[State, Micros]:
        return ends_of(self._settings.retention, now)

    def _in_thread(self, work: Callable[[], T]) -> "asyncio.Future[T]":
        assert self._engine is not None
        return self._engine.threads.call(contextvars.copy_context(), work)

    @asynccontextmanager
    async def _listen(self, task_id: str | None) -> AsyncIterator[Listener]:
        await self._ready()
        async with self._feed.listen(self._store.last_event, task_id) as listener:
            yield listener

    def subscribe(self) -> AbstractAsyncContextManager[Listener]:
        """`async with tasks.subscribe() as events: async for event in events:` — all events, live.

        Events of every process, in the order they were stored, from entering on. A subscriber who
        falls 10,000 behind loses the oldest; `events.lost` counts them.
        """
        return self._listen(None)

    async def drain(self, timeout: float | timedelta | None = None) -> None:
        """Wait until no task is running, queued, or due.

        timeout: seconds or a timedelta, then `TimeoutError`; None waits for ever. Tasks that are
        scheduled for later, paused or held are not waited for.
        """
        await self._ready()
        seconds = None if timeout is None else duration(timeout, "timeout", least=0.0)
        async with asyncio.timeout(seconds):
            while await self._store.unfinished_due(self._now()):
                await asyncio.sleep(0.02)

    def connect(self) -> aiosqlite.Connection:
        """A connection of the app's own to the same database file, set up rightly.

        Use it as `async with tasks.connect() as db:` or `db = await tasks.connect()`. An insert,
        update or delete begins a transaction by itself (`begin immediate`); end it with `await
        db.commit()`. A task that uses it is not paused in the middle of a transaction.
        """
        connection = self._store.connect()
        if (attempt := _context.inside.get()) is not None:
            attempt.guard(connection)  # a pause waits until its transaction has ended
        return connection


class Decorator:
    """What `@tasks.task(...)` returns, for type checkers: it takes the function."""

    @overload
    def __call__(  # type: ignore[overload-overlap] # as above
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncTaskFunction[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> SyncTaskFunction[P, R]: ...
    def __call__(self, function: Callable[..., Any], /) -> Any:
        raise TypeError("Decorator is a name for type checkers")


def _running_loop() -> asyncio.AbstractEventLoop:
    loop = _loop_or_none()
    if loop is None:
        raise RuntimeError(
            "inloop needs a running asyncio event loop; it does not run on trio or without a loop"
        )
    return loop


def _loop_or_none() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _is_reload(known: TaskFunction[Any, Any], new: TaskFunction[Any, Any]) -> bool:
    """Whether it is the same function, executed again: a module reloaded, a notebook's cell."""
    one, other = known.function, new.function
    if (one.__module__, one.__qualname__) != (other.__module__, other.__qualname__):
        return False
    if one.__code__.co_filename != other.__code__.co_filename or known._spec is not new._spec:
        return True
    return one.__code__ == other.__code__ and _closed_over(one) == _closed_over(other)


def _closed_over(function: Callable[..., Any]) -> list[int]:
    """What a function has from the scopes around it: two made by one factory may differ in it."""
    return [_content(cell) for cell in function.__closure__ or ()]


def _content(cell: CellType) -> int:
    try:
        return id(cell.cell_contents)
    except ValueError:  # a function that names itself: not bound yet
        return 0


def _where(function: Callable[..., Any]) -> str:
    code = function.__code__
    return (
        f"{function.__module__}.{function.__qualname__} ({code.co_filename}:{code.co_firstlineno})"
    )
