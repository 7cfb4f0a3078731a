"""Calls are bound as Python binds them, stored by parameter, and found again after a deploy."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    NotRequired,
    ParamSpec,
    Self,
    TypedDict,
    TypeVar,
    Unpack,
)
from uuid import UUID

import pytest
import typing_extensions
from hypothesis import given
from hypothesis import strategies as st

from inloop._codec import Signature
from inloop._errors import ArgumentError, ResultError

if TYPE_CHECKING:
    from decimal import Decimal as OnlyForCheckers

T = TypeVar("T")
P = ParamSpec("P")
Json = list["Json"] | dict[str, "Json"] | int | None


def send_mail(user_id: int, subject: str, *, urgent: bool = False) -> str:
    return subject


def only_positional(a: int, b: str = "b", /, c: int = 3) -> None: ...


def variadic(first: int, *rest: date, flag: bool = True, **options: UUID) -> None: ...


def untyped(x, y=1):  # type: ignore[no-untyped-def]  # that is the point
    return x


def later(order: Order, more: list[Order] | None = None) -> Order:
    return order


@dataclass
class Order:
    id: UUID
    price: float
    parts: list[Order] = field(default_factory=list)
    twin: Self | None = None


@dataclass
class Page(Generic[T]):
    items: list[T]


@dataclass
class Stamp:
    when: date


class Options(TypedDict):
    x: int
    y: NotRequired[date]


def call(function: Callable[..., object], *args: object, **kwargs: object) -> object:
    """Bind, store, read again: what the function gets."""
    signature = Signature(function)
    return signature.decode(signature.encode(signature.bind(args, kwargs)))


def refused(function: Callable[..., object], *args: object, **kwargs: object) -> str:
    signature = Signature(function)
    bound = signature.bind(args, kwargs)
    with pytest.raises(ArgumentError) as caught:
        signature.encode(bound)
    return str(caught.value)


# ---- binding --------------------------------------------------------------------------------


def test_parameters() -> None:
    """The names of the parameters, in order."""
    assert Signature(variadic).parameters == ("first", "rest", "flag", "options")


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "bound"),
    [
        (send_mail, (1, "a"), {}, {"user_id": 1, "subject": "a", "urgent": False}),
        (
            send_mail,
            (),
            {"urgent": True, "subject": "a", "user_id": 1},
            {"user_id": 1, "subject": "a", "urgent": True},
        ),
        (only_positional, (1,), {}, {"a": 1, "b": "b", "c": 3}),
        (only_positional, (1, "x"), {"c": 4}, {"a": 1, "b": "x", "c": 4}),
        (variadic, (1,), {}, {"first": 1, "rest": (), "flag": True, "options": {}}),
        (
            variadic,
            (1, 2, 3),
            {"flag": False, "z": 1},
            {"first": 1, "rest": (2, 3), "flag": False, "options": {"z": 1}},
        ),
        (lambda: None, (), {}, {}),
    ],
)
def test_bind(
    function: Callable[..., object],
    args: tuple[object, ...],
    kwargs: dict[str, object],
    bound: dict[str, object],
) -> None:
    """Values come by parameter name, in the order of the parameters, defaults applied."""
    found = Signature(function).bind(args, kwargs)
    assert found == bound
    assert list(found) == list(bound)


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "message"),
    [
        (send_mail, (), {}, "send_mail() missing a required argument: 'user_id'"),
        (send_mail, (1,), {}, "send_mail() missing a required argument: 'subject'"),
        (send_mail, (1, "a", True), {}, "send_mail() too many positional arguments"),
        (send_mail, (1, "a"), {"user_id": 2}, "send_mail() multiple values for argument 'user_id'"),
        (send_mail, (1, "a"), {"to": 2}, "send_mail() got an unexpected keyword argument 'to'"),
        (only_positional, (), {}, "only_positional() missing a required argument: 'a'"),
        (variadic, (), {"x": 1}, "variadic() missing a required argument: 'first'"),
    ],
)
def test_wrong_call(
    function: Callable[..., object],
    args: tuple[object, ...],
    kwargs: dict[str, object],
    message: str,
) -> None:
    """A wrong call is a TypeError at the call, which names the function."""
    with pytest.raises(TypeError) as caught:
        Signature(function).bind(args, kwargs)
    assert str(caught.value) == message
    assert not isinstance(caught.value, ArgumentError)


@given(
    st.lists(st.integers(0, 3), max_size=4),
    st.dictionaries(st.sampled_from(["user_id", "subject", "urgent", "x"]), st.integers(0, 3)),
)
def test_bind_as_python_does(args: list[int], kwargs: dict[str, Any]) -> None:
    """A call binds exactly if Python would make it."""
    try:
        send_mail(*args, **kwargs)  # type: ignore[arg-type]  # many of them are wrong
    except TypeError:
        with pytest.raises(TypeError, match=r"^send_mail\(\) "):
            Signature(send_mail).bind(tuple(args), kwargs)
    else:
        Signature(send_mail).bind(tuple(args), kwargs)


# ---- there and back -------------------------------------------------------------------------


def test_text() -> None:
    """The arguments are one JSON object by parameter name, with defaults, whatever the call."""
    signature = Signature(send_mail)
    text = '{"user_id":1,"subject":"ä","urgent":false}'
    assert signature.encode(signature.bind((1, "ä"), {})) == text
    assert signature.encode(signature.bind((), {"subject": "ä", "user_id": 1})) == text


@pytest.mark.parametrize(
    ("function", "args", "kwargs"),
    [
        (send_mail, (), {"user_id": 1, "subject": "a", "urgent": True}),
        (only_positional, (1, "x"), {"c": 4}),
        (variadic, (1, date(2024, 1, 31)), {"flag": False, "z": UUID(int=1)}),
        (variadic, (1,), {"flag": True}),
        (lambda: None, (), {}),
    ],
)
def test_call_comes_back(
    function: Callable[..., object], args: tuple[object, ...], kwargs: dict[str, object]
) -> None:
    """The decoded call is the one that was made."""
    assert call(function, *args, **kwargs) == (args, kwargs)


def test_forward_references() -> None:
    """Hints may name what is defined after the function, and classes may contain themselves."""
    order = Order(UUID(int=1), 1.5, [Order(UUID(int=2), 2)], Order(UUID(int=3), 3))
    assert call(later, order) == ((), {"order": order, "more": None})


def test_recursive_alias() -> None:
    """An alias may contain its own name."""

    def f(value: Json) -> None: ...

    assert call(f, {"a": [1, None, [2]]}) == ((), {"value": {"a": [1, None, [2]]}})


def test_generic_classes() -> None:
    """Type arguments reach the fields of a generic dataclass."""

    def f(page: Page[date]) -> None: ...

    page = Page([date(2024, 1, 31)])
    assert call(f, page) == ((), {"page": page})


def test_typed_dicts_as_strings() -> None:
    """`NotRequired` is seen where annotations are strings."""

    def f(options: Options) -> None: ...

    assert call(f, {"x": 1}) == ((), {"options": {"x": 1}})
    assert "argument options lacks the key 'x'" in refused(f, {"y": date.min})


def test_keywords_by_a_typed_dict() -> None:
    """`**options: Unpack[…]` types each keyword by itself."""

    def f(**options: Unpack[Options]) -> None: ...

    assert call(f, x=1, y=date.min) == ((), {"x": 1, "y": date.min})
    assert "argument options['x'] is of type str; accepted: int" in refused(f, x="a")


def test_keywords_by_the_backport() -> None:
    """`Unpack` of typing_extensions is understood, too."""

    def f(**options: typing_extensions.Unpack[Options]) -> None: ...

    assert call(f, x=1) == ((), {"x": 1})


def test_arguments_by_a_tuple() -> None:
    """`*args: *tuple[…]` types each argument by itself."""

    def f(*args: *tuple[int, date]) -> None: ...

    assert call(f, 1, date.min) == ((1, date.min), {})
    assert "argument args[1] is of type int; accepted: date" in refused(f, 1, 2)


def test_untyped_parameters() -> None:
    """Without annotations, plain JSON comes back."""
    assert call(untyped, {"a": [1]}) == ((), {"x": {"a": [1]}, "y": 1})


def test_param_spec() -> None:
    """Arguments that are passed through are untyped."""

    def f(name: str, *args: P.args, **kwargs: P.kwargs) -> None: ...  # type: ignore[valid-type]  # no more is needed

    assert call(f, "a", 1, x=[2]) == (("a", 1), {"x": [2]})


def test_wrapped_function() -> None:
    """A decorated function has the parameters and hints of the one within."""

    @functools.wraps(later)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return later(*args, **kwargs)

    order = Order(UUID(int=1), 1)
    assert call(wrapper, order) == ((), {"order": order, "more": None})


def test_other_callables() -> None:
    """Partials, bound methods, objects and classes have signatures, too."""

    class Caller:
        def __call__(self, when: date) -> None: ...

        def method(self, when: date) -> None: ...

    day = date(2024, 1, 31)
    assert call(functools.partial(send_mail, 1), "a") == ((), {"subject": "a", "urgent": False})
    assert call(Caller(), day) == ((), {"when": day})
    assert call(Caller().method, day) == ((), {"when": day})
    assert call(Stamp, day) == ((), {"when": day})
    assert call(math.hypot, 3, 4) == ((3, 4), {})


def test_mutable_default() -> None:
    """What is stored is the default's value at the call, not the object."""

    def f(tags: list[str] = []) -> None: ...  # noqa: B006  # that is the point

    signature = Signature(f)
    _, kwargs = signature.decode(signature.encode(signature.bind((), {})))
    assert kwargs == {"tags": []}
    assert kwargs["tags"] is not f.__defaults__[0]  # type: ignore[index]  # it has one


def test_spread() -> None:
    """Bound values can be given back as a call without being stored."""
    signature = Signature(variadic)
    bound = signature.bind((1, 2), {"flag": False, "z": 3})
    assert signature.spread(bound) == ((1, 2), {"flag": False, "z": 3})


# ---- what is refused ------------------------------------------------------------------------


def orders(orders: list[Order], options: dict[str, int] | None = None) -> None: ...


def test_message_names_the_place() -> None:
    """The message names the function, the parameter, the path into it, the type, and what fits."""
    good, bad = Order(UUID(int=1), 1.0), Order(UUID(int=1), "x")  # type: ignore[arg-type]  # wrong
    assert refused(orders, [good, bad]) == (
        "orders(): argument orders[1].price is of type str; accepted: float"
    )
    assert refused(orders, [], {"x": "y"}) == (
        "orders(): argument options['x'] is of type str; accepted: int"
    )


def test_default_that_cannot_be_stored() -> None:
    """Defaults are stored like arguments, and refused like them."""

    def f(where=()):  # type: ignore[no-untyped-def]  # that is the point
        ...

    message = refused(f)
    assert "argument where is of type tuple, which does not come back from JSON" in message
    assert "annotate it with its type" in message


def test_hint_that_cannot_be_stored() -> None:
    """A hint that nothing can be stored by is no error before a value is to be stored."""

    def f(send: Callable[[int], None], x: int = 1) -> None: ...

    signature = Signature(f)
    bound = signature.bind((print,), {})
    with pytest.raises(ArgumentError) as caught:
        signature.encode(bound)
    assert "argument send is of type builtin_function_or_method" in str(caught.value)
    assert "cannot be stored; accepted: None, bool, int" in str(caught.value)


def test_hint_that_cannot_be_resolved() -> None:
    """A name that only type checkers know harms its own parameter alone."""

    def f(x: int, price: OnlyForCheckers | None = None) -> OnlyForCheckers:
        raise NotImplementedError

    signature = Signature(f)
    with pytest.raises(ArgumentError) as caught:
        signature.encode({"x": 1, "price": None})
    assert "argument price is of type NoneType, and its type hint OnlyForCheckers | None" in str(
        caught.value
    )
    assert "name 'OnlyForCheckers' is not defined" in str(caught.value)
    assert signature.encode({"x": 1}) == '{"x":1}'


def test_hint_resolved_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is not there yet is looked up again."""

    def f(x: NotYet) -> None: ...  # type: ignore[name-defined]  # noqa: F821  # not yet

    signature = Signature(f)
    with pytest.raises(ArgumentError, match="name 'NotYet' is not defined"):
        signature.encode({"x": 1})
    monkeypatch.setitem(globals(), "NotYet", int)
    assert signature.encode({"x": 1}) == '{"x":1}'


def test_local_classes() -> None:
    """A class that a function keeps to itself can name itself, and plain types."""

    @dataclass
    class Local:
        when: date
        next: Local | None = None

    def f(x: Any) -> None: ...

    f.__annotations__["x"] = Local
    value = Local(date.min, Local(date.max))
    assert call(f, value) == ((), {"x": value})


def test_user_error_is_the_cause() -> None:
    """What the user's own code raises is chained."""

    @dataclass
    class Picky:
        value: int

        def __post_init__(self) -> None:
            if self.value > 1:
                raise LookupError("no")

    def f(x: Any) -> None: ...

    f.__annotations__["x"] = list[Picky]
    picky = Picky(1)
    picky.value = 2
    with pytest.raises(ArgumentError, match=r"argument x\[0\] cannot be rebuilt: Picky") as caught:
        Signature(f).encode({"x": [picky]})
    assert isinstance(caught.value.__cause__, LookupError)


def test_limit_of_all_arguments() -> None:
    """The limit is for all arguments together; one that alone exceeds it is named."""
    signature = Signature(send_mail)
    bound = signature.bind((1, "a" * 40), {})
    with pytest.raises(ArgumentError) as caught:
        signature.encode(bound, limit=60)
    assert str(caught.value).startswith(
        "send_mail(): the call takes 81 bytes as JSON, and the limit is 60: store "
    )
    with pytest.raises(ArgumentError, match=r"argument subject takes at least 40 bytes as JSON"):
        signature.encode(bound, limit=30)


def test_error_is_one_of_both() -> None:
    """An ArgumentError is a TypeError: a mistake at the call."""
    assert issubclass(ArgumentError, TypeError)


# ---- after a deploy -------------------------------------------------------------------------


def stored(**values: object) -> str:
    return json.dumps(values)


def test_new_parameter_with_a_default() -> None:
    """It is left to its default; the defaults of then were stored."""
    assert Signature(send_mail).decode(stored(user_id=1, subject="a")) == (
        (),
        {"user_id": 1, "subject": "a"},
    )
    assert Signature(only_positional).decode(stored(a=1)) == ((1, "b"), {})
    assert Signature(variadic).decode(stored(first=1)) == ((1,), {})


def test_default_before_variadic_arguments() -> None:
    """A new parameter before `*rest` takes its default, and the rest stays the rest."""

    def f(a: int, b: int = 7, *rest: int) -> None: ...

    assert Signature(f).decode(stored(a=1, rest=[2, 3])) == ((1, 7, 2, 3), {})


@pytest.mark.parametrize(
    ("function", "text", "message"),
    [
        (
            send_mail,
            stored(user_id=1),
            "send_mail(): argument subject is not stored, and has no default: the parameter is new "
            "since",
        ),
        (
            send_mail,
            stored(user_id=1, subject="a", to="b"),
            "send_mail(): argument to is stored, but the function has no such parameter any more",
        ),
        (
            send_mail,
            stored(user_id="1", subject="a"),
            "send_mail(): argument user_id is stored as a string, which does not decode as int",
        ),
        (
            later,
            stored(order={"id": str(UUID(int=1)), "price": 1, "parts": [{"id": "x", "price": 1}]}),
            "later(): argument order.parts[0].id is stored as text that is no UUID",
        ),
        (variadic, stored(first=1, rest=[1]), "variadic(): argument rest[0] is stored as"),
        (only_positional, stored(b="b"), "only_positional(): argument a is not stored"),
        (
            lambda x=1, **options: None,
            stored(x=2, options={"x": 1}),
            "got multiple values for argument 'x'",
        ),
        (
            lambda x, *rest, **options: None,
            stored(x=2, rest=[], options={"x": 1}),
            "options does not bind with the others stored: multiple values for argument 'x'",
        ),
        (send_mail, "[]", "send_mail(): arguments raised AttributeError"),
        (send_mail, "{", "send_mail(): arguments raised JSONDecodeError"),
    ],
)
def test_no_longer_binds(function: Callable[..., object], text: str, message: str) -> None:
    """A stored call that is not one any more is an ArgumentError that says why."""
    with pytest.raises(ArgumentError) as caught:
        Signature(function).decode(text)
    assert message in str(caught.value)


def test_parameter_that_became_typed() -> None:
    """An argument stored without a hint decodes by the hint of today, if it can."""

    def f(x: date) -> None: ...

    assert Signature(f).decode(stored(x="2024-01-31")) == ((), {"x": date(2024, 1, 31)})


# ---- results --------------------------------------------------------------------------------


def test_result() -> None:
    """The result goes by the return annotation, that of `async def` as it is written."""

    async def f() -> list[Order]:
        return []

    coder = Signature(f).result()
    value = [Order(UUID(int=1), 1.5)]
    assert coder.decode(coder.encode(value)) == value
    bad = Order(UUID(int=1), "x")  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(ResultError, match=r"^result\[1\]\.price is of type str; accepted: float$"):
        coder.encode([*value, bad])


def test_result_without_an_annotation() -> None:
    """An untyped result must be plain JSON."""
    coder = Signature(untyped).result()
    assert coder.encode({"a": 1}) == '{"a":1}'
    with pytest.raises(ResultError, match=r"^result is of type datetime\.datetime, which does not"):
        coder.encode(datetime(2024, 1, 31))


def test_result_none() -> None:
    """A function that says it returns None returns nothing else."""
    coder = Signature(orders).result()
    assert coder.decode(coder.encode(None)) is None
    with pytest.raises(ResultError, match="result is of type int; accepted: None"):
        coder.encode(1)


def test_result_that_only_checkers_know() -> None:
    """A return annotation that cannot be resolved is an error of the result alone."""

    def f(x: int) -> OnlyForCheckers:
        raise NotImplementedError

    signature = Signature(f)
    assert signature.encode({"x": 1}) == '{"x":1}'
    with pytest.raises(ResultError, match="name 'OnlyForCheckers' is not defined"):
        signature.result().encode(1)
