"""Arguments and results come back from JSON as they were, or are refused by name."""

import json
import math
import socket
import sys
import tracemalloc
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import InitVar, dataclass, field, make_dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag, IntEnum, StrEnum
from functools import cached_property
from os import PathLike
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import (
    Annotated,
    Any,
    Final,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    NotRequired,
    Optional,
    Required,
    Self,
    TypedDict,
    TypeVar,
    Union,
)
from uuid import UUID
from zoneinfo import ZoneInfo

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typing_extensions import TypeAliasType

from inloop._codec import LARGE, Coder, is_large
from inloop._codec import nodes as _codec
from inloop._errors import ResultError

T = TypeVar("T")
B = TypeVar("B", bound=date)
EAST = timezone(timedelta(hours=5, minutes=30, seconds=1))
UserId = NewType("UserId", int)
Json = TypeAliasType("Json", "bool | int | float | str | list[Json] | dict[str, Json] | None")
Holes = TypeAliasType("Holes", "list[Holes | None]")
Pair = TypeAliasType("Pair", tuple[T, T], type_params=(T,))


class Color(Enum):
    RED = "red"
    GREEN = "green"


class Size(IntEnum):
    SMALL = 1
    LARGE = 2


class Mood(StrEnum):
    GOOD = "good"


class Odd(Enum):
    PAIR = (1, 2)
    NOTHING = None


class Right(Flag):
    READ = 1
    WRITE = 2


class Level(Enum):
    LOW = 1

    @classmethod
    def _missing_(cls, value: object) -> "Level | None":
        return cls.LOW if value == "low" else None


@dataclass
class Item:
    sku: str
    price: float = 0.0


@dataclass(frozen=True, slots=True)
class Order:
    id: UUID
    items: tuple[Item, ...]
    due: date | None = None


@dataclass
class Tree:
    name: str
    children: "list[Tree]" = field(default_factory=list)
    parent: "Tree | None" = None


@dataclass
class Chain:
    next: Self | None = None


@dataclass
class Box(Generic[T]):
    item: T
    more: list[T] = field(default_factory=list)


@dataclass
class Dates(Box[date], Generic[T]):
    tag: T | None = None


@dataclass
class Special(Item):
    note: str = ""


@dataclass
class Area:
    width: int
    area: int = field(init=False)

    def __post_init__(self) -> None:
        self.area = self.width**2


@dataclass
class Doubling:
    value: int

    def __post_init__(self) -> None:
        self.value *= 2


@dataclass
class Positive:
    value: int

    def __post_init__(self) -> None:
        if self.value < 0:
            raise ValueError("below zero")


@dataclass
class Custom:
    value: int

    def __init__(self, number: int) -> None:
        self.value = number


@dataclass
class Late:
    value: int = field(init=False, default=0)


@dataclass
class Salted:
    value: int
    salt: InitVar[int]

    def __post_init__(self, salt: int) -> None:
        self.value += salt


@dataclass
class Lazy:
    value: int

    @cached_property
    def double(self) -> int:
        return self.value * 2


@dataclass
class Broken:
    value: int

    def __getattribute__(self, name: str) -> Any:
        if name == "value":
            raise OSError("gone")
        return super().__getattribute__(name)


@dataclass
class Registry(dict[str, int]):
    name: str


@dataclass
class Cat:
    name: str


@dataclass
class Dog:
    name: str


class Point(NamedTuple):
    x: int
    y: int = 0


class Movie(TypedDict):
    title: str
    year: NotRequired[int]


class Named(Point):
    """A named tuple that can have attributes."""


class Partial(TypedDict, total=False):
    id: Required[int]
    name: str


class Model(pydantic.BaseModel):
    id: int
    when: datetime | None = None
    tags: set[str] = set()


class Aliased(pydantic.BaseModel):
    user_name: str = pydantic.Field(validation_alias="userName", serialization_alias="USER")


class Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)
    when: date


class Hidden(pydantic.BaseModel):
    secret: str = pydantic.Field(exclude=True)


class Numbers(pydantic.RootModel[list[int]]):
    pass


class Text(str):
    """A subclass of str that adds nothing."""


class Tagged(str):
    """A subclass of str that carries more."""

    tag: str


class Twin(str):
    """Equal to others, and yet a key of its own."""

    __slots__ = ()

    def __hash__(self) -> int:
        return 1


class Money(float):
    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = float.__hash__


def back(hint: object, value: object) -> object:
    coder = Coder.of(hint)
    return coder.decode(coder.encode(value))


def refused(hint: object, value: object) -> str:
    with pytest.raises(ResultError) as caught:
        Coder.of(hint).encode(value)
    return str(caught.value)


def same(one: Any, two: Any) -> bool:
    """Equal in value and, all the way down, in type."""
    if type(one) is not type(two):
        return False
    if isinstance(one, float) and math.isnan(one):
        return math.isnan(two)
    if isinstance(one, list | tuple | deque):
        return len(one) == len(two) and all(map(same, one, two))
    if isinstance(one, dict):
        return same(list(one.items()), list(two.items()))
    if isinstance(one, datetime | time) and one.utcoffset() != two.utcoffset():
        return False
    return bool(one == two)


# ---- what comes back ------------------------------------------------------------------------

KEPT: list[tuple[object, object]] = [
    (None, None),
    (bool, True),
    (int, -7),
    (int, True),
    (int, 10**5000),
    (int, -(10**5000)),
    (float, 0.1),
    (float, -0.0),
    (float, math.nan),
    (float, math.inf),
    (float, -math.inf),
    (float, 3),
    (str, "näin \0 \U0001f600 \u2028"),
    (bytes, b"\0\xff"),
    (bytearray, bytearray(b"ab")),
    (list[int], [1, 2]),
    (list, [1, "a", None]),
    (tuple[int, str], (1, "a")),
    (tuple[int, ...], (1, 2, 3)),
    (tuple[()], ()),
    (tuple, (1, "a")),
    (set[str], {"a", "b"}),
    (frozenset[tuple[int, int]], frozenset({(1, 2)})),
    (deque[int], deque([1])),
    (dict[str, int], {"a": 1}),
    (dict[str, int], {"$0x": 1}),
    (dict[str, int], {"": 1}),
    (dict, {"a": [1, {"b": None}]}),
    (dict[int, str], {1: "a", -2: "b"}),
    (dict[int, str], {}),
    (dict[UUID, date], {UUID(int=1): date(2024, 1, 31)}),
    (dict[Color, int], {Color.RED: 1}),
    (dict[date, int], {date(2024, 1, 31): 1}),
    (dict[tuple[int, int], str], {(1, 2): "a"}),
    (OrderedDict[str, int], OrderedDict(b=1, a=2)),
    (Sequence[int], [1]),
    (Sequence[int], (1, 2)),
    (Iterable[int], frozenset({1})),
    (Collection[str], {"a"}),
    (AbstractSet[int], {1}),
    (Mapping[str, int], {"a": 1}),
    (Color, Color.RED),
    (Size, Size.LARGE),
    (Mood, Mood.GOOD),
    (Odd, Odd.PAIR),
    (Odd, Odd.NOTHING),
    (Right, Right.READ | Right.WRITE),
    (Right, Right(0)),
    (datetime, datetime(2024, 1, 31, 12, 30, 0, 1)),
    (datetime, datetime(2024, 1, 31, tzinfo=UTC)),
    (datetime, datetime(2024, 7, 1, tzinfo=timezone(timedelta(hours=5, seconds=1)))),
    (date, date.max),
    (time, time(1, 2, 3)),
    (time, time(1, 2, tzinfo=UTC)),
    (timedelta, timedelta(days=-1, microseconds=5)),
    (timedelta, timedelta.max),
    (UUID, UUID(int=7)),
    (Decimal, Decimal("-1.10")),
    (Decimal, Decimal("1E+400")),
    (Path, Path("/tmp/ä")),
    (PathLike, Path("a")),
    (PurePath, PurePath("a/b")),
    (PurePosixPath, PurePosixPath("a")),
    (PureWindowsPath, PureWindowsPath("C:\\a")),
    (Order, Order(UUID(int=1), (Item("a", 1.5), Item("b")), date(2024, 1, 31))),
    (Tree, Tree("a", [Tree("b")], Tree("c"))),
    (Chain, Chain(Chain())),
    (Box[int], Box(1, [2])),
    (Box[date], Box(date(2024, 1, 31))),
    (Box[Box[date]], Box(Box(date(2024, 1, 31)))),
    (Box, Box("untyped")),
    (Dates[bytes], Dates(date(2024, 1, 31), [], b"x")),
    (Area, Area(3)),
    (Positive, Positive(3)),
    (Movie, {"title": "M"}),
    (Movie, {"title": "M", "year": 1931}),
    (Partial, {"id": 1}),
    (Point, Point(1, 2)),
    (Model, Model(id=1, when=datetime(2024, 1, 31), tags={"a"})),
    (Aliased, Aliased.model_validate({"userName": "a"})),
    (Strict, Strict(when=date(2024, 1, 31))),
    (Numbers, Numbers([1, 2])),
    (Optional[int], None),  # noqa: UP045  # the older spellings are objects of their own
    (int | None, 3),
    (int | str, "3"),
    (int | str, 3),
    (int | float, 3),
    (int | float, 3.0),
    (bool | int, True),
    (date | str, date(2024, 1, 31)),
    (date | str, "2024-01-31"),
    (datetime | date, date(2024, 1, 31)),
    (bytes | str, b"a"),
    (Mood | str, "good"),
    (Mood | str, Mood.GOOD),
    (Size | int, 1),
    (Size | float, Size.SMALL),
    (Cat | Dog, Dog("a")),
    (Cat | dict[str, str], {"name": "a"}),
    (Cat | dict[str, str], {"$Cat": "a"}),
    (list[int] | list[str], ["a"]),
    (list[int] | list[str], []),
    (tuple[int, ...] | list[int] | set[int], {1}),
    (Union[Order, Tree, None], Tree("a")),  # noqa: UP007  # the same
    (Model | Item | None, Model(id=1)),
    (date | Any, date(2024, 1, 31)),
    (date | Any, "2024-01-31"),
    (Literal["a", 1, None], 1),
    (Literal[b"a", Color.RED, "red"], Color.RED),
    (Literal[b"a", Color.RED, "red"], "red"),
    (Literal["a"] | date, "a"),
    (Annotated[list[Annotated[int, []]], []], [1]),
    (Final[int], 1),
    (UserId, 7),
    (T, [1]),
    (B, date(2024, 1, 31)),
    (Json, {"a": [1, None, {"b": 1.5}]}),
    (Holes, [None, [None, []]]),
    (Pair[date], (date.min, date.max)),
    (Final, [1]),
    (InitVar[date], date.min),
    (Any, {"a": [1, 2.5, None, True, "x", 10**5000]}),
    (Any, {"$": {"$0x": "ff"}}),
    (object, [[], {}]),
]


@pytest.mark.parametrize(("hint", "value"), KEPT, ids=[str(hint) for hint, _ in KEPT])
def test_kept(hint: object, value: object) -> None:
    """A value that fits its hint comes back equal and of the same type."""
    assert same(back(hint, value), value)


Typed = tuple[object, st.SearchStrategy[Any]]

LEAVES: list[Typed] = [
    (type(None), st.none()),
    (bool, st.booleans()),
    (int, st.integers()),
    (float, st.floats(allow_nan=False)),
    (str, st.text(max_size=8)),
    (bytes, st.binary(max_size=8)),
    (datetime, st.datetimes(timezones=st.sampled_from([None, UTC, EAST]))),
    (date, st.dates()),
    (time, st.times()),
    (timedelta, st.timedeltas()),
    (UUID, st.uuids()),
    (Decimal, st.decimals(allow_nan=False)),
    (Color, st.sampled_from(Color)),
    (Size, st.sampled_from(Size)),
    (Mood, st.sampled_from(Mood)),
    (Right, st.builds(Right, st.integers(0, 3))),
    (Literal["a", 1], st.sampled_from(["a", 1])),
]


@st.composite
def typed(draw: st.DrawFn, depth: int = 3) -> Typed:
    """A hint, and a strategy for values of it."""
    kind = draw(st.integers(0, 7)) if depth else 0
    if kind == 0:
        return draw(st.sampled_from(LEAVES))
    hint: Any
    hint, values = draw(typed(depth - 1))
    if kind == 1:
        return list[hint], st.lists(values, max_size=3)
    if kind == 2:
        return tuple[hint, ...], st.lists(values, max_size=3).map(tuple)
    if kind == 3:
        return Box[hint], st.builds(Box, values, st.lists(values, max_size=2))
    if kind == 4:
        return Sequence[hint], st.lists(values, max_size=2) | st.tuples(values)
    key: Any
    key, keys = draw(st.sampled_from([one for one in LEAVES if one[0] is not float]))
    if kind == 5:
        return dict[key, hint], st.dictionaries(keys, values, max_size=3)
    if kind == 6:
        return set[key], st.sets(keys, max_size=3)
    return key | hint, keys | values


@given(st.data())
@settings(max_examples=400, deadline=None)
def test_kept_however_nested(data: st.DataObject) -> None:
    """Supported types may be nested in any way, in unions too."""
    hint, values = data.draw(typed())
    value = data.draw(values)
    found = back(hint, value)
    assert same(found, value)


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("$ab0x"), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(json_values)
@settings(max_examples=150, deadline=None)
def test_untyped_json(value: object) -> None:
    """Without a hint, whatever JSON knows comes back the same, marks of our own included."""
    assert same(back(Any, value), value)


@given(json_values)
@settings(max_examples=100, deadline=None)
def test_no_mix_up_of_untyped_and_typed(value: object) -> None:
    """Beside a typed member of a union, an untyped value is never taken for it."""
    assert same(back(Item | date | Any, value), value)


# ---- what is refused ------------------------------------------------------------------------

REFUSED: list[tuple[object, object, str]] = [
    (int, "1", "result is of type str; accepted: int"),
    (int, 1.0, "result is of type float; accepted: int"),
    (float, "1", "result is of type str; accepted: float"),
    (bool, 1, "result is of type int; accepted: bool"),
    (str, None, "result is of type NoneType; accepted: str"),
    (str, b"a", "result is of type bytes; accepted: str"),
    (bytes, "a", "result is of type str; accepted: bytes"),
    (None, 0, "result is of type int; accepted: None"),
    (date, datetime(2024, 1, 31), "would lose something as a plain date; accepted: date"),
    (datetime, date(2024, 1, 31), "result is of type datetime.date; accepted: datetime"),
    (time, time(1, tzinfo=ZoneInfo("Europe/Prague")), "has a time zone without an offset"),
    (UUID, "1", "result is of type str; accepted: UUID"),
    (Path, "a", "result is of type str; accepted: Path"),
    (Color, "red", "result is of type str; accepted: Color"),
    (list[int], (1,), "result is of type tuple; accepted: list[int]"),
    (list[int], [0, "a"], "result[1] is of type str; accepted: int"),
    (set[int], {"a"}, "result[…] is of type str; accepted: int"),
    (tuple[int, str], (1,), "result has 1 items; accepted: tuple[int, str]"),
    (tuple[int, str], (1, 2), "result[1] is of type int; accepted: str"),
    (tuple[int, ...], [1], "result is of type list; accepted: tuple[int, ...]"),
    (tuple[int, int], Point(1, 2), "test_codec.Point; accepted: tuple[int, int]"),
    (deque[int], deque([1], maxlen=2), "result has a maxlen, which would be lost"),
    (Sequence[int], range(3), "result is of type range; accepted: Sequence[int]"),
    (Sequence[str], "abc", "result is of type str; accepted: Sequence[str]"),
    (dict[str, int], {"x": "y"}, "result['x'] is of type str; accepted: int"),
    (dict[str, int], {1: 1}, "result has a key that is of type int; accepted: str"),
    (dict[int, int], {"a": 1}, "result has a key that is of type str; accepted: int"),
    (dict[str, int], OrderedDict(a=1), "of type collections.OrderedDict; accepted: dict[str, int]"),
    (list[Order], [Tree("a")], "result[0] is of type"),
    (dict[str, list[Item]], {"x": [Item("a", "b")]}, "result['x'][0].price is of type str"),  # type: ignore[arg-type]  # wrong on purpose
    (Item, Special("a"), "test_codec.Special; accepted: Item"),
    (Box[int], Box("a"), "result.item is of type str; accepted: int"),
    (Movie, {"year": 1}, "result lacks the key 'title'; accepted: Movie"),
    (Movie, {"title": "a", "x": 1}, "result has the key 'x'; accepted: Movie"),
    (Movie, {"title": 1}, "result['title'] is of type int; accepted: str"),
    (Partial, {"name": "a"}, "result lacks the key 'id'; accepted: Partial"),
    (Movie, [], "result is of type list; accepted: Movie"),
    (dict[str, int], {"a": 1, Twin("a"): 2}, "result has different keys that are written alike"),
    (Point, (1, 2), "result is of type tuple; accepted: Point"),
    (Point, Point("a"), "result.x is of type str; accepted: int"),  # type: ignore[arg-type]  # wrong on purpose
    (Model, Item("a"), "test_codec.Item; accepted: Model"),
    (int | str, 1.5, "result is of type float; accepted: int | str"),
    (Order | None, Order(UUID(int=1), (Item(1),)), "result.items[0].sku is of type int"),  # type: ignore[arg-type]  # wrong on purpose
    (Literal["a", 1], True, "result is of type bool; accepted: Literal['a', 1]"),
    (Literal[1], True, "result is another bool; accepted: Literal[1]"),
    (Literal["a", "b"], "c", "result is another str; accepted: Literal['a', 'b']"),
    (UserId, "a", "result is of type str; accepted: int"),
    (Any, (1,), "result is of type tuple, which does not come back from JSON as it was"),
    (Any, [{"a": {1}}], "result[0]['a'] is of type set, which does not come back"),
    (Any, {1: 2}, "result has a key that is of type int; accepted: str"),
    (Any, Mood.GOOD, "or annotate it with its type"),
    (Any, math.nan, "result is nan; accepted: None, bool, int, finite float"),
    (Any, [math.inf], "result[0] is inf; accepted: None, bool, int, finite float"),
    (object, Item("a"), "test_codec.Item, which does not come back from JSON as it was"),
    (socket.socket, 1, "its type hint socket cannot be stored; accepted: None, bool"),
    (Callable[[int], str], print, "cannot be stored; accepted: None, bool"),
    (type[int], int, "its type hint type[int] cannot be stored; accepted: None, bool"),
    (Registry, Registry("a"), "its type hint Registry cannot be stored"),
    (
        list["Nowhere"],  # type: ignore[name-defined]  # noqa: F821  # wrong on purpose
        [1],
        "result[0] is of type int, and its type hint Nowhere cannot be resolved",
    ),
    ([int], [1], "and its type hint"),
    (str, "a\ud800", "result contains a lone surrogate (U+D800 at position 1)"),
    (dict[str, int], {"\udfff": 1}, "result has a key that contains a lone surrogate (U+DFFF"),
    (Any, {"a": ["\ud800"]}, "result['a'][0] contains a lone surrogate"),
    (Any, {"\ud800": 1}, "result has a key that contains a lone surrogate"),
    (Path, Path("\udcff"), "result contains a lone surrogate"),
]


@pytest.mark.parametrize(("hint", "value", "message"), REFUSED, ids=[one[2] for one in REFUSED])
def test_refused(hint: object, value: object, message: str) -> None:
    """A value that does not fit is refused, with its place, its type, and what would fit."""
    assert message in refused(hint, value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Doubling(2), "result.value would come back different: its constructor"),
        (Custom(2), "result cannot be rebuilt: Custom(…) raised TypeError"),
        (Salted(1, salt=2), "result cannot be rebuilt: Salted(…) raised TypeError"),
    ],
    ids=str,
)
def test_constructor_that_does_not_restore(value: object, message: str) -> None:
    """A dataclass that its constructor would not give back as it is, is refused."""
    assert message in refused(type(value), value)


def test_constructor_deep_inside() -> None:
    """The proof by rebuilding covers values within values."""
    message = refused(dict[str, list[Doubling]], {"a": [Doubling(0), Doubling(1)]})
    assert message.startswith("result.a[1].value would come back different")


def test_field_outside_the_constructor() -> None:
    """A field with init=False may be stored as long as rebuilding gives the same."""
    late = Late()
    assert back(Late, late) == late
    late.value = 1
    assert "result.value would come back different" in refused(Late, late)


def test_attribute_that_is_no_field() -> None:
    """An attribute that somebody added to a dataclass is not lost silently."""
    item = Item("a")
    item.extra = 1  # type: ignore[attr-defined]  # that is the point
    assert "result.extra would come back different" in refused(Item, item)
    item.extra = object()  # type: ignore[attr-defined]  # that is the point
    assert "result.extra is not a field, and would be lost" in refused(Item, item)


def test_named_tuple_with_attributes() -> None:
    """A named tuple that carries more than its fields is refused."""
    named = Named(1, 2)
    assert back(Named, named) == named
    named.extra = 1  # type: ignore[attr-defined]  # that is the point
    assert "has attributes beyond its fields, which would be lost" in refused(Named, named)


def test_cached_property() -> None:
    """What a `cached_property` remembers is no attribute of that kind."""
    lazy = Lazy(2)
    assert lazy.double == 4
    assert back(Lazy, lazy) == lazy


def test_rebuilding_a_chain_is_not_exponential() -> None:
    """Dataclasses that need the proof and contain each other are rebuilt but once."""
    chain = make_dataclass("Link", [("next", Any, None)], namespace={"__post_init__": lambda _: 0})
    chain.__annotations__["next"] = chain | None
    value = None
    for _ in range(60):
        value = chain(value)
    assert back(chain, value) == value


@pytest.mark.parametrize(
    ("hint", "value", "plain"),
    [
        (str, Mood.GOOD, "good"),
        (str, Text("a"), "a"),
        (int, Size.LARGE, 2),
        (float, Size.LARGE, 2),
        (int | str, Text("a"), "a"),
        (dict[str, int], {Mood.GOOD: 1}, {"good": 1}),
    ],
)
def test_subclass_of_a_scalar(hint: object, value: object, plain: object) -> None:
    """It comes back as the declared type, which it equals."""
    assert same(back(hint, value), plain)


def test_subclass_that_would_lose_something() -> None:
    """It is refused if it carries attributes, or does not equal its plain value."""
    tagged = Tagged("a")
    tagged.tag = "b"
    assert "Tagged, which would lose something as a plain str; accepted: str" in refused(
        str, tagged
    )
    assert "Money, which would lose something as a plain float" in refused(float, Money(1.5))


def test_datetime_of_a_zone() -> None:
    """The instant and the offset are kept, the name of the zone is not."""
    moment = datetime(2024, 10, 27, 2, 30, tzinfo=ZoneInfo("Europe/Prague"), fold=1)
    found = back(datetime, moment)
    assert isinstance(found, datetime)
    assert found.isoformat() == "2024-10-27T02:30:00+01:00"


def test_fold_of_a_naive_datetime() -> None:
    """The second of two equal wall times stays the second."""
    found = back(datetime, datetime(2024, 10, 27, 2, 30, fold=1))
    assert isinstance(found, datetime)
    assert found.fold == 1


def test_not_a_number_beside_numbers() -> None:
    """Decimals keep what is not a number, and the sign of zero."""
    assert str(back(Decimal, Decimal("-0"))) == "-0"
    assert str(back(Decimal, Decimal("sNaN12"))) == "sNaN12"


def test_equal_sets_have_equal_text() -> None:
    """The text of a set does not depend on the order in which this process keeps it."""
    assert Coder.of(set[str]).encode({"c", "a", "b"}) == '["a","b","c"]'


@pytest.mark.parametrize(
    ("hint", "value", "text"),
    [
        (Any, {"ä": "\n", "b": [1, 2]}, '{"ä":"\\n","b":[1,2]}'),
        (Item, Item("a", 1.5), '{"sku":"a","price":1.5}'),
        (date | None, date(2024, 1, 31), '"2024-01-31"'),
        (date | str, "a", '{"$str":"a"}'),
        (date | str, date(2024, 1, 31), '{"$date":"2024-01-31"}'),
        (Cat | Dog | None, None, "null"),
        (dict[int, str], {1: "a"}, '[[1,"a"]]'),
        (timedelta, timedelta(hours=1), '"P0DT3600S"'),
        (Holes, [None, [None]], "[null,[null]]"),
    ],
    ids=str,
)
def test_text(hint: object, value: object, text: str) -> None:
    """People read and edit the stored text: it is plain JSON, tagged only where it must be."""
    assert Coder.of(hint).encode(value) == text


# ---- what users' code does ------------------------------------------------------------------


def test_property_that_raises() -> None:
    """An error of the user's while reading a value is the cause, with the place."""
    with pytest.raises(ResultError, match=r"^result\[0\]\.value raised OSError: gone$") as caught:
        Coder.of(list[Broken]).encode([Broken(1)])
    assert isinstance(caught.value.__cause__, OSError)


def test_constructor_that_raises() -> None:
    """An error of the user's while rebuilding a value is the cause, with the place."""
    with pytest.raises(ResultError, match=r"^result\[0\] cannot be rebuilt: Positive") as caught:
        Coder.of(list[Positive]).decode('[{"value":-1}]')
    assert isinstance(caught.value.__cause__, ValueError)


def test_model_that_refuses() -> None:
    """A pydantic error while decoding is the cause."""
    with pytest.raises(ResultError, match="does not decode as Model") as caught:
        Coder.of(Model).decode('{"id":"x"}')
    assert isinstance(caught.value.__cause__, pydantic.ValidationError)


def test_model_that_hides_a_field() -> None:
    """A pydantic model that does not dump all that it is, is refused."""
    assert "cannot be rebuilt: Hidden raised ValidationError" in refused(Hidden, Hidden(secret="a"))


def test_model_of_a_subclass_inside() -> None:
    """A pydantic model within which a subclass would become its base is refused."""

    class Sub(Model):
        more: int = 0

    class Outer(pydantic.BaseModel):
        inner: Model

    message = refused(Outer, Outer(inner=Sub(id=1, more=2)))
    assert "result would come back different from the JSON that Outer dumps of it" in message


def test_model_fields_set() -> None:
    """A pydantic model knows afterwards which fields were given (`exclude_unset`)."""
    found = back(Model, Model(id=1))
    assert isinstance(found, Model)
    assert found.model_fields_set == {"id"}
    whole = back(Model, Model(id=1, when=None, tags=set()))
    assert isinstance(whole, Model)
    assert whole.model_fields_set == {"id", "when", "tags"}


def test_enum_value_that_was_renamed() -> None:
    """`_missing_` may still know a value that is not there any more."""
    assert Coder.of(Level).decode('"low"') is Level.LOW


# ---- depth and size -------------------------------------------------------------------------


def deep(levels: int) -> list[object]:
    value: list[object] = []
    for _ in range(levels):
        value = [value]
    return value


def test_deep_values() -> None:
    """Ninety levels are kept, ten thousand are refused."""
    assert back(Any, deep(90)) == deep(90)
    assert "is nested more than 100 levels deep, or contains itself" in refused(Any, deep(10_000))


def test_cyclic_values() -> None:
    """A value that contains itself is refused, whatever its hint."""
    loop: list[object] = []
    loop.append(loop)
    chain = Chain()
    chain.next = chain
    for hint, value in ((Any, loop), (Json, loop), (Chain, chain), (Chain | list[int], chain)):
        assert "levels deep, or contains itself" in refused(hint, value)


def test_deep_text() -> None:
    """Stored text that nests too deep is a ResultError, too."""
    with pytest.raises(ResultError, match="nested too deep"):
        Coder.of(Any).decode("[" * 10_000 + "]" * 10_000)


@pytest.mark.parametrize("text", ["", "{", "nan", "NaN", "[1] 2", '"\\x"'])
def test_broken_text(text: str) -> None:
    """Stored text that is not JSON is a ResultError."""
    with pytest.raises(ResultError, match=r"^result raised "):
        Coder.of(Any).decode(text)


def test_edited_text() -> None:
    """Blanks that a person left in the text do not matter."""
    assert Coder.of(list[int]).decode(" [1,\n 2]\n") == [1, 2]


def test_limit_is_exact() -> None:
    """The limit counts bytes of UTF-8, quotes and all."""
    coder = Coder.of(str)
    assert coder.encode("ä" * 4, limit=10) == '"ääää"'
    with pytest.raises(ResultError, match="takes 11 bytes as JSON, and the limit is 10: store the"):
        coder.encode("ä" * 4 + "b", limit=10)


@pytest.mark.parametrize(
    ("hint", "make"),
    [
        (str, lambda: "x" * (100 << 20)),
        (Any, lambda: {"a": "x" * (100 << 20)}),
        (dict[str, int], lambda: {"x" * (100 << 20): 1}),
        (bytes, lambda: bytes(100 << 20)),
        (bytes | None, lambda: bytes(100 << 20)),
        (list[int], lambda: [1] * (12 << 20)),
        (list[str], lambda: ["x" * 1000] * 100_000),
        (int, lambda: 1 << (400 << 20)),
    ],
)
def test_huge_values(hint: object, make: Callable[[], object]) -> None:
    """100 MB are refused without a copy being made of them."""
    value = make()
    tracemalloc.start()
    try:
        message = refused(hint, value)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "bytes as JSON, and the limit is 1048576: store the data elsewhere" in message
    assert peak < 4 << 20


@pytest.mark.parametrize(
    "value",
    [
        "x" * (LARGE + 1),
        b"x" * (LARGE + 1),
        Text("x" * (LARGE + 1)),
        [0] * 10_000,
        {str(n): n for n in range(10_000)},
        ["x" * 1000] * 100,
        {"a": [{"b": "x" * (LARGE + 1)}]},
        Item("x" * (LARGE + 1)),
        Order(UUID(int=1), (Item("x" * (LARGE + 1)),)),
        Model(id=1, tags={"x" * (LARGE + 1)}),
        1 << (8 * LARGE),
        deep(10_000),
    ],
    ids=lambda value: type(value).__name__,
)
def test_large(value: object) -> None:
    """What would be long to encode is known beforehand."""
    assert is_large(value)


@pytest.mark.parametrize(
    "value",
    [None, 1, 1.5, "x" * 1000, [1] * 1000, Item("a"), Color.RED, object(), Broken(1), print],
    ids=lambda value: type(value).__name__,
)
def test_not_large(value: object) -> None:
    """What would be short to encode, or refused, is not large."""
    assert not is_large(value)


def test_large_and_cyclic() -> None:
    """Measuring a value that contains itself ends."""
    loop: dict[str, object] = {}
    loop["loop"] = loop
    assert is_large(loop)


# ---- what decodes ---------------------------------------------------------------------------

DECODED: list[tuple[object, str, str]] = [
    (int, '"1"', "result is stored as a string, which does not decode as int"),
    (int, "1.0", "result is stored as a number, which does not decode as int"),
    (str, "1", "result is stored as an integer, which does not decode as str"),
    (bool, "null", "result is stored as null, which does not decode as bool"),
    (float, "[]", "result is stored as an array, which does not decode as float"),
    (date, '"2024-13-01"', "result is stored as text that is no date"),
    (datetime, '"x"', "result is stored as text that is no datetime"),
    (timedelta, '"1 h"', "result is stored as text that is no timedelta"),
    (UUID, '"x"', "result is stored as text that is no UUID"),
    (Decimal, '"x"', "result is stored as text that is no Decimal"),
    (bytes, '"???"', "result is stored as text that is no bytes"),
    (list[int], '[1,"a"]', "result[1] is stored as a string, which does not decode as int"),
    (list[int], "{}", "result is stored as an object, which does not decode as list[int]"),
    (tuple[int, int], "[1]", "does not decode as tuple[int, int]"),
    (dict[str, int], '{"a":null}', "result['a'] is stored as null"),
    (dict[int, int], "[[1]]", "result is stored as an array, which does not decode as dict"),
    (Item, '{"sku":1}', "result.sku is stored as an integer"),
    (Item, '{"price":1}', "result is stored without 'sku', which Item requires"),
    (Item, '{"sku":"a","size":1}', "result is stored with 'size', which Item does not have"),
    (Movie, "{}", "result is stored without 'title', which Movie requires"),
    (Point, '{"y":1}', "result is stored without 'x', which Point requires"),
    (Color, '"blue"', "result is stored as 'blue', which Color does not have"),
    (Odd, '"BLUE"', "result is stored as 'BLUE', which Odd does not have"),
    (Movie, "[]", "result is stored as an array, which does not decode as Movie"),
    (Item, "[]", "result is stored as an array, which does not decode as Item"),
    (Color, "true", "result is stored as a boolean, which does not decode as Color"),
    (Literal["a"], '"b"', "result is stored as a string, which does not decode as Literal['a']"),
    (int | str, "1.5", "result is stored as a number, which does not decode as int | str"),
    (date | UUID, '"x"', "result is stored as a string, which does not decode as date | UUID"),
    (Any, '{"$date":"2024-01-31"}', "result is stored with the mark '$date'"),
    (socket.socket, "1", "result cannot be decoded: its type hint socket cannot be stored"),
]


@pytest.mark.parametrize(("hint", "text", "message"), DECODED, ids=[one[2] for one in DECODED])
def test_not_decoded(hint: object, text: str, message: str) -> None:
    """Stored text that is not of the hint is a ResultError with the place."""
    with pytest.raises(ResultError) as caught:
        Coder.of(hint).decode(text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("before", "value", "after"),
    [
        (date, date(2024, 1, 31), date | None),
        (date, date(2024, 1, 31), date | UUID),
        (str, "abc", date | str),
        (list[int], [1], list[int] | list[str]),
        (list[int], [], list[int] | list[str]),
        (list[int], [1], Sequence[int]),
        (date | str, "2024-01-31", date | str | UUID),
        (date | str | None, date(2024, 1, 31), date | None),
        (Cat, Cat("a"), Cat | None),
        (Cat | Dog, Cat("a"), Cat | Dog | Item),
        (Literal["a"], "a", Literal["a", "b"] | date),
        (float, 3, int | float),
    ],
    ids=str,
)
def test_wider_hint(before: object, value: object, after: object) -> None:
    """A hint may become wider without losing what was stored before."""
    assert same(Coder.of(after).decode(Coder.of(before).encode(value)), value)


def test_wider_hint_that_leaves_a_doubt() -> None:
    """Text from before that two members could have written is refused, not guessed."""
    with pytest.raises(ResultError, match=r"could be any of several members of date \| str"):
        Coder.of(date | str).decode('"2024-01-31"')


def test_field_added_with_a_default() -> None:
    """A record that was stored without a field takes the field's default."""
    assert Coder.of(Item).decode('{"sku":"a"}') == Item("a", 0.0)
    assert Coder.of(Point).decode('{"x":1}') == Point(1, 0)
    assert Coder.of(Movie).decode('{"title":"a"}') == {"title": "a"}


def test_two_classes_of_one_name() -> None:
    """Members of a union with the same name are told apart by their modules."""
    cat = make_dataclass("Cat", [("name", str)])
    cat.__module__ = "elsewhere"
    assert type(back(Cat | cat, cat("a"))) is cat
    assert type(back(Cat | cat, Cat("a"))) is Cat


def test_nothing_is_imported() -> None:
    """Names in stored text are looked up among the hint's members only."""
    before = set(sys.modules)
    with pytest.raises(ResultError):
        Coder.of(Cat | Dog).decode('{"$antigravity":{"name":"a"}}')
    assert set(sys.modules) == before


def test_coders_are_shared() -> None:
    """A hint is compiled once, and two that are not the same are not mixed up."""
    assert Coder.of(list[int]).encode([1]) == "[1]"
    assert "another bool" in refused(list[Literal[1]], [True])
    assert back(list[Literal[True]], [True]) == [True]


def test_text_is_json() -> None:
    """Any JSON reader can read what is stored."""
    text = Coder.of(dict[str, Any]).encode({"a": ["ä", 1, None]})
    assert json.loads(text) == {"a": ["ä", 1, None]}


def test_text_without_the_c_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Python's json has no C encoder, the text is the same."""
    value = {"a": ["ä\n\0", 1, None, 1.5, {}], "b": True}
    text = Coder.of(Any).encode(value)
    monkeypatch.setattr(_codec, "_chunks", None)
    assert Coder.of(Any).encode(value) == text
