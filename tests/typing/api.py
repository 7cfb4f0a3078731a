"""What users write, and the types their checkers see: mypy --strict and pyright strict accept it.

Nothing here is run; `test_typing.py` has both checkers read it.
"""

# pyright: strict

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import assert_type

from fastapi import FastAPI

from inloop import (
    AsyncTaskFunction,
    Attempt,
    AuditEntry,
    Call,
    Event,
    GiveUp,
    Key,
    LogLine,
    Owner,
    Page,
    Pause,
    Progress,
    Queue,
    Recovery,
    Retry,
    Snooze,
    State,
    SyncTaskFunction,
    Task,
    TaskCancelled,
    TaskFailed,
    TaskFunction,
    TaskHandle,
    TaskManager,
    checkpoint,
    current_task,
    exponential,
    log,
    progress,
    track,
)
from inloop.testing import FakeClock, crash, running, settled

tasks = TaskManager(
    Path("app.db"),
    name="shop",
    concurrency=50,
    queues={"mail": Queue(concurrency=10)},
    durability="normal",
    retention={State.FAILED: timedelta(days=30), "succeeded": timedelta(hours=1)},
    grace=timedelta(seconds=5),
    work=True,
    capture_logs=20,
    max_lag=0.1,
    max_size=1 << 20,
)


@dataclass
class Invoice:
    number: int
    paid: bool


# ---- declaring: bare and with options, `async def` and `def`


@tasks.task
async def fetch(url: str, tries: int = 3) -> bytes:
    return url.encode() * tries


@tasks.task
def shrink(picture: bytes, *, width: int) -> bytes:
    for _ in range(width):
        checkpoint()
    return picture


@tasks.task(
    name="bill",
    queue="mail",
    priority=5,
    retry=Retry(
        attempts=5, backoff=exponential(base=0.5), on=(OSError,), give_up_on=(PermissionError,)
    ),
    timeout=30,
    expires=timedelta(hours=1),
    key="bill:{number}",
    on_crash="hold",
    runs_in="loop",
    tags=("money",),
)
async def bill(number: int) -> Invoice:
    if number == 0:
        raise Snooze(60)
    if number < 0:
        raise GiveUp("no such number")
    return Invoice(number, paid=False)


@tasks.task(runs_in="thread", timeout=timedelta(minutes=1), tags=["old", "slow"])
def clean_up() -> None: ...


def key_of(name: str) -> str | None:
    return name.lower() or None


@tasks.task(key=key_of)
async def greet(name: str) -> str:
    return f"Hello, {name}"


@tasks.task(key=Key("count:{name}", keep=timedelta(days=30)))
async def count(name: str) -> int:
    return len(name)


@tasks.task(key=Key(key_of, keep=timedelta(days=30)))
async def count_again(name: str) -> int:
    return len(name)


@tasks.task
async def pack(*names: str, **sizes: int) -> dict[str, list[int]]:
    return {name: list(sizes.values()) for name in names}


assert_type(clean_up, SyncTaskFunction[[], None])
an_async_one: AsyncTaskFunction[[int], Invoice] = bill
a_sync_one: SyncTaskFunction[[], None] = clean_up


# ---- calling the plain function


async def call_plainly() -> None:
    assert_type(await fetch("https://example.org"), bytes)
    assert_type(await fetch("https://example.org", tries=1), bytes)
    assert_type(shrink(b"", width=10), bytes)
    assert_type(clean_up(), None)
    assert_type(await bill(7), Invoice)


# ---- enqueueing, and awaiting the result


async def enqueue() -> None:
    handle = await bill.enqueue(7)
    assert_type(handle, TaskHandle[Invoice])
    assert_type(handle.id, str)
    assert_type(handle.created, bool)
    assert_type(await handle, Invoice)
    assert_type((await handle).paid, bool)
    assert_type(await handle.result(timeout=5), Invoice)
    assert_type(await (await shrink.enqueue(b"", width=10)), bytes)
    assert_type(await (await clean_up.enqueue()), None)
    assert_type(await (await fetch.enqueue("https://example.org", tries=1)), bytes)
    assert_type(await (await pack.enqueue("a", "b", size=1)), dict[str, list[int]])


async def enqueue_with_options() -> None:
    later = greet.using(delay=timedelta(days=1), queue="mail", priority=-1, tags=("welcome",))
    still_async: AsyncTaskFunction[[str], str] = later
    assert_type(await still_async("Ana"), str)
    assert_type(await (await later.enqueue("Ana")), str)
    soon = shrink.using(
        at=datetime.now(UTC), retry=Retry(attempts=2), timeout=1.5, expires=60, key="shrink:{width}"
    )
    assert_type(await soon.enqueue(b"", width=1), TaskHandle[bytes])
    assert_type(soon(b"", width=1), bytes)
    async with tasks.connect() as db:
        await db.execute("insert into customer (name) values (?)", ["Ana"])
        handle = await greet.using(connection=db).enqueue("Ana")
        await db.commit()
    assert_type(handle, TaskHandle[str])


async def enqueue_many() -> None:
    call = shrink.call(b"", width=10)
    assert_type(await shrink.enqueue_many([call, call]), list[TaskHandle[bytes]])
    assert_type(await greet.enqueue_many([("Ana",), ("Ben",)]), list[TaskHandle[str]])
    assert_type(await greet.enqueue_many(greet.call(n) for n in "ab"), list[TaskHandle[str]])
    handles = await greet.using(priority=3).enqueue_many([greet.call("Ana")])
    assert_type([await handle for handle in handles], list[str])


def any_kind(function: TaskFunction[[str], str]) -> TaskFunction[[str], str]:
    return function.using(queue="other")


def as_callable(function: Callable[[int], object]) -> None: ...


any_kind(greet)
as_callable(bill)
calls: list[Call[[bytes, int], bytes]] = []


# ---- handles


async def handles() -> None:
    assert_type(tasks.handle("some id"), TaskHandle[object])
    assert_type(tasks.handle("some id", returns=bill), TaskHandle[Invoice])
    assert_type(tasks.handle("some id", returns=shrink), TaskHandle[bytes])
    assert_type(tasks.handle("some id", returns=int), TaskHandle[int])
    assert_type(tasks.handle("some id", returns=Invoice), TaskHandle[Invoice])
    assert_type(await tasks.handle("some id"), object)
    assert_type(await tasks.handle("some id", returns=bill), Invoice)
    handle = await bill.enqueue(7)
    assert_type(await handle.task(), Task)
    assert_type(await handle.cancel(reason="not needed", actor="ana"), bool)
    assert_type(await handle.pause(), bool)
    assert_type(await handle.resume(), bool)
    assert_type(await handle.retry(reason="mended"), TaskHandle[Invoice])
    async for event in handle.watch():
        assert_type(event, Event)
        assert_type(event.origin, State | None)
    try:
        await handle
    except TaskFailed as failed:
        assert_type(failed.task_id, str)
        assert_type(failed.attempt, int)
        assert_type(failed.error, str)
    except TaskCancelled as cancelled:
        assert_type(cancelled.reason, str | None)


# ---- inside a task


@tasks.task
async def import_rows(rows: list[str]) -> int:
    me = current_task()
    assert_type(me, Task)
    assert_type(me.deadline, datetime | None)
    assert_type(me.arguments, dict[str, object])
    assert_type(me.progress, Progress | None)
    progress(0, len(rows), "reading")
    async for row in track(rows, total=len(rows)):
        assert_type(row, str)
        log.info("read %s", row)
    return len(rows)


# ---- reading and controlling


async def read(task_id: str) -> None:
    assert_type(await tasks.get(task_id), Task)
    page = await tasks.find(state=["failed", State.HELD], name="bill", since=datetime.now(UTC))
    assert_type(page, Page[Task])
    assert_type(page.next, str | None)
    assert_type([task.state for task in page], list[State])
    await tasks.find(state="failed", queue="mail", tag="money", text="ana", limit=10, cursor=None)
    assert_type(await tasks.counts(), dict[str, dict[State, int]])
    assert_type(await tasks.attempts(task_id), list[Attempt])
    assert_type(await tasks.events(task_id), list[Event])
    assert_type(await tasks.logs(task_id, after=0, limit=10), list[LogLine])
    assert_type(await tasks.owners(), list[Owner])
    assert_type(await tasks.recoveries(), list[Recovery])
    assert_type(await tasks.pauses(), list[Pause])
    assert_type(await tasks.audit(limit=10), list[AuditEntry])


async def control(task_id: str) -> None:
    assert_type(await tasks.cancel(task_id, reason="why", actor="ana"), bool)
    assert_type(await tasks.pause(task_id), bool)
    assert_type(await tasks.resume(task_id), bool)
    assert_type(await tasks.fail(task_id), bool)
    assert_type(await tasks.delete(task_id), bool)
    assert_type(await tasks.restore(task_id), bool)
    assert_type(await tasks.reschedule(task_id), bool)
    assert_type(await tasks.reschedule(task_id, datetime.now(UTC)), bool)
    assert_type((await tasks.retry(task_id)).id, str)
    assert_type(await tasks.cancel_where(name="bill", reason="why"), int)
    assert_type(await tasks.retry_where(state="failed"), int)
    assert_type(await tasks.delete_where(everything=True), int)
    await tasks.pause_queue("mail", until=datetime.now(UTC) + timedelta(hours=1), reason="why")
    await tasks.resume_queue("mail")
    await tasks.pause_all()
    await tasks.resume_all(actor="ana")
    await tasks.set_queue("mail", concurrency=3)
    assert_type(await tasks.take_over("owner id", reason="it hangs"), int)
    assert_type(await tasks.prune(), int)
    await tasks.drain(timeout=5)


async def subscribe() -> None:
    async with tasks.subscribe() as events:
        async for event in events:
            assert_type(event, Event)
            assert_type(event.what, str)
            assert_type(event.to, State)


# ---- the app


app = FastAPI(lifespan=tasks.lifespan)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    tasks.state.greeting = "Hello"
    async with tasks:
        yield


other_app = FastAPI(lifespan=lifespan)


@app.post("/invoices/{number}")
async def post_invoice(number: int) -> Invoice:
    handle = await bill.enqueue(number)
    return await handle


# ---- tests of the app's own


async def test_the_invoice_is_sent_the_next_day() -> None:
    clock = FakeClock(datetime(2026, 1, 1, tzinfo=UTC))
    async with running(tasks, clock=clock) as opened:
        assert_type(opened, TaskManager)
        handle = await bill.using(delay=timedelta(days=1)).enqueue(7)
        await clock.advance(timedelta(days=1))
        await clock.advance(1.5)
        assert_type(clock.time, datetime)
        await settled(tasks, timeout=1)
        assert (await handle).number == 7
        await crash(tasks)
