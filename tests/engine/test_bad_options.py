"""Options that cannot be meant: refused where they are written, by name, with what would do."""

import functools
import importlib
import sys
import types
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from inloop import Key, Queue, Retry, TaskManager

pytestmark = pytest.mark.anyio

INF, NAN = float("inf"), float("nan")


# ---- TaskManager


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"store": ""}, ValueError, r"store=''.*path of a file"),
        ({"store": "a\0b"}, ValueError, r"store=.*path of a file"),
        ({"store": b"tasks.db"}, TypeError, r"store=.*path or a URL"),
        ({"store": 7}, TypeError, r"store=7.*path or a URL"),
        ({"store": "mysql://host/db"}, ValueError, r"store='mysql://host/db'.*sqlite:///path"),
        ({"store": "sqlite://tasks.db"}, ValueError, r"sqlite:///relative\.db"),
        ({"name": ""}, ValueError, r"name=''"),
        ({"name": 7}, TypeError, r"name=7: must be text"),
        ({"concurrency": 0}, ValueError, r"concurrency=0: must be 1"),
        ({"concurrency": -1}, ValueError, r"concurrency=-1"),
        ({"concurrency": 1.5}, TypeError, r"concurrency=1\.5: must be a whole number"),
        ({"concurrency": True}, TypeError, r"concurrency=True"),
        ({"queues": {"mail": 3}}, TypeError, r"queues\['mail'\]=3: must be Queue\(concurrency=…\)"),
        ({"queues": {"": Queue()}}, ValueError, r"queues=''"),
        ({"queues": {7: Queue()}}, TypeError, r"queues=7: must be text"),
        ({"durability": "fast"}, ValueError, r"durability='fast'.*'full' or 'normal'"),
        ({"retention": "7 days"}, TypeError, r"retention='7 days'.*duration"),
        ({"retention": timedelta(-1)}, ValueError, r"retention=.*0 or more"),
        ({"retention": {"queued": None}}, ValueError, r"queued.*final states are"),
        ({"retention": {"failed": "7 days"}}, TypeError, r"retention='7 days'.*timedelta"),
        ({"grace": -1}, ValueError, r"grace=-1.*0 or more"),
        ({"grace": "10"}, TypeError, r"grace='10'.*seconds"),
        ({"grace": NAN}, ValueError, r"grace=nan"),
        ({"capture_logs": "LOUD"}, (TypeError, ValueError), r"capture_logs='LOUD'"),
        ({"capture_logs": None}, TypeError, r"capture_logs=None"),
        ({"max_lag": 0}, ValueError, r"max_lag=0.*more than 0"),
        ({"max_lag": -1}, ValueError, r"max_lag=-1"),
        ({"max_size": 0}, ValueError, r"max_size=0"),
        ({"max_size": "1 MB"}, TypeError, r"max_size='1 MB'"),
    ],
)
def test_a_managers_options(
    options: dict[str, Any], error: type[Exception], told: str, tmp_path: Path
) -> None:
    """At construction, before anything is opened."""
    with pytest.raises(error, match=told):
        TaskManager(**({"store": tmp_path / "tasks.db"} | options))


def test_positional_options_are_refused(path: Path) -> None:
    """All but the store are keywords."""
    with pytest.raises(TypeError):
        TaskManager(path, "name")  # type: ignore[call-arg] # on purpose


@pytest.mark.parametrize("value", ["soon", "-1", "nan", "inf"])
async def test_a_grace_in_the_environment_that_is_none(
    tasks: TaskManager, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    """ValueError, naming the variable; the manager is closed all the same."""
    monkeypatch.setenv("INLOOP_GRACE", value)
    with pytest.raises(ValueError, match=rf"INLOOP_GRACE='?{value}"):
        async with tasks:
            pass
    monkeypatch.delenv("INLOOP_GRACE")
    async with tasks:  # it was not left open
        assert await tasks.counts() == {}


@pytest.mark.parametrize("slots", [-1, 1.5, "3"])
def test_a_queues_slots(slots: Any) -> None:
    """The value, and what it must be."""
    with pytest.raises((TypeError, ValueError), match=r"concurrency="):
        Queue(concurrency=slots)


# ---- task functions


class Shop:
    """A class of the app's."""

    async def method(self) -> None: ...

    @staticmethod
    async def static() -> None: ...

    async def __call__(self) -> None: ...


async def numbers() -> AsyncIterator[int]:
    yield 1


def lines() -> Iterator[str]:
    yield "a"


async def work(user_id: int = 1) -> None: ...


def plain() -> None: ...


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (Shop.method, r"Shop\.method is a method"),
        (Shop().method, r"is not a plain function; methods"),
        (Shop.static, r"Shop\.static is a method"),
        (Shop, r"is not a plain function"),
        (Shop(), r"is not a plain function.*callable objects"),
        (functools.partial(work, 1), r"is not a plain function.*partials"),
        (numbers, r"numbers is a generator: a task returns one result"),
        (lines, r"lines is a generator"),
        (len, r"is not a plain function"),
        ("work", r"'work' is not a plain function"),
    ],
)
def test_what_cannot_be_a_task_function(tasks: TaskManager, function: Any, told: str) -> None:
    """TypeError at declaration, and why."""
    with pytest.raises(TypeError, match=told):
        tasks.task(function)
    with pytest.raises(TypeError, match=told):
        tasks.task(queue="mail")(function)


def test_a_task_function_is_not_declared_twice(tasks: TaskManager) -> None:
    """Decorating what is decorated already is a mistake."""
    with pytest.raises(TypeError, match="is a task function already"):
        tasks.task(tasks.task(work))


def test_two_functions_of_one_name(tasks: TaskManager) -> None:
    """ValueError, naming both and where they are; the first stays."""
    declared = tasks.task(work)
    with pytest.raises(ValueError, match=r"two task functions are named 'work': .*name=…") as told:
        tasks.task(name="work")(plain)
    assert str(told.value).count("test_bad_options.py:") == 2
    assert tasks._functions["work"] is declared


def test_two_functions_of_one_name_in_one_module(tasks: TaskManager) -> None:
    """The same, also where the second has been pasted over the first."""
    tasks.task(work)
    first = tasks._functions["work"]

    async def other(user_id: int) -> int:
        return user_id

    other.__qualname__ = "work"
    with pytest.raises(ValueError, match="two task functions are named 'work'"):
        tasks.task(other)
    assert tasks._functions["work"] is first


def test_a_recursive_local_function_declared_twice(tasks: TaskManager) -> None:
    """Its own name is still unknown while it is declared; the error is the usual one."""

    def declare() -> None:
        @tasks.task
        async def again() -> None:
            await again.enqueue()

    declare()
    with pytest.raises(ValueError, match="two task functions are named"):
        declare()


def test_a_reload_replaces_its_function(
    tasks: TaskManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module that is executed again declares its functions anew: no error."""
    (tmp_path / "reloaded_app.py").write_text(
        "import reloaded_manager\n\n"
        "@reloaded_manager.tasks.task\n"
        "async def work():\n    return reloaded_manager.version\n"
    )
    manager: Any = types.ModuleType("reloaded_manager")
    manager.tasks, manager.version = tasks, 1
    monkeypatch.setitem(sys.modules, "reloaded_manager", manager)
    monkeypatch.syspath_prepend(tmp_path)
    app: Any = importlib.import_module("reloaded_app")
    monkeypatch.setitem(sys.modules, "reloaded_app", app)
    first = app.work
    importlib.reload(app)
    assert app.work is not first
    assert tasks._functions["work"] is app.work


OPTIONS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"name": ""}, ValueError, r"name=''"),
    ({"name": 7}, TypeError, r"name=7"),
    ({"queue": ""}, ValueError, r"queue=''"),
    ({"queue": None}, TypeError, r"queue=None"),
    ({"priority": "high"}, TypeError, r"priority='high'.*higher runs first"),
    ({"priority": 1.5}, TypeError, r"priority=1\.5"),
    ({"priority": 2**40}, ValueError, r"priority=1099511627776"),
    ({"retry": 3}, TypeError, r"retry=3: must be Retry\(attempts=…\)"),
    ({"timeout": 0}, ValueError, r"timeout=0.*more than 0"),
    ({"timeout": -5}, ValueError, r"timeout=-5"),
    ({"timeout": INF}, ValueError, r"timeout=inf"),
    ({"timeout": NAN}, ValueError, r"timeout=nan"),
    ({"timeout": "30"}, TypeError, r"timeout='30'.*seconds, or a timedelta"),
    ({"timeout": True}, TypeError, r"timeout=True"),
    ({"expires": -1}, ValueError, r"expires=-1"),
    ({"expires": timedelta(0)}, ValueError, r"expires=.*more than 0"),
    ({"key": "mail:{user}"}, ValueError, r"\{user\} is no parameter of .*work; it has user_id"),
    ({"key": "mail:{}"}, ValueError, r"key='mail:\{\}'"),
    ({"key": "mail:{0}"}, ValueError, r"key='mail:\{0\}'"),
    ({"key": "mail:{user_id"}, ValueError, r"key='mail:\{user_id'"),
    ({"key": ""}, ValueError, r"key=''"),
    ({"key": 7}, TypeError, r"key=7: must be a template"),
    ({"tags": "mail"}, TypeError, r"tags='mail'.*such as \('mail',\)"),
    ({"tags": (1,)}, TypeError, r"tag=1: must be text"),
    ({"tags": ("",)}, ValueError, r"tag=''"),
    ({"on_crash": "explode"}, ValueError, r"on_crash='explode': must be 'rerun', 'fail' or 'hold'"),
    ({"runs_in": "thread"}, ValueError, r"runs_in='thread'.*async def.*'loop'"),
    ({"runs_in": "moon"}, ValueError, r"runs_in='moon'"),
]


@pytest.mark.parametrize(("options", "error", "told"), OPTIONS)
def test_a_task_functions_options(
    tasks: TaskManager, options: dict[str, Any], error: type[Exception], told: str
) -> None:
    """At declaration: the option, the value, and what it must be."""
    with pytest.raises(error, match=told):
        tasks.task(**options)(work)
    assert tasks._functions == {}


def test_a_plain_function_does_not_run_in_the_loop(tasks: TaskManager) -> None:
    """It would block it."""
    with pytest.raises(ValueError, match=r"runs_in='loop'.*plain is a def.*'thread'"):
        tasks.task(runs_in="loop")(plain)


def test_a_keys_keep() -> None:
    """A time, and not a negative one."""
    with pytest.raises(ValueError, match="keep"):
        Key("a", keep=timedelta(-1))
    with pytest.raises(TypeError, match="keep='7 days'"):
        Key("a", keep="7 days")  # type: ignore[arg-type] # on purpose


# ---- using

USING: list[tuple[dict[str, Any], type[Exception], str]] = [
    *[one for one in OPTIONS if not {"name", "on_crash", "runs_in"} & set(one[0])],
    ({"delay": -1}, ValueError, r"delay=-1.*0 or more"),
    ({"delay": timedelta(seconds=-1)}, ValueError, r"delay="),
    ({"delay": INF}, ValueError, r"delay=inf"),
    ({"delay": "60"}, TypeError, r"delay='60'.*seconds, or a timedelta"),
    ({"delay": timedelta(days=365 * 200)}, ValueError, r"at most 100 years"),
    ({"at": datetime(2030, 1, 1)}, ValueError, r"at=.*no time zone.*datetime\.now\(UTC\)"),
    ({"at": "2030-01-01"}, TypeError, r"at='2030-01-01'.*datetime with a time zone"),
    ({"at": 1893456000}, TypeError, r"at=1893456000"),
    ({"at": datetime.max.replace(tzinfo=UTC)}, ValueError, r"at="),
    (
        {"at": datetime.max.replace(tzinfo=timezone(timedelta(hours=-10)))},
        ValueError,
        r"at=",
    ),
    (
        {"at": datetime(2030, 1, 1, tzinfo=UTC), "delay": 60},
        ValueError,
        r"give one of the two",
    ),
]


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [one for one in USING if one[0] != {"queue": None}],  # None leaves what was declared
)
def test_what_using_refuses(
    tasks: TaskManager, options: dict[str, Any], error: type[Exception], told: str
) -> None:
    """At the call of `using`, not at the enqueue."""
    declared = tasks.task(work)
    with pytest.raises(error, match=told):
        declared.using(**options)


def test_negative_attempts() -> None:
    """Refused by Retry itself."""
    with pytest.raises(ValueError, match="attempts=-1"):
        Retry(attempts=-1)
