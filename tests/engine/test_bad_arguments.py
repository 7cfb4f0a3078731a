"""Arguments that cannot be: refused at the call, by name, and nothing is lost or stored."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from inloop import ArgumentError, ResultError, State, TaskFailed, TaskManager
from inloop.testing import settled

pytestmark = pytest.mark.anyio


@pytest.fixture
async def opened(tasks: TaskManager) -> AsyncIterator[TaskManager]:
    """An open manager that at the end has stored nothing, and works as before."""
    async with tasks:
        yield tasks
        assert await tasks.counts() == {}

        @tasks.task
        async def still_works() -> int:
            return 1

        assert await (await still_works.enqueue()).result(10) == 1


# ---- calls that do not fit the function


@pytest.mark.parametrize(
    ("args", "kwargs", "told"),
    [
        ((), {}, "missing a required argument: 'user_id'"),
        ((1, "Hi", "more"), {}, "too many positional arguments"),
        ((1,), {"subjekt": "Hi"}, "unexpected keyword argument 'subjekt'"),
        ((1,), {"user_id": 2}, "multiple values for argument 'user_id'"),
    ],
)
async def test_a_wrong_call_is_a_type_error(
    opened: TaskManager, args: tuple[Any, ...], kwargs: dict[str, Any], told: str
) -> None:
    """At the call, in Python's own words, naming the function."""

    @opened.task
    async def send_mail(user_id: int, subject: str = "Hi") -> None: ...

    with pytest.raises(TypeError, match=rf"send_mail\(\) .*{told}"):
        await send_mail.enqueue(*args, **kwargs)
    with pytest.raises(TypeError, match=told):
        send_mail.call(*args, **kwargs)


# ---- values that cannot be stored


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("7", r"argument n is of type str; accepted: int"),
        (7.5, r"argument n is of type float; accepted: int"),
        (None, r"argument n is of type None.*; accepted: int"),
        (threading.Lock(), r"argument n is of type .*lock; accepted: int"),
        ([1], r"argument n is of type list; accepted: int"),
    ],
)
async def test_a_value_of_another_type(opened: TaskManager, value: Any, told: str) -> None:
    """ArgumentError, a TypeError: the parameter, the value's type, what would be accepted."""

    @opened.task
    async def work(n: int) -> None: ...

    with pytest.raises(ArgumentError, match=told) as caught:
        await work.enqueue(value)
    assert isinstance(caught.value, TypeError)


async def test_a_value_deep_inside_is_named(opened: TaskManager) -> None:
    """With the way to it."""

    @opened.task
    async def work(orders: list[dict[str, int]]) -> None: ...

    with pytest.raises(ArgumentError, match=r"argument orders\[1\]\[.?n.?\] is of type object"):
        await work.enqueue([{"n": 1}, {"n": object()}])  # type: ignore[dict-item] # on purpose


async def test_without_a_hint_only_json_will_do(opened: TaskManager) -> None:
    """The message says what a type hint would change."""

    @opened.task
    async def work(thing) -> None: ...  # type: ignore[no-untyped-def] # on purpose

    with pytest.raises(ArgumentError, match=r"argument thing .*annotate it"):
        await work.enqueue({1, 2})


# ---- size


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("x" * 100_000_000, id="str"),
        pytest.param(b"x" * 100_000_000, id="bytes"),
        pytest.param(["x" * 1_000_000] * 100, id="list"),
        pytest.param(dict.fromkeys(range(1_000_000), 1), id="dict"),
    ],
)
async def test_a_hundred_megabytes_are_refused(opened: TaskManager, value: Any) -> None:
    """Soon, with the limit and what to do instead, and without holding up the loop."""

    @opened.task
    async def work(value: Any) -> None: ...

    @opened.task
    async def typed(value: str | bytes | list[str] | dict[int, int]) -> None: ...

    for function in (work, typed):
        worst, calling = 0.0, asyncio.ensure_future(function.enqueue(value))
        while not calling.done():
            began = time.perf_counter()
            await asyncio.sleep(0)
            worst = max(worst, time.perf_counter() - began)
        with pytest.raises(ArgumentError, match="argument value"):
            await calling
        assert worst < 0.5  # far more than is promised, for a busy machine in debug mode
    if isinstance(value, str):
        with pytest.raises(ArgumentError, match=r"limit is 1048576.*pass a reference"):
            await work.enqueue(value)


# ---- text


@pytest.mark.parametrize("text", ["\ud800", "a\udfff", "\ud83d alone"])
async def test_lone_surrogates_are_refused(opened: TaskManager, text: str) -> None:
    """They are no text: the message says where they stand, and what would do."""

    @opened.task
    async def work(text: str, items: list[str] | None = None) -> None: ...

    with pytest.raises(ArgumentError, match=r"argument text .*lone surrogate \(U\+D"):
        await work.enqueue(text)
    with pytest.raises(ArgumentError, match=r"argument items\[0\] .*lone surrogate"):
        await work.enqueue("fine", [text])


TEXTS = [
    "",
    "\0",
    "a\0b",
    "🚀",
    "👩‍👩‍👧",
    "é" * 1000,
    "\r\n\t",
    "\u2028",
    "\x7f\x1b[31m",
    "'; drop --",
]


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
async def test_every_other_text_comes_back_as_it_was(tasks: TaskManager, text: str) -> None:
    """NUL, emoji and control characters too, in arguments, results and errors."""

    @tasks.task
    async def echo(text: str, thing: Any) -> tuple[str, Any]:
        return text, thing

    @tasks.task
    async def fail(text: str) -> None:
        raise ValueError(text)

    async with tasks:
        handle = await echo.enqueue(text, {text: [text]})
        assert await handle == (text, {text: [text]})
        assert (await handle.task()).arguments["text"] == text
        failed = await fail.enqueue(text)
        with pytest.raises(TaskFailed):
            await failed
        error = (await failed.task()).error
        assert error is not None
        assert error.message == text


# ---- depth


def nested(levels: int, kind: str) -> object:
    """Something in something in something…"""
    value: object = 1
    for _ in range(levels):
        value = [value] if kind == "list" else {"a": value}
    return value


@pytest.mark.parametrize("kind", ["list", "dict"])
async def test_ten_thousand_levels_are_refused(opened: TaskManager, kind: str) -> None:
    """A clear error, no RecursionError."""

    @opened.task
    async def work(value: Any) -> None: ...

    with pytest.raises(ArgumentError, match=r"argument value.* nested"):
        await work.enqueue(nested(10_000, kind))


async def test_what_contains_itself_is_refused(opened: TaskManager) -> None:
    """The same error: it never ends."""

    @opened.task
    async def work(value: Any) -> None: ...

    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(ArgumentError, match=r"argument value.* contains itself"):
        await work.enqueue(endless)


async def test_fifty_levels_are_fine(tasks: TaskManager) -> None:
    """Both ways."""

    @tasks.task
    async def echo(value: Any) -> Any:
        return value

    async with tasks:
        assert await (await echo.enqueue(nested(50, "list"))) == nested(50, "list")


# ---- the same for results


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: nested(10_000, "list"), "nested"),
        (lambda: "x" * 100_000_000, "limit is 1048576"),
        (lambda: "\ud800", "lone surrogate"),
        (lambda: float("nan"), "nan"),
        (lambda: {1, 2}, "of type set"),
        (lambda: object(), "of type object"),
    ],
    ids=["deep", "large", "surrogate", "nan", "set", "object"],
)
@pytest.mark.parametrize("in_thread", [False, True])
async def test_results_that_cannot_be_stored(
    tasks: TaskManager, make: Any, told: str, in_thread: bool
) -> None:
    """The task has failed, with a ResultError that says what was wrong with the result."""

    @tasks.task
    async def coroutine() -> Any:
        return make()

    @tasks.task
    def plain() -> Any:
        return make()

    async with tasks:
        handle = await (plain if in_thread else coroutine).enqueue()
        with pytest.raises(TaskFailed, match=told) as caught:
            await handle.result(15)
        assert isinstance(caught.value.__cause__, ResultError)
        assert (await handle.task()).state is State.FAILED


# ---- user code that runs while values are stored


async def test_an_argument_whose_code_raises(opened: TaskManager) -> None:
    """The error is chained, and the parameter named."""

    class Bad:
        def __getattr__(self, name: str) -> object:
            raise ZeroDivisionError(name)

    @opened.task
    async def work(value: Any) -> None: ...

    with pytest.raises(ArgumentError, match="argument value"):
        await work.enqueue(Bad())


async def test_a_key_function_that_raises(opened: TaskManager) -> None:
    """Its error comes out of the call as it is."""

    def key_of(n: int) -> str:
        raise ZeroDivisionError("in the key")

    @opened.task(key=key_of)
    async def work(n: int) -> None: ...

    with pytest.raises(ZeroDivisionError, match="in the key"):
        await work.enqueue(1)


@pytest.mark.parametrize("made", ["", "a\0", "\ud800", "x" * 1001, 7])
async def test_a_key_that_is_no_text(opened: TaskManager, made: object) -> None:
    """TypeError or ValueError, naming the task function whose key it is."""

    @opened.task(key=lambda: made)  # type: ignore[arg-type,return-value] # on purpose
    async def work() -> None: ...

    with pytest.raises((TypeError, ValueError), match=r"key of .*work"):
        await work.enqueue()
    await settled(opened)
