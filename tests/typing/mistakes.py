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
    await greet.enqueue()  # type: ignore # refused: an argument is missing
    await greet.enqueue(7)  # type: ignore # refused: of another type
    await greet.enqueue("Ana", times="2")  # type: ignore # refused: also by name
    await greet.enqueue("Ana", 1, 2)  # type: ignore # refused: one too many
    await greet.enqueue("Ana", loud=True)  # type: ignore # refused: no such parameter
    await double.enqueue(1, True)  # type: ignore # refused: it is keyword-only
    await greet("Ana", 1, 2)  # type: ignore # refused: the plain call is checked as well
    double("1")  # type: ignore # refused: so it is for a `def`
    greet.call(7)  # type: ignore # refused: and for a call that is kept for later
    await double.using(priority=1).enqueue("1")  # type: ignore # refused: after `using`


async def wrong_results() -> object:
    handle = await greet.enqueue("Ana")
    number: int = await handle  # type: ignore # refused: the result is a str
    text: str = handle  # type: ignore # refused: a handle is not its result
    other: TaskHandle[int] = handle  # type: ignore # refused: of another type
    assert_type(await handle.result(), int)  # type: ignore # refused: it is a str
    assert_type(await greet("Ana"), int)  # type: ignore # refused: it is a str
    anything: str = await tasks.handle("id")  # type: ignore # refused: not known
    known: str = await tasks.handle("id", returns=double)  # type: ignore # refused: int
    typed: str = await tasks.handle("id", returns=int)  # type: ignore # refused: int
    many: list[TaskHandle[int]] = await greet.enqueue_many([("Ana",)])  # type: ignore # refused: str
    return number, text, other, anything, known, typed, many


async def wrong_use() -> object:
    double(1).bit_count().real.upper()  # type: ignore # refused: calling gives an int
    await double(1)  # type: ignore # refused: calling a `def` gives no coroutine
    await greet.enqueue_many([double.call(1)])  # type: ignore # refused: of another function
    await greet.enqueue_many(["Ana"])  # type: ignore # refused: a tuple is wanted
    await greet.using(loud=True).enqueue("Ana")  # type: ignore # refused: no such option
    greet.using(delay="soon")  # type: ignore # refused: seconds, or a timedelta
    greet.using(at=5)  # type: ignore # refused: a datetime
    greet.using(retry=3)  # type: ignore # refused: a Retry
    await greet.cancel("id")  # type: ignore # refused: the manager cancels
    await tasks.cancel("id", "why")  # type: ignore # refused: reason is keyword-only
    await tasks.find("bill")  # type: ignore # refused: so are the words of find
    await tasks.pause_queue("mail", until=timedelta(hours=1))  # type: ignore # refused: an instant
    stored: Call[[str], str] = double.call(1)  # type: ignore # refused: another function
    return stored


TaskManager(durability="fast")  # type: ignore # refused: "full" or "normal"
TaskManager("app.db", "shop")  # type: ignore # refused: options are keyword-only
TaskManager(queues={"mail": 10})  # type: ignore # refused: a Queue
TaskManager(retention="7 days")  # type: ignore # refused: seconds, or a timedelta
Queue("10")  # type: ignore # refused: a number
Key(5)  # type: ignore # refused: a template, or a function
Retry()  # type: ignore # refused: how many attempts?
Retry(2, on=[OSError])  # type: ignore # refused: a tuple
running(tasks, FakeClock())  # type: ignore # refused: clock is keyword-only


@tasks.task(queue=5)  # type: ignore # refused: a name
async def wrong_queue() -> None: ...


@tasks.task(schedule_at=5)  # type: ignore # refused: no such option
async def wrong_option() -> None: ...


@tasks.task(on_crash="ignore")  # type: ignore # refused: of three words
async def wrong_word() -> None: ...


@tasks.task(key=lambda name: len(name))  # type: ignore # refused: a str
async def wrong_key(name: str) -> None: ...
