"""What users hold in their hands: names, signatures, docstrings, errors. A change here is a promise
kept, made or broken, and is made on purpose.
"""

import inspect
import re
from collections.abc import Callable

import pytest

import inloop
import inloop.testing
from inloop import TaskFunction, TaskHandle, TaskManager, _errors

NAMES = """
    ArgumentError AsyncTaskFunction Attempt AuditEntry Call ErrorText Event GiveUp IllegalMove
    InloopError Key LogLine NotOpen Owner Page Pause Progress Queue Recovered Recovery ResultError
    Retry SchemaTooNew Snooze State StoreBusy StoreCorrupt StoreError StoreFull StoreGone
    StoreReadOnly SyncTaskFunction Task TaskCancelled TaskFailed TaskFunction TaskHandle TaskManager
    TaskNotFound UnknownTaskFunction checkpoint current_task exponential log progress track
"""

BY = "reason=None, actor='code'"
WORDS = "state=None, name=None, queue=None, tag=None, text=None, since=None, until=None"
OPTIONS = (
    "name=None, queue='default', priority=0, retry=Retry(attempts=1), timeout=None, expires=None, "
    "key=None, on_crash='rerun', runs_in=None, tags=()"
)

FUNCTIONS = {
    "checkpoint": "()",
    "current_task": "()",
    "exponential": "(base=1, factor=2, maximum=3600, jitter=0.1)",
    "progress": "(done, total=None, message=None)",
    "track": "(items, total=None)",
    "GiveUp": "(reason='gave up')",
    "Key": "(template, keep=None)",
    "Queue": "(concurrency=None)",
    "Retry": "(attempts, backoff=exponential(), on=(Exception,), give_up_on=())",
    "Snooze": "(seconds)",
    "TaskManager": (
        "(store='inloop.db', *, name=None, concurrency=100, queues=None, durability='full', "
        "retention=datetime.timedelta(days=7), grace=10.0, work=True, capture_logs=20, "
        "max_lag=0.1, max_size=1048576)"
    ),
}

TESTING = {
    "FakeClock": "(start=datetime.datetime(2026, 1, 1, 0, 0, tzinfo=datetime.timezone.utc))",
    "crash": "(tasks)",
    "running": "(tasks, *, clock=None)",
    "settled": "(tasks, *, timeout=5.0)",
}

CONTROL = {
    "cancel": f"(id, *, {BY})",
    "pause": f"(id, *, {BY})",
    "resume": f"(id, *, {BY})",
    "retry": f"(id, *, {BY})",
    "fail": f"(id, *, {BY})",
    "delete": f"(id, *, {BY})",
    "restore": f"(id, *, {BY})",
    "reschedule": f"(id, at=None, *, {BY})",
    "cancel_where": f"(*, everything=False, {BY}, **words)",
    "pause_where": f"(*, everything=False, {BY}, **words)",
    "resume_where": f"(*, everything=False, {BY}, **words)",
    "retry_where": f"(*, everything=False, {BY}, **words)",
    "delete_where": f"(*, everything=False, {BY}, **words)",
    "pause_queue": f"(name, until=None, *, {BY})",
    "resume_queue": f"(name, *, {BY})",
    "pause_all": f"(until=None, *, {BY})",
    "resume_all": f"(*, {BY})",
    "set_queue": f"(name, *, concurrency, {BY})",
    "take_over": f"(owner_id, *, {BY})",
}

MANAGER = CONTROL | {
    "task": f"(function=None, /, *, {OPTIONS})",
    "lifespan": "(app)",
    "handle": "(id, returns=None)",
    "subscribe": "()",
    "connect": "()",
    "drain": "(timeout=None)",
    "prune": "(before=None, *, reason=None, actor='code')",
    "get": "(id)",
    "find": f"(*, {WORDS}, limit=50, cursor=None)",
    "counts": "()",
    "attempts": "(id)",
    "events": "(id)",
    "logs": "(id, *, after=0, limit=1000)",
    "owners": "()",
    "recoveries": "(limit=50)",
    "pauses": "()",
    "audit": "(*, before=None, limit=100)",
}

HANDLE = {
    "result": "(timeout=None)",
    "task": "()",
    "cancel": f"(*, {BY})",
    "pause": f"(*, {BY})",
    "resume": f"(*, {BY})",
    "retry": f"(*, {BY})",
    "watch": "()",
}

FUNCTION = {
    "enqueue": "(*args, **kwargs)",
    "enqueue_many": "(calls)",
    "call": "(*args, **kwargs)",
    "using": (
        "(*, delay=None, at=None, queue=None, priority=None, key=None, retry=None, timeout=None, "
        "expires=None, tags=None, connection=None)"
    ),
}


def shape(function: Callable[..., object]) -> str:
    """A signature without its types: names, kinds and defaults; as one reads it in the docs."""
    found = inspect.signature(function)
    parameters = [
        one.replace(annotation=inspect.Parameter.empty)
        for name, one in found.parameters.items()
        if name != "self"
    ]
    text = str(inspect.Signature(parameters))
    backoff = "Exponential(base=1, factor=2, maximum=3600, jitter=0.1)"
    never = f"backoff={backoff}, on=(<class 'Exception'>,), give_up_on=()"
    text = text.replace(f"Retry(attempts=1, {never})", "Retry(attempts=1)")
    text = text.replace(backoff, "exponential()")
    return text.replace("<class 'Exception'>", "Exception")


def methods(cls: type) -> dict[str, str]:
    """The public methods of a class."""
    found = inspect.getmembers(cls, inspect.isfunction)
    return {name: shape(one) for name, one in found if not name.startswith("_")}


def test_the_exported_names_are_these() -> None:
    """`from inloop import *` gives exactly the promised names, listed in order."""
    assert inloop.__all__ == sorted(inloop.__all__) == NAMES.split()
    assert all(hasattr(inloop, name) for name in inloop.__all__)


def test_nothing_public_is_left_unexported() -> None:
    """A name in the package without an underscore is in `__all__`, or a module that is one."""
    public = {name for name in vars(inloop) if not name.startswith("_")}
    assert public - set(inloop.__all__) == {"testing"}


def test_the_names_for_tests_are_these() -> None:
    """`inloop.testing` exports exactly what it promises."""
    assert inloop.testing.__all__ == sorted(inloop.testing.__all__) == sorted(TESTING)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_take(name: str) -> None:
    """Names, kinds and defaults of the parameters of each public function and class."""
    assert shape(getattr(inloop, name)) == FUNCTIONS[name]


@pytest.mark.parametrize("name", TESTING)
def test_helpers_for_tests_take(name: str) -> None:
    """The same for `inloop.testing`."""
    assert shape(getattr(inloop.testing, name)) == TESTING[name]


@pytest.mark.parametrize(
    ("cls", "promised"),
    [(TaskManager, MANAGER), (TaskHandle, HANDLE), (TaskFunction, FUNCTION)],
    ids=["TaskManager", "TaskHandle", "TaskFunction"],
)
def test_methods_are_these_and_take(cls: type, promised: dict[str, str]) -> None:
    """The public methods of each public class, with their parameters; and no others."""
    assert methods(cls) == promised


@pytest.mark.parametrize("name", CONTROL)
def test_every_control_verb_takes_who_and_why(name: str) -> None:
    """`reason` and `actor` are keyword-only, with the same defaults everywhere."""
    parameters = inspect.signature(getattr(TaskManager, name)).parameters
    for word, default in (("reason", None), ("actor", "code")):
        assert parameters[word].kind is inspect.Parameter.KEYWORD_ONLY
        assert parameters[word].default == default


def public_things() -> dict[str, object]:
    """Every public function, class, method and property, by its name."""
    found: dict[str, object] = {}
    for module in (inloop, inloop.testing):
        for name in module.__all__:
            thing = getattr(module, name)
            if inspect.isclass(thing):
                found |= {
                    f"{name}.{member}": value
                    for member, value in vars(thing).items()
                    if not member.startswith("_")
                    and (inspect.isfunction(value) or isinstance(value, property))
                }
            if name != "log":
                found[name] = thing
    return found


@pytest.mark.parametrize("name", sorted(public_things()))
def test_every_public_name_has_a_docstring(name: str) -> None:
    """A sentence that says what it does or is, not the one that `dataclass` writes by itself."""
    thing = public_things()[name]
    told = inspect.getdoc(thing) or ""
    assert re.match(r".+[.:]\s", told + "\n", re.DOTALL), told
    if inspect.isclass(thing):
        assert not told.startswith(f"{thing.__name__}(")


def drawn_tree() -> dict[str, list[str]]:
    """The drawing at the top of `_errors.py`: each error with its base, and its other bases."""
    drawing = [line for line in (_errors.__doc__ or "").splitlines() if re.search("[├└]── ", line)]
    above = ["InloopError"]
    tree: dict[str, list[str]] = {"InloopError": ["Exception"]}
    for line in drawing:
        found = re.search(r"── (\w+)(.*)", line)
        assert found is not None
        depth = found.start() // 4
        more = re.search(r"\((\w+Error)\)", found[2])
        tree[found[1]] = [above[depth], *([more[1]] if more else [])]
        above[depth + 1 :] = [found[1]]
    return tree


def test_the_errors_form_the_tree_that_is_drawn() -> None:
    """Every error has its place in the drawing, and there are no others."""
    real = {
        name: [base.__name__ for base in thing.__bases__]
        for name, thing in vars(_errors).items()
        if inspect.isclass(thing)
    }
    assert real == drawn_tree()


@pytest.mark.parametrize("name", sorted(drawn_tree()))
def test_every_error_is_exported(name: str) -> None:
    """Whoever wants to catch an error can name it."""
    assert name in inloop.__all__


def test_what_a_task_raises_on_purpose_is_no_error_of_inloop() -> None:
    """`except InloopError` in a task does not catch its own `Snooze` or `GiveUp`."""
    assert not issubclass(inloop.Snooze, inloop.InloopError)
    assert not issubclass(inloop.GiveUp, inloop.InloopError)
