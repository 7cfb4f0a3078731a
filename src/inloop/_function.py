"""Task functions: the user's function, its options, and how a call of it becomes a task."""

import copy
import inspect
import json
import re
import string
import sys
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Literal, ParamSpec, TypeVar

from inloop import _retry
from inloop import _texts as texts
from inloop._checks import check_priority, check_tags, check_text, duration, instant, to_whole
from inloop._codec import Signature, is_large
from inloop._errors import ResultError
from inloop._exchange import NewTask
from inloop._model import Micros, new_id, to_micros
from inloop._outcome import RetryRule
from inloop._retry import Retry

if TYPE_CHECKING:
    from typing import Self

    from inloop._handle import TaskHandle
    from inloop._manager import TaskManager

P = ParamSpec("P")
R = TypeVar("R")

OnCrash = Literal["rerun", "fail", "hold"]
RunsIn = Literal["loop", "thread"]
KeyLike = "str | Key | Callable[..., str | None]"


@dataclass(frozen=True, slots=True)
class Key:
    """A key that also answers for finished tasks, for `keep` after they finished.

    template: such as "invoice:{order_id}", or a function of the task's arguments.
    """

    template: str | Callable[..., str | None]
    keep: float | timedelta | None = None

    def __post_init__(self) -> None:
        if self.keep is not None:
            duration(self.keep, "keep")


@dataclass(frozen=True, slots=True)
class Options:
    """What was said about a task function, checked."""

    name: str
    queue: str = "default"
    priority: int = 0
    retry: Retry = _retry.NEVER
    timeout: float | None = None
    expires: float | None = None
    key: Key | None = None
    on_crash: OnCrash = "rerun"
    tags: tuple[str, ...] = ()


class TaskFunction(Generic[P, R]):
    """A function whose calls can be stored as tasks; made by `@tasks.task`."""

    is_async = False

    def __init__(
        self, manager: "TaskManager", function: Callable[..., Any], options: Options
    ) -> None:
        self._manager = manager
        self._options = options
        self._signature = Signature(function)
        self._delay: float | None = None
        self._at: datetime | None = None
        self._connection: object = None
        self._changed: dict[str, object] = {}
        # A new one for each time that the module is executed.
        self._spec: object = getattr(sys.modules.get(function.__module__), "__spec__", None)
        self.function = function
        self.name = options.name
        self.__wrapped__ = function
        self.__doc__ = function.__doc__
        self.__name__ = function.__name__
        self.__qualname__ = function.__qualname__
        self.__module__ = function.__module__
        if options.key is not None:
            check_key(options.key, self._signature.parameters, self.name)

    def __repr__(self) -> str:
        return f"<task function {self.name!r}>"

    def __get__(self, instance: object, owner: type | None = None) -> "Self":
        return self

    # ---- for its users

    def using(
        self,
        *,
        delay: float | timedelta | None = None,
        at: datetime | None = None,
        queue: str | None = None,
        priority: int | None = None,
        key: "str | Key | Callable[..., str | None] | None" = None,
        retry: Retry | None = None,
        timeout: float | timedelta | None = None,
        expires: float | timedelta | None = None,
        tags: Iterable[str] | None = None,
        connection: object = None,
    ) -> "Self":
        """The same task function with other options for the calls made through it.

        delay: seconds until it is due. at: the aware datetime when it is due; not both. connection:
        an open transaction on the same database; the task exists exactly if that commits. The
        others are those of `@tasks.task`; None leaves what was declared. Raises `TypeError` or
        `ValueError` for a value that cannot be meant.
        """
        if delay is not None and at is not None:
            raise ValueError(f"using(delay={delay!r}, at={at!r}): give one of the two")
        other = copy.copy(self)
        other._changed = dict(self._changed)
        if delay is not None:
            other._delay, other._at = duration(delay, "delay", least=0.0), None
        if at is not None:
            other._at, other._delay = instant(at, "at"), None
        if connection is not None:
            other._connection = connection
        changes: dict[str, Any] = {}
        if queue is not None:
            changes["queue"] = check_text(queue, "queue")
        if priority is not None:
            changes["priority"] = check_priority(priority)
        if key is not None:
            changes["key"] = as_key(key)
            check_key(changes["key"], self._signature.parameters, self.name)
        if expires is not None:
            changes["expires"] = duration(expires, "expires")
        if tags is not None:
            changes["tags"] = check_tags(tags)
        if retry is not None:
            changes["retry"] = check_retry(retry)
            other._changed["retry"] = _retry.dump(retry)
        if timeout is not None:
            changes["timeout"] = other._changed["timeout"] = duration(timeout, "timeout")
        other._options = replace(self._options, **changes)
        return other

    async def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> "TaskHandle[R]":
        """Store a call of this function as a task, and return a handle to it once it is durable.

        If a task with the same key is unfinished, its handle is returned instead, with `created`
        False. Raises `TypeError` for a call that does not fit the function, `ArgumentError` for an
        argument that cannot be stored, `NotOpen` outside the manager's lifespan, and `StoreError`
        when the store cannot do it. If this is cancelled or raises, the task may exist or not.
        """
        manager = self._manager
        await manager._ready()
        bound = self._signature.bind(args, kwargs)
        if is_large(bound):
            encode = partial(self._signature.encode, bound, manager._max_size)
            text = await manager._in_thread(encode)
        else:
            text = self._signature.encode(bound, manager._max_size)
        new = self._new(bound, text, manager._clock.now())
        (handle,) = await manager._add(self, [new], self._connection)
        return handle

    def call(self, *args: P.args, **kwargs: P.kwargs) -> "Call[P, R]":
        """A call of this function, for `enqueue_many`; a wrong one raises `TypeError` here."""
        return Call(self, self._signature.bind(args, kwargs))

    async def enqueue_many(
        self, calls: "Iterable[Call[P, R] | tuple[Any, ...]]"
    ) -> "list[TaskHandle[R]]":
        """Store many calls in one transaction: all of them, or none.

        calls: made by `call(...)`, or tuples of positional arguments. Handles come in their order.
        Raises as `enqueue` does.
        """
        manager = self._manager
        await manager._ready()
        encode = partial(self._encode_all, list(calls), manager._clock.now())
        news = await manager._in_thread(encode)
        return await manager._add(self, news, self._connection) if news else []

    def _bind_one(self, call: "Call[P, R] | tuple[Any, ...]") -> dict[str, object]:
        if isinstance(call, Call):
            if call.function.function is not self.function:
                raise TypeError(f"enqueue_many: {call!r} is not a call of {self.name!r}")
            if call.function._connection not in (None, self._connection):
                raise TypeError(
                    "enqueue_many: one call has a connection= of its own; give it to all: "
                    "f.using(connection=…).enqueue_many(…)"
                )
            return call.bound
        if not isinstance(call, tuple):
            raise TypeError(f"enqueue_many: {call!r} must be a tuple of arguments, or f.call(…)")
        return self._signature.bind(call, {})

    def _encode_all(
        self, calls: "Sequence[Call[P, R] | tuple[Any, ...]]", now: Micros
    ) -> list[NewTask]:
        return [self._encode_one(call, now) for call in calls]

    def _encode_one(self, call: "Call[P, R] | tuple[Any, ...]", now: Micros) -> NewTask:
        # A call made through `using` keeps what was said there.
        function = call.function if isinstance(call, Call) else self
        bound = self._bind_one(call)
        text = self._signature.encode(bound, self._manager._max_size)
        return function._new(bound, text, now)

    def _new(self, bound: dict[str, object], arguments: str, now: Micros) -> NewTask:
        options = self._options
        due = now
        if self._delay is not None:
            due = now + round(self._delay * 1e6)
        elif self._at is not None:
            due = to_micros(self._at)
        key = options.key
        return NewTask(
            id=new_id(),
            name=self.name,
            queue=options.queue,
            due=due,
            created=now,
            priority=options.priority,
            arguments=arguments,
            key=None if key is None else self._key(key, bound),
            keep=None if key is None or key.keep is None else to_whole(duration(key.keep, "keep")),
            expires=None if options.expires is None else due + to_whole(options.expires),
            options=json.dumps(self._changed) if self._changed else None,
            tags=texts.dump_tags(options.tags),
            on_crash=options.on_crash,
        )

    def _key(self, key: Key, bound: dict[str, object]) -> str | None:
        if isinstance(key.template, str):
            try:
                made: object = key.template.format(**bound)
            except (LookupError, AttributeError, ValueError, TypeError) as error:
                raise ValueError(
                    f"key={key.template!r} does not fit the arguments of {self.name!r}: {error!r}"
                ) from error
        else:
            args, kwargs = self._signature.spread(bound)
            made = key.template(*args, **kwargs)
            if made is None:
                return None
        return check_text(made, f"key of {self.name!r}")

    # ---- for the engine

    def _bind_stored(self, arguments: str) -> Callable[[], Any]:
        """The call that stored arguments describe."""
        args, kwargs = self._signature.decode(arguments)
        return partial(self.function, *args, **kwargs)

    def _encode_result(self, value: object) -> str:
        """The result as it is stored."""
        if inspect.iscoroutine(value):
            value.close()
            raise ResultError(
                f"task function {self.name!r} returned a coroutine: await it inside, or declare "
                f"the function with async def"
            )
        return self._signature.result().encode(value, self._manager._max_size)

    def _decode_result(self, text: str) -> R:
        """A stored result."""
        value: Any = self._signature.result().decode(text)
        result: R = value
        return result

    def _is_large(self, value: object) -> bool:
        """Whether to encode it in a thread."""
        return is_large(value)

    def _rules(self, changed: str | None) -> tuple[RetryRule, float | None]:
        """Retry and timeout of one task: as declared, or as `using` said when it was enqueued."""
        if changed is None:
            return self._options.retry, self._options.timeout
        said: Mapping[str, Any] = json.loads(changed)
        retry = _retry.load(said["retry"]) if "retry" in said else self._options.retry
        return retry, said.get("timeout", self._options.timeout)


class AsyncTaskFunction(TaskFunction[P, R]):
    """A task function made from an `async def`."""

    is_async = True

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Call the plain function; no task is made."""
        coroutine: Coroutine[Any, Any, R] = self.function(*args, **kwargs)
        return coroutine


class SyncTaskFunction(TaskFunction[P, R]):
    """A task function made from a `def`; its tasks run in threads."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the plain function; no task is made."""
        result: R = self.function(*args, **kwargs)
        return result


@dataclass(frozen=True, slots=True)
class Call(Generic[P, R]):
    """A call of a task function, not yet enqueued."""

    function: TaskFunction[P, R]
    bound: dict[str, object]


# ---- declarations, checked where they are written -------------------------------------------


def check_function(function: object, runs_in: str | None) -> bool:
    """Whether it is an `async def`; refused if it cannot be a task function."""
    if isinstance(function, TaskFunction):
        raise TypeError(f"{function!r} is a task function already")
    if not inspect.isfunction(function):
        raise TypeError(
            f"@tasks.task: {function!r} is not a plain function; methods, classes, partials and "
            f"callable objects cannot be found again after a restart"
        )
    name = function.__qualname__
    if function.__name__ == "<lambda>":
        raise TypeError("@tasks.task: a lambda has no name to be found again by: use def")
    parent = name.rpartition(".")[0]
    if parent and not parent.endswith("<locals>"):
        raise TypeError(f"@tasks.task: {name} is a method: declare a function outside the class")
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        raise TypeError(f"@tasks.task: {name} is a generator: a task returns one result")
    is_async = inspect.iscoroutinefunction(function)
    fitting = "loop" if is_async else "thread"
    if runs_in not in (None, fitting):
        raise ValueError(
            f"@tasks.task(runs_in={runs_in!r}): {name} is {'an async def' if is_async else 'a def'}"
            f" and runs in the {fitting!r}; give runs_in={fitting!r} or leave it out"
        )
    return is_async


def check_retry(retry: object) -> Retry:
    """A `Retry`."""
    if not isinstance(retry, Retry):
        raise TypeError(f"retry={retry!r}: must be Retry(attempts=…)")
    return retry


def as_key(key: object) -> Key:
    """A `Key`, from whatever may be given for one."""
    if isinstance(key, Key):
        return key
    if isinstance(key, str) or callable(key):
        return Key(key)
    raise TypeError(f"key={key!r}: must be a template such as 'mail:{{user_id}}', or a function")


def check_key(key: Key, parameters: Sequence[str], name: str) -> None:
    """A template's placeholders are parameters of the function."""
    if not isinstance(key.template, str):
        return
    check_text(key.template, "key")
    try:
        fields = [field for _, field, _, _ in string.Formatter().parse(key.template)]
    except ValueError as error:
        raise ValueError(f"key={key.template!r}: {error}") from error
    for field in fields:
        if field is None:
            continue
        root = re.split(r"[.\[]", field)[0]
        if root not in parameters:
            raise ValueError(
                f"key={key.template!r}: {{{field}}} is no parameter of {name}; it has "
                f"{', '.join(parameters) or 'none'}"
            )
