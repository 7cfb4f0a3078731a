"""What users' checkers must refuse, each line for the reason beside it.

A marked line without an error is an error itself (`warn_unused_ignores` for mypy, for pyright
`reportUnnecessaryTypeIgnoreComment`), and so is an error on a line without a mark. Nothing here is
run; `test_typing.py` has both checkers read it.
"""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

from datetime import timedelta
from typing import assert_type

from inloop import Call, Key, Queue, Retry, TaskHandle, TaskManager
from inloop.testing import FakeClock, running

tasks = TaskManager("app.db")


@tasks.task
async def greet(name: str, times: int = 1) -> str:
    return name * times


@tasks.task(queue="slow")
def double(number: int, *, twice: bool = False) -> int:
    return number * (4 if twice else 2)


async def wrong_calls() -> None:
    await greet.enqueue()  # type: ignore[call-arg] # refused: an argument is missing
    await greet.enqueue(7)  # type: ignore[arg-type] # refused: of another type
    await greet.enqueue("Ana", times="2")  # type: ignore[arg-type] # refused: also by name
    await greet.enqueue("Ana", 1, 2)  # type: ignore[call-arg] # refused: one too many
    await greet.enqueue("Ana", loud=True)  # type: ignore[call-arg] # refused: no such parameter
    await double.enqueue(1, True)  # type: ignore[call-arg] # refused: it is keyword-only
    await greet("Ana", 1, 2)  # type: ignore[call-arg] # refused: the plain call is checked as well
    double("1")  # type: ignore[arg-type] # refused: so it is for a `def`
    greet.call(7)  # type: ignore[arg-type] # refused: and for a call that is kept for later
    await double.using(priority=1).enqueue("1")  # type: ignore[arg-type] # refused: after `using`


async def wrong_results() -> None:
    handle = await greet.enqueue("Ana")
    number: int = await handle  # type: ignore[assignment] # refused: the result is a str
    text: str = handle  # type: ignore[assignment] # refused: a handle is not its result
    other: TaskHandle[int] = handle  # type: ignore[assignment] # refused: of another type
    assert_type(await handle.result(), int)  # type: ignore[assert-type] # refused: it is a str
    assert_type(await greet("Ana"), int)  # type: ignore[assert-type] # refused: it is a str
    anything: str = await tasks.handle("id")  # type: ignore[assignment] # refused: not known
    known: str = await tasks.handle("id", returns=double)  # type: ignore[assignment] # refused: int
    typed: str = await tasks.handle("id", returns=int)  # type: ignore[assignment] # refused: int
    many: list[TaskHandle[int]] = await greet.enqueue_many([("Ana",)])  # type: ignore[assignment] # refused
    print(number, text, other, anything, known, typed, many)


async def wrong_use() -> None:
    double(1).bit_count().real.upper()  # type: ignore[attr-defined] # refused: calling gives an int
    await double(1)  # type: ignore[misc] # refused: calling a `def` gives no coroutine
    await greet.enqueue_many([double.call(1)])  # type: ignore[list-item] # refused: of another function
    await greet.enqueue_many(["Ana"])  # type: ignore[list-item] # refused: a tuple is wanted
    await greet.using(loud=True).enqueue("Ana")  # type: ignore[call-arg] # refused: no such option
    greet.using(delay="soon")  # type: ignore[arg-type] # refused: seconds, or a timedelta
    greet.using(at=5)  # type: ignore[arg-type] # refused: a datetime
    greet.using(retry=3)  # type: ignore[arg-type] # refused: a Retry
    await greet.cancel("id")  # type: ignore[attr-defined] # refused: the manager cancels
    await tasks.cancel("id", "why")  # type: ignore[misc] # refused: reason is keyword-only
    await tasks.find("bill")  # type: ignore[misc] # refused: so are the words of find
    await tasks.pause_queue("mail", until=timedelta(hours=1))  # type: ignore[arg-type] # refused: an instant
    stored: Call[[str], str] = double.call(1)  # type: ignore[assignment] # refused: another function
    print(stored)


TaskManager(durability="fast")  # type: ignore[arg-type] # refused: "full" or "normal"
TaskManager("app.db", "shop")  # type: ignore[misc] # refused: options are keyword-only
TaskManager(queues={"mail": 10})  # type: ignore[dict-item] # refused: a Queue
TaskManager(retention=7)  # type: ignore[arg-type] # refused: a timedelta
Queue("10")  # type: ignore[arg-type] # refused: a number
Key(5)  # type: ignore[arg-type] # refused: a template, or a function
Retry()  # type: ignore[call-arg] # refused: how many attempts?
Retry(2, on=[OSError])  # type: ignore[arg-type] # refused: a tuple
running(tasks, FakeClock())  # type: ignore[misc] # refused: clock is keyword-only


@tasks.task(queue=5)  # type: ignore[call-overload, untyped-decorator] # refused: a name
async def wrong_queue() -> None: ...


@tasks.task(schedule_at=5)  # type: ignore[call-overload, untyped-decorator] # refused: no such option
async def wrong_option() -> None: ...


@tasks.task(on_crash="ignore")  # type: ignore[call-overload, untyped-decorator] # refused: of three words
async def wrong_word() -> None: ...


@tasks.task(key=lambda name: len(name))  # type: ignore[call-overload, untyped-decorator] # refused: a str
async def wrong_key(name: str) -> None: ...
