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
from inloop._errors import ResultError

T = TypeVar("T")
B = TypeVar("B", bound=date)
UserId = NewType("UserId", int)
Json = TypeAliasType("Json", "None | bool | int | float | str | list[Json] | dict[str, Json]")
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
    (Optional[int], None),
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
    (Union[Order, Tree, None], Tree("a")),
    (Model | Item | None, Model(id=1)),
    (date | Any, date(2024, 1, 31)),
    (date | Any, "2024-01-31"),
    (Literal["a", 1, None], 1),
    (Literal[b"a", Color.RED, "red"], Color.RED),
    (Literal[b"a", Color.RED, "red"], "red"),
    (Literal["a"] | date, "a"),
    (Annotated[list[Annotated[int, "x"]], []], [1]),
    (Final[int], 1),
    (UserId, 7),
    (T, [1]),
    (B, date(2024, 1, 31)),
    (Json, {"a": [1, None, {"b": 1.5}]}),
    (Pair[date], (date.min, date.max)),
    (Any, {"a": [1, 2.5, None, True, "x", 10**5000]}),
    (Any, {"$": {"$0x": "ff"}}),
    (object, [[], {}]),
]


@pytest.mark.parametrize(("hint", "value"), KEPT, ids=lambda one: repr(one)[:50])
def test_kept(hint: object, value: object) -> None:
    """A value that fits its hint comes back equal and of the same type."""
    assert same(back(hint, value), value)


Typed = tuple[object, st.SearchStrategy[Any]]

LEAVES: list[Typed] = [
    (None, st.none()),
    (bool, st.booleans()),
    (int, st.integers()),
    (float, st.floats()),
    (str, st.text(max_size=8)),
    (bytes, st.binary(max_size=8)),
    (datetime, st.datetimes(timezones=st.none() | st.timezones())),
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
    return Union[key, hint], keys | values


@given(st.data())
@settings(max_examples=400, deadline=None)
def test_kept_however_nested(data: st.DataObject) -> None:
    """Supported types may be nested in any way, in unions too."""
    hint, values = data.draw(typed())
    value = data.draw(values)
    found = back(hint, value)
    assert repr(found) == repr(value) or same(found, value) or _by_instant(found) == value


def _by_instant(value: object) -> object:
    """For datetimes of a zone, whose name is not kept."""
    return value


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("$ab0x"), inner, max_size=3),
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
