"""Values <-> JSON text, by type hints: what goes in comes back the same, or is refused by name.

A hint is compiled once into a `Node`: how to write it, how to read it, and what a union needs to
know of it. Nothing is imported by a stored name, nothing is built but what the hints name. Written:

    None, bool, int, float, str      as they are
    an int beyond 2000 bits          {"$0x": "1f…"}       Python's json stops at 4300 digits
    nan, infinity                    {"$0f": "nan"}       JSON has none
    bytes, dates, UUID, Decimal, …   "text"
    list, tuple, deque, set          […]                  sets sorted: equal values, equal text
    dict                             {…}, or [[key, value], …] where keys are not written as text
    dataclass, TypedDict, NamedTuple {"field": …}         so that fields may be added later
    pydantic model                   {"field": …}, or {"$0model": [{…}, […]]} with the fields set
    Enum, Flag                       its value where all are int or str, else its name
    a member of a union              as it is where the JSON type tells it, else {"$date": "…"}
    a dict that looks like those     {"$": {…}}

What is kept, and what is not: an aware datetime keeps its offset, not the name of its zone. An
instance of a subclass of a scalar (a StrEnum for `str`, numpy's float64 for `float`) comes back as
the declared type if it equals that and has no attributes of its own. Containers and records must
be of exactly the declared type; a pydantic model knows the fields set at its top level only.
"""

import base64
import dataclasses
import inspect
import json
import math
import re
import reprlib
import sys
import types
import typing
from collections import OrderedDict, abc, deque
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, Flag
from functools import cached_property
from itertools import repeat
from json.encoder import encode_basestring
from os import PathLike
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Any, Union, get_args, get_origin
from uuid import UUID

from inloop._errors import ArgumentError, ResultError
from inloop._signature import (
    Binder,
    Unresolved,
    alias_value,
    evaluate,
    field_hints,
    function_hints,
    is_alias,
    is_required,
    peel,
    scope_of,
    substitute,
    variadic_hint,
)

MAX_SIZE = 1 << 20  # bytes of JSON
LARGE = 64 * 1024  # above this, encode in a thread
MAX_DEPTH = 100  # json.loads recurses: far below the interpreter's limit, wherever it is called
_BIG = 1 << 2000  # digits that fit the lowest limit an interpreter can be set to (640)


# ---- what goes wrong ------------------------------------------------------------------------


class Misfit(Exception):
    """A value and its hint do not go together; `path` grows as it travels up to the root."""

    def __init__(self, reason: str, *, final: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.final = final  # no other member of a union can do better
        self.path: list[str] = []

    def at(self, step: str) -> "Misfit":
        self.path.append(step)
        return self


def explain(subject: str, error: Exception) -> str:
    """The sentence for a user about what went wrong with `subject`."""
    if isinstance(error, Misfit):
        steps = error.path[::-1]
        if len(steps) > 12:
            steps = [*steps[:8], "…", *steps[-3:]]
        return f"{subject}{''.join(steps)} {error.reason}"
    if isinstance(error, RecursionError):
        return f"{subject} is nested too deep for the stack that is left"
    return f"{subject} {raised(error)}"


def raised(error: Exception) -> str:
    return f"raised {type(error).__name__}: {' '.join(str(error).split())[:200]}"


def cause_of(error: Exception) -> BaseException | None:
    """The exception to chain: the user's own, never the internal one."""
    return error.__cause__ if isinstance(error, Misfit) else error


def too_large(takes: str, size: int, limit: int) -> str:
    return (
        f"{takes} {size} bytes as JSON, and the limit is {limit}: store the data elsewhere "
        f"(a file, a table, an object store) and pass a reference to it, such as a path or an id"
    )


def type_name(value: object) -> str:
    cls = type(value)
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__name__}"


def wrong(value: object, accepted: str) -> Misfit:
    return Misfit(f"is of type {type_name(value)}; accepted: {accepted}")


def unreadable(wire: Any, accepted: str) -> Misfit:
    return Misfit(f"is stored as {_WORDS[type(wire)]}, which does not decode as {accepted}")


_WORDS = {
    type(None): "null",
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    str: "a string",
    list: "an array",
    dict: "an object",
}


class Room:
    """What one encoding may still use, so that a huge or endless value is refused early.

    `left` is a lower bound: it never refuses what fits; the text is measured in the end. `doubtful`
    is set by a value whose class may rebuild it differently; it is then rebuilt and compared, with
    `full` asking for the state that is not stored, too.
    """

    depth = 0
    doubtful = False
    full = False

    def __init__(self, limit: int) -> None:
        self.limit = self.left = limit

    def enter(self, size: int) -> None:
        """Go one level deeper; the way back is `depth -= 1`, not needed after an error."""
        self.depth += 1
        self.spend(size)
        if self.depth > MAX_DEPTH:
            deep = f"is nested more than {MAX_DEPTH} levels deep, or contains itself"
            raise Misfit(deep, final=True)

    def spend(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            size = self.limit - self.left
            raise Misfit(too_large("takes at least", size, self.limit), final=True)


# ---- JSON text ------------------------------------------------------------------------------

# The C encoder and scanner behind `json`, kept ready: `JSONEncoder.encode` makes a new one at each
# call, `json.loads` looks for blanks first. 1.3 -> 0.6 µs and 1.6 -> 0.4 µs for two arguments.
_make: Any = getattr(json.encoder, "c_make_encoder", None)
_chunks: Any = _make and _make(None, None, encode_basestring, None, ":", ",", False, False, False)
_ENCODER = json.JSONEncoder(
    ensure_ascii=False, check_circular=False, allow_nan=False, separators=(",", ":")
)


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)
_scan = _DECODER.scan_once  # type: ignore[attr-defined]  # typeshed lacks it


def dumps(wire: Any) -> str:
    return "".join(_chunks(wire, 0)) if _chunks else _ENCODER.encode(wire)


def loads(text: str) -> Any:
    try:
        wire, end = _scan(text, 0)
    except StopIteration:
        end = -1
    return wire if end == len(text) else _DECODER.decode(text)


# ---- nodes ----------------------------------------------------------------------------------

Encode = Callable[[Any, Room], object]
Decode = Callable[[Any], object]


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """A compiled hint.

    `kinds`: the kinds of JSON it may write. `plain`: those of them that mean to it just what JSON
    says, so that any other member of a union that agrees may read them. `types`: the Python types
    that belong to it exactly.
    """

    name: str
    encode: Encode
    decode: Decode
    kinds: frozenset[str]
    plain: frozenset[str] = frozenset()
    types: frozenset[type] = frozenset()


_KINDS = {
    type(None): "null",
    bool: "bool",
    int: "int",
    float: "float",
    str: "str",
    list: "array",
    dict: "object",
}
PLAIN_KINDS = frozenset({"null", "bool", "int", "float", "str", "$0x"})
ALL_KINDS = frozenset({*PLAIN_KINDS, "array", "object", "$", "$0f", "$0model"})


def mark_of(wire: Any) -> str | None:
    """The key of an object that stands for something else."""
    if type(wire) is dict and len(wire) == 1:
        (key,) = wire
        if key.startswith("$"):
            return str(key)
    return None


def kind_of(wire: Any) -> str:
    return mark_of(wire) or _KINDS[type(wire)]


def escaped(wire: dict[str, object]) -> dict[str, object]:
    return {"$": wire} if mark_of(wire) else wire


def unescaped(wire: Any, name: str) -> dict[str, Any]:
    if mark_of(wire) == "$":
        wire = wire["$"]
    if type(wire) is not dict:
        raise unreadable(wire, name)
    return wire


# ---- native to JSON -------------------------------------------------------------------------


def _downcast(value: Any, cls: type, convert: Callable[[Any], object], name: str) -> Any:
    """An instance of a subclass as the declared type, if that loses nothing."""
    if not isinstance(value, cls):
        raise wrong(value, name)
    plain = convert(value)
    # The attributes of an enum's member are its name and value.
    own = not isinstance(value, Enum) and getattr(value, "__dict__", None)
    if own or not (plain == value or plain != plain):  # the latter is nan
        raise Misfit(
            f"is of type {type_name(value)}, which would lose something as a plain {name}; "
            f"accepted: {name}"
        )
    return plain


def write_none(value: Any, room: Room) -> object:
    if value is not None:
        raise wrong(value, "None")
    return None


def write_bool(value: Any, room: Room) -> object:
    if type(value) is not bool:
        raise wrong(value, "bool")
    return value


def write_int(value: Any, room: Room) -> object:
    if type(value) is int:
        if -_BIG < value < _BIG:
            return value
        room.spend(value.bit_length() // 4)
        return {"$0x": f"{value:x}"}
    if type(value) is bool:
        return value
    return write_int(_downcast(value, int, int.__int__, "int"), room)


def _write_float(value: Any, room: Room) -> object:
    if type(value) is float:
        return value if math.isfinite(value) else {"$0f": repr(value)}
    if isinstance(value, int):  # as type checkers have it; it comes back as the int that it is
        return write_int(value, room)
    return _write_float(_downcast(value, float, float.__float__, "float"), room)


def write_str(value: Any, room: Room) -> object:
    if type(value) is not str:
        value = _downcast(value, str, str.__str__, "str")
    size = len(value)
    if size > room.left:
        room.spend(size)
    room.left -= size
    return value if value.isascii() else _encodable(value)


def _encodable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        where = f"U+{ord(text[error.start]):04X} at position {error.start}"
        raise Misfit(
            f"contains a lone surrogate ({where}), which is not text; accepted: str that can be "
            f"encoded as UTF-8, or bytes"
        ) from None
    return text


def read_int(wire: Any) -> object:
    if type(wire) is int or type(wire) is bool:
        return wire
    if mark_of(wire) == "$0x":
        return int(wire["$0x"], 16)
    raise unreadable(wire, "int")


def _read_float(wire: Any) -> object:
    if type(wire) is float:
        return wire
    if mark_of(wire) == "$0f":
        return float(wire["$0f"])
    try:
        return read_int(wire)
    except Misfit:
        raise unreadable(wire, "float") from None


def _read_as(cls: type, name: str) -> Decode:
    def decode(wire: Any) -> object:
        if type(wire) is not cls:
            raise unreadable(wire, name)
        return wire

    return decode


def _native(name: str, cls: type, encode: Encode, decode: Decode, *more: str) -> Node:
    kinds = frozenset({_KINDS[cls], *more})
    return Node(name, encode, decode, kinds, kinds & PLAIN_KINDS, frozenset({cls}))


NONE = _native("None", type(None), write_none, _read_as(type(None), "None"))
BOOL = _native("bool", bool, write_bool, _read_as(bool, "bool"))
INT = _native("int", int, write_int, read_int, "bool", "$0x")
FLOAT = _native("float", float, _write_float, _read_float, "bool", "int", "$0x", "$0f")
STR = _native("str", str, write_str, _read_as(str, "str"))


# ---- written as text ------------------------------------------------------------------------


def text_node(
    cls: type, write: Callable[[Any], str], read: Callable[[str], object], name: str = ""
) -> Node:
    name = name or cls.__name__

    def encode(value: Any, room: Room) -> object:
        if type(value) is not cls:
            value = _downcast(value, cls, lambda one: read(write(one)), name)
        text = write(value)
        room.spend(len(text))
        return text

    def decode(wire: Any) -> object:
        if type(wire) is not str:
            raise unreadable(wire, name)
        try:
            return read(wire)
        except (ValueError, ArithmeticError) as error:
            raise Misfit(f"is stored as text that is no {name}: {error}") from None

    return Node(name, encode, decode, frozenset({"str"}), types=frozenset({cls}))


def bytes_node(cls: type[bytes] | type[bytearray]) -> Node:
    node = text_node(
        cls,
        lambda value: base64.b64encode(value).decode(),
        lambda text: cls(base64.b64decode(text, validate=True)),
    )

    def encode(value: Any, room: Room) -> object:
        if isinstance(value, cls) and len(value) > room.left:  # before a copy is made of it
            room.spend(len(value) * 4 // 3)
        return node.encode(value, room)

    return replace(node, encode=encode)


def path_node(cls: Any) -> Node:
    # `Path` makes a PosixPath or a WindowsPath; PathLike, which makes nothing, is read as Path.
    cls = Path if cls is PathLike else cls
    return text_node(type(cls()), lambda path: _encodable(str(path)), cls, cls.__name__)


def moment_node(cls: type[datetime] | type[time]) -> Node:
    def read(text: str) -> object:
        if text.endswith("!"):
            return cls.fromisoformat(text[:-1]).replace(fold=1)
        return cls.fromisoformat(text)

    return text_node(cls, _write_moment, read)


def _write_moment(moment: datetime | time) -> str:
    if moment.tzinfo is None:
        return moment.isoformat() + "!" * moment.fold  # ISO has no word for the second 02:30
    if moment.utcoffset() is None:
        raise Misfit(
            f"has a time zone without an offset; accepted: {type(moment).__name__} that is naive, "
            f"or has an offset"
        )
    return moment.isoformat()


_SPAN = re.compile(r"P(-?\d+)DT(\d+)(?:\.(\d{6}))?S", re.ASCII)


def _write_span(span: timedelta) -> str:
    fraction = f".{span.microseconds:06}" if span.microseconds else ""
    return f"P{span.days}DT{span.seconds}{fraction}S"


def _read_span(text: str) -> timedelta:
    match = _SPAN.fullmatch(text)
    if match is None:
        raise ValueError("not of the form P1DT2.500000S")
    return timedelta(int(match[1]), int(match[2]), int(match[3] or 0))


SPAN = text_node(timedelta, _write_span, _read_span)


_JSON = "None, bool, int, finite float, str, list, dict with str keys"


# ---- containers -----------------------------------------------------------------------------


class _Array:
    """Items of one kind, or a tuple of just these kinds."""

    def __init__(self, cls: Any, each: Iterable[Node], length: int | None, name: str) -> None:
        self.cls = cls
        self.each = each
        self.length = length
        self.name = name
        self.is_set = issubclass(cls, abc.Set)

    def encode(self, value: Any, room: Room) -> object:
        if type(value) is not self.cls:
            raise wrong(value, self.name)
        if self.length is not None and len(value) != self.length:
            raise Misfit(f"has {len(value)} items; accepted: {self.name}")
        if self.cls is deque and value.maxlen is not None:
            raise Misfit("has a maxlen, which would be lost; accepted: deque without maxlen")
        room.enter(2 * len(value))
        out: list[object] = []
        try:
            for node, one in zip(self.each, value, strict=False):
                out.append(node.encode(one, room))
        except Misfit as misfit:
            misfit.at("[…]" if self.is_set else f"[{len(out)}]")
            raise
        room.depth -= 1
        if self.is_set:
            out.sort(key=dumps)
        return out

    def decode(self, wire: Any) -> object:
        if type(wire) is not list or self.length not in (None, len(wire)):
            raise unreadable(wire, self.name)
        out: list[object] = []
        try:
            for node, one in zip(self.each, wire, strict=False):
                out.append(node.decode(one))
        except Misfit as misfit:
            misfit.at(f"[{len(out)}]")
            raise
        return out if self.cls is list else self.cls(out)


def array_node(cls: Any, item: Node | list[Node]) -> Node:
    """A list of nodes is for a tuple of fixed length."""
    if isinstance(item, Node):
        name = f"{cls.__name__}[{item.name}{', ...' * (cls is tuple)}]"
        array = _Array(cls, repeat(item), None, name)
    else:
        name = f"{cls.__name__}[{', '.join(one.name for one in item) or '()'}]"
        array = _Array(cls, item, len(item), name)
    return Node(name, array.encode, array.decode, frozenset({"array"}), types=frozenset({cls}))


class _Mapping:
    def __init__(self, cls: Any, key: Node, item: Node, name: str) -> None:
        self.cls = cls
        self.key = key
        self.item = item
        self.name = name
        self.as_object = key.kinds == {"str"}

    def encode(self, value: Any, room: Room) -> object:
        if type(value) is not self.cls:
            raise wrong(value, self.name)
        room.enter(5 * len(value))
        pairs: list[tuple[Any, object]] = []
        for key, one in value.items():
            written = self.encode_key(key, room)
            try:
                pairs.append((written, self.item.encode(one, room)))
            except Misfit as misfit:
                misfit.at(f"[{reprlib.repr(key)}]")
                raise
        room.depth -= 1
        if not self.as_object:
            return pairs
        out = dict(pairs)
        if len(out) != len(pairs):
            raise Misfit(f"has different keys that are written alike; accepted: {self.name}")
        return escaped(out)

    def encode_key(self, key: object, room: Room) -> object:
        try:
            return self.key.encode(key, room)
        except Misfit as misfit:
            if misfit.final:
                raise
            raise Misfit(f"has a key that {misfit.reason}") from misfit.__cause__

    def decode(self, wire: Any) -> object:
        out = self.cls()
        for written, one in self.pairs_of(wire):
            key = self.key.decode(written)
            try:
                out[key] = self.item.decode(one)
            except Misfit as misfit:
                misfit.at(f"[{reprlib.repr(key)}]")
                raise
        return out

    def pairs_of(self, wire: Any) -> Iterable[Any]:
        if self.as_object:
            return unescaped(wire, self.name).items()
        if type(wire) is list and all(type(one) is list and len(one) == 2 for one in wire):
            return wire
        raise unreadable(wire, self.name)


def mapping_node(cls: Any, key: Node, item: Node) -> Node:
    key = STR if key is ANY else key
    name = f"{cls.__name__}[{key.name}, {item.name}]"
    mapping = _Mapping(cls, key, item, name)
    kinds = frozenset({"object", "$"} if mapping.as_object else {"array"})
    return Node(name, mapping.encode, mapping.decode, kinds, types=frozenset({cls}))


# ---- untyped --------------------------------------------------------------------------------


def _write_any(value: Any, room: Room) -> object:
    encode = _UNTYPED.get(type(value))
    if encode is None:
        raise Misfit(
            f"is of type {type_name(value)}, which does not come back from JSON as it was without "
            f"a type hint; accepted: {_JSON}, or annotate it with its type"
        )
    return encode(value, room)


def _write_finite(value: Any, room: Room) -> object:
    if not math.isfinite(value):
        raise Misfit(f"is {value}; accepted: {_JSON}, or annotate it as float")
    return value


def _read_any(wire: Any) -> object:
    if type(wire) is list:
        return [_read_any(one) for one in wire]
    if type(wire) is not dict:
        return wire
    mark = mark_of(wire)
    if mark == "$0x":
        return read_int(wire)
    if mark and mark != "$":
        raise Misfit(f"is stored with the mark {mark!r}, which only a type hint can read")
    return {key: _read_any(one) for key, one in unescaped(wire, "dict").items()}


ANY = Node("Any", _write_any, _read_any, ALL_KINDS - {"$0f", "$0model"}, PLAIN_KINDS)
_UNTYPED: dict[type, Encode] = {
    type(None): write_none,
    bool: write_bool,
    int: write_int,
    float: _write_finite,
    str: write_str,
    list: array_node(list, ANY).encode,
    dict: mapping_node(dict, STR, ANY).encode,
}


class Record:
    """A value with named fields. `fields` are filled in later, for a record may contain itself."""

    step = ".{}"  # how a path names a field
    kinds = frozenset({"object"})

    def __init__(self, cls: Any, name: str, required: Iterable[str]) -> None:
        self.cls = cls
        self.name = name
        self.required = frozenset(required)
        self.fields: dict[str, Node] = {}

    def node(self) -> Node:
        return Node(self.name, self.encode, self.decode, self.kinds, types=frozenset({self.cls}))

    def encode(self, value: Any, room: Room) -> object:
        if type(value) is not self.cls:
            raise wrong(value, self.name)
        room.enter(5 * len(self.fields))
        out = self.write(value, self.fields, room)
        room.depth -= 1
        return out

    def read(self, value: Any, name: str) -> object:
        return getattr(value, name)

    def write(self, value: Any, fields: Mapping[str, Node], room: Room) -> dict[str, object]:
        out: dict[str, object] = {}
        name = ""
        try:
            for name, node in fields.items():
                out[name] = node.encode(self.read(value, name), room)
        except Misfit as misfit:
            misfit.at(self.step.format(name))
            raise
        except Exception as error:  # a property of the user's, or a field that is not there
            raise Misfit(raised(error)).at(self.step.format(name)) from error
        return out

    def decode(self, wire: Any) -> object:
        if type(wire) is not dict:
            raise unreadable(wire, self.name)
        out: dict[str, object] = {}
        for name, one in wire.items():
            if name not in self.fields:
                raise Misfit(f"is stored with {name!r}, which {self.name} does not have")
            try:
                out[name] = self.fields[name].decode(one)
            except Misfit as misfit:
                misfit.at(self.step.format(name))
                raise
        if missing := self.required - out.keys():
            raise Misfit(f"is stored without {min(missing)!r}, which {self.name} requires")
        try:
            return self.build(out)
        except Exception as error:
            raise Misfit(f"cannot be rebuilt: {self.name}(…) {raised(error)}") from error

    def build(self, values: dict[str, object]) -> object:
        return self.cls(**values)


class TypedDictRecord(Record):
    step = "['{}']"
    kinds = frozenset({"object", "$"})

    def node(self) -> Node:
        return dataclasses.replace(super().node(), types=frozenset({dict}))

    def encode(self, value: Any, room: Room) -> object:
        if type(value) is not dict:
            raise wrong(value, self.name)
        if unknown := [key for key in value if key not in self.fields]:
            raise Misfit(f"has the key {reprlib.repr(unknown[0])}; accepted: {self.name}")
        if missing := self.required - value.keys():
            raise Misfit(f"lacks the key {min(missing)!r}; accepted: {self.name}")
        room.enter(5 * len(value))
        out = self.write(value, {key: self.fields[key] for key in value}, room)
        room.depth -= 1
        return escaped(out)

    def read(self, value: Any, name: str) -> object:
        return value[name]

    def decode(self, wire: Any) -> object:
        return super().decode(unescaped(wire, self.name))

    def build(self, values: dict[str, object]) -> object:
        return values


class NamedTupleRecord(Record):
    def __init__(self, cls: Any, name: str) -> None:
        self.defaults: dict[str, object] = cls._field_defaults
        super().__init__(cls, name, set(cls._fields) - self.defaults.keys())

    def encode(self, value: Any, room: Room) -> object:
        if getattr(value, "__dict__", None) and type(value) is self.cls:
            raise Misfit("has attributes beyond its fields, which would be lost")
        return super().encode(value, room)

    def read(self, value: Any, name: str) -> object:
        return value[self.cls._fields.index(name)]

    def build(self, values: dict[str, object]) -> object:
        values = {**self.defaults, **values}
        return self.cls._make(values[name] for name in self.cls._fields)


# ---- dataclasses ----------------------------------------------------------------------------


class DataclassRecord(Record):
    def __init__(self, cls: Any, name: str) -> None:
        nothing = dataclasses.MISSING
        fields = [one for one in dataclasses.fields(cls) if one.init]
        required = [one for one in fields if one.default is one.default_factory is nothing]
        super().__init__(cls, name, [one.name for one in required])
        self.unset: dict[str, Node] = {}  # the fields that the constructor does not take
        self.transparent = _is_transparent(cls)
        self.has_dict = cls.__dictoffset__ != 0

    def encode(self, value: Any, room: Room) -> object:
        if type(value) is not self.cls:
            raise wrong(value, self.name)
        room.enter(5 * len(self.fields))
        out = self.write(value, self.fields, room)
        if not self.transparent or (self.has_dict and len(value.__dict__) != len(self.fields)):
            room.doubtful = True
            if room.full:
                out |= self.write(value, self.unset, room) | self.write_extras(value, room)
        room.depth -= 1
        return out

    def write_extras(self, value: Any, room: Room) -> dict[str, object]:
        """Attributes beyond the fields; what `cached_property` keeps there can be had again."""
        extras = {
            name: ANY
            for name in getattr(value, "__dict__", ())
            if name not in self.fields
            and name not in self.unset
            and not isinstance(inspect.getattr_static(self.cls, name, None), cached_property)
        }
        try:
            return self.write(value, extras, room)
        except Misfit as misfit:
            misfit.reason = "is not a field, and would be lost; accepted: fields only"
            raise


def _is_transparent(cls: Any) -> bool:
    """Whether a dataclass does nothing but keep its fields: its methods are the generated ones."""
    code = _generated(vars(cls).get("__init__"))
    if code is None or hasattr(cls, "__post_init__"):
        return False
    if cls.__new__ is not object.__new__ or cls.__getattribute__ is not object.__getattribute__:
        return False
    if cls.__setattr__ is not object.__setattr__ and not _generated(cls.__setattr__):
        return False
    names = {one.name for one in dataclasses.fields(cls)}
    if names != {*code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]}:
        return False  # init=False, InitVar
    places = [inspect.getattr_static(cls, name, None) for name in names]
    return not any(
        hasattr(type(place), "__set__") and not isinstance(place, types.MemberDescriptorType)
        for place in places
    )


def _generated(method: object) -> types.CodeType | None:
    code = getattr(method, "__code__", None)
    return code if code is not None and code.co_filename == "<string>" else None


def builds_on_builtin(cls: Any) -> bool:
    """Whether it derives from such as dict or Exception, which keep values outside of fields."""
    abstract = (object, typing.Generic, typing.Protocol)
    return any(not base.__flags__ & _HEAP_TYPE and base not in abstract for base in cls.__mro__)


_HEAP_TYPE = 1 << 9  # made by a class statement


# ---- enums ----------------------------------------------------------------------------------


class _EnumCodec:
    """By value where all are int or str, since names change more easily; else by name."""

    def __init__(self, cls: type[Enum]) -> None:
        values = [member._value_ for member in cls]
        self.cls = cls
        self.by_value = issubclass(cls, Flag) or all(type(one) in (int, str) for one in values)
        written = values if self.by_value else [member._name_ for member in cls]
        self.members: dict[object, Enum] = dict(zip(written, cls, strict=True))
        self.kinds = {"int" if type(one) is int else "str" for one in written}
        if issubclass(cls, Flag):
            self.kinds.add("int")

    def encode(self, value: Any, room: Room) -> object:
        if type(value) is not self.cls:
            raise wrong(value, self.cls.__name__)
        return value._value_ if self.by_value else value._name_

    def decode(self, wire: Any) -> object:
        if type(wire) is not int and type(wire) is not str:
            raise unreadable(wire, self.cls.__name__)
        if wire in self.members:
            return self.members[wire]
        unknown = f"is stored as {reprlib.repr(wire)}, which {self.cls.__name__} does not have"
        if not self.by_value:
            raise Misfit(unknown)
        try:
            return self.cls(wire)  # flags combined, or a value that the user's `_missing_` knows
        except Exception as error:
            raise Misfit(unknown) from error


def enum_node(cls: type[Enum]) -> Node:
    codec = _EnumCodec(cls)
    kinds = frozenset(codec.kinds)
    return Node(cls.__name__, codec.encode, codec.decode, kinds, types=frozenset({cls}))


# ---- pydantic -------------------------------------------------------------------------------


class _ModelCodec:
    def __init__(self, cls: Any) -> None:
        self.cls = cls
        self.name: str = cls.__name__
        # By field names where pydantic can (2.11): an alias may differ for reading and writing.
        by_name = "by_name" in inspect.signature(cls.model_validate_json).parameters
        self.names = {"by_alias": False, "by_name": True} if by_name else {}
        self.by_alias = not by_name

    def encode(self, value: Any, room: Room) -> object:
        if type(value) is not self.cls:
            raise wrong(value, self.name)
        try:
            plain = value.model_dump(
                mode="json", round_trip=True, by_alias=self.by_alias, warnings=False
            )
            wire = ANY.encode(plain, room)
            same = self.build(plain) == value
        except Misfit:
            raise
        except Exception as error:
            raise Misfit(f"cannot be rebuilt: {self.name} {raised(error)}") from error
        if not same:
            raise Misfit(f"would come back different from the JSON that {self.name} dumps of it")
        given: set[str] = value.model_fields_set
        return wire if self.cls.model_fields.keys() <= given else {"$0model": [wire, sorted(given)]}

    def build(self, plain: object) -> Any:
        # From JSON text, not from Python values: a strict model takes a date from text only there.
        return self.cls.model_validate_json(dumps(plain), **self.names)

    def decode(self, wire: Any) -> object:
        wire, given = wire["$0model"] if mark_of(wire) == "$0model" else (wire, None)
        try:
            model = self.build(ANY.decode(wire))
        except Exception as error:
            raise Misfit(f"does not decode as {self.name}, which {raised(error)}") from error
        if given is not None:
            model.model_fields_set.intersection_update(given)
        return model


def model_node(cls: Any) -> Node:
    codec = _ModelCodec(cls)
    is_root = getattr(cls, "__pydantic_root_model__", False)
    kinds = ALL_KINDS if is_root else frozenset({"object", "$", "$0model"})
    return Node(codec.name, codec.encode, codec.decode, kinds, types=frozenset({cls}))


_STORABLE = (
    "None, bool, int, float, str, bytes, dates and times, UUID, Decimal, Path, enums, dataclasses, "
    "TypedDict, NamedTuple, pydantic models, and containers and unions of these"
)


# ---- unions ---------------------------------------------------------------------------------


def _only(node: Node, values: list[object]) -> Node:
    """A node that takes these values alone: a Literal."""
    allowed = [_typed(node.encode(value, Room(sys.maxsize))) for value in values]
    name = f"Literal[{', '.join(map(repr, values))}]"

    def encode(value: Any, room: Room) -> object:
        try:
            wire = node.encode(value, room)
        except Misfit:
            raise wrong(value, name) from None
        if _typed(wire) not in allowed:
            raise Misfit(f"is another {type_name(value)}; accepted: {name}")
        return wire

    def decode(wire: Any) -> object:
        if _typed(wire) not in allowed:
            raise unreadable(wire, name)
        return node.decode(wire)

    return replace(node, encode=encode, decode=decode)


def _typed(wire: object) -> tuple[type, object]:
    return type(wire), wire  # True is not 1


def _clash(one: Node, two: Node) -> bool:
    """Whether JSON alone cannot tell two members of a union."""
    return any(kind not in one.plain or kind not in two.plain for kind in one.kinds & two.kinds)


class _Union:
    """Its first member that takes a value writes it, tagged if another could be meant.

    `lead`: the first member is never tagged.
    """

    def __init__(self, name: str, members: list[Node], tags: list[str], lead: bool) -> None:
        self.name = name
        self.members = members
        self.by_mark = {f"${tag}": one for tag, one in zip(tags, members, strict=True)}
        self.marks = {
            id(one): mark
            for mark, one in self.by_mark.items()
            if any(one is not other and _clash(one, other) for other in members)
            and not (lead and one is members[0])
        }
        self.types = frozenset[type]().union(*(one.types for one in members))
        self.order = {
            cls: sorted(members, key=lambda one: cls not in one.types) for cls in self.types
        }
        self.by_kind: dict[str, list[Node]] = {}
        for one in members:
            for kind in one.kinds:
                self.by_kind.setdefault(kind, []).append(one)
        if lead:
            self.by_kind.update({kind: [members[0]] for kind in members[0].kinds})

    def node(self) -> Node:
        kinds = {kind for one in self.members if id(one) not in self.marks for kind in one.kinds}
        kinds.update(self.marks.values())
        return Node(self.name, self.encode, self.decode, frozenset(kinds), types=self.types)

    def encode(self, value: Any, room: Room) -> object:
        before = room.depth, room.left
        failures = []
        candidates = self.order.get(type(value), self.members)
        for one in candidates:
            try:
                wire = one.encode(value, room)
            except Misfit as misfit:
                if misfit.final:
                    raise
                failures.append(misfit)
                room.depth, room.left = before
            else:
                mark = self.marks.get(id(one))
                return {mark: wire} if mark else wire
        exact = [one for one in candidates if type(value) in one.types]
        raise failures[0] if len(exact) == 1 else wrong(value, self.name)

    def decode(self, wire: Any) -> object:
        mark = mark_of(wire)
        if mark in self.by_mark:
            return self.by_mark[mark].decode(wire[mark])
        candidates = self.by_kind.get(kind_of(wire), [])
        if len(candidates) == 1:
            return candidates[0].decode(wire)
        # No tag where one is due: stored before the hint became a union. Good if only one reading.
        readings = [one for candidate in candidates for one in _attempt(candidate.decode, wire)]
        if not readings:
            raise unreadable(wire, self.name)
        if any(type(one) is not type(readings[0]) or one != readings[0] for one in readings):
            raise Misfit(f"is stored so that it could be any of several members of {self.name}")
        return readings[0]


def _attempt(decode: Decode, wire: Any) -> list[object]:
    try:
        return [decode(wire)]
    except Misfit:
        return []


def _union_node(name: str, members: list[Node], tags: list[str], lead: bool = False) -> Node:
    if len(members) == 1:
        return members[0]
    union = _Union(name, members, tags, lead)
    if union.marks or len(members) > 2 or NONE not in members:
        return union.node()
    (one,) = (member for member in members if member is not NONE)

    def encode(value: Any, room: Room) -> object:  # `X | None`, by a shorter way
        return None if value is None else one.encode(value, room)

    def decode(wire: Any) -> object:
        return None if wire is None else union.decode(wire)

    return replace(union.node(), encode=encode, decode=decode)


# ---- from hints to nodes --------------------------------------------------------------------


def _unsupported(hint: object) -> Node:
    name = hint.text if isinstance(hint, Unresolved) else _title(hint)
    why = (
        f"cannot be resolved ({hint.reason})"
        if isinstance(hint, Unresolved)
        else f"cannot be stored; accepted: {_STORABLE}"
    )

    def encode(value: Any, room: Room) -> object:
        raise Misfit(f"is of type {type_name(value)}, and its type hint {name} {why}")

    def decode(wire: Any) -> object:
        raise Misfit(f"cannot be decoded: its type hint {name} {why}")

    return Node(name, encode, decode, ALL_KINDS)


def _title(hint: object) -> str:
    """A hint in few words; for a class it is the tag in unions, too, so a module may move."""
    origin = get_origin(hint) or hint
    if not isinstance(origin, type):
        return repr(hint).replace("typing.", "")
    args = ", ".join(_title(one) for one in get_args(hint))
    return f"{origin.__name__}[{args}]" if args else origin.__name__


_ABSTRACT: dict[object, tuple[type, ...]] = {
    abc.Sequence: (list, tuple),
    abc.Reversible: (list, tuple),
    abc.MutableSequence: (list,),
    abc.Collection: (list, tuple, set, frozenset),
    abc.Iterable: (list, tuple, set, frozenset),
    abc.Set: (set, frozenset),
    abc.MutableSet: (set,),
}
_MAPPINGS = {dict: dict, abc.Mapping: dict, abc.MutableMapping: dict, OrderedDict: OrderedDict}
_SCALARS: dict[object, Node] = {
    **dict.fromkeys((Any, object, inspect.Parameter.empty), ANY),
    **dict.fromkeys((str, typing.LiteralString), STR),
    **{cls: path_node(cls) for cls in (PathLike, Path, type(Path()), PurePath)},
    **{cls: path_node(cls) for cls in (PurePosixPath, PureWindowsPath)},
    **{cls: bytes_node(cls) for cls in (bytes, bytearray)},
    **{cls: moment_node(cls) for cls in (datetime, time)},
    type(None): NONE,
    bool: BOOL,
    int: INT,
    float: FLOAT,
    UUID: text_node(UUID, str, UUID),
    Decimal: text_node(Decimal, str, Decimal),
    date: text_node(date, date.isoformat, date.fromisoformat),
    timedelta: SPAN,
}
_ARRAYS = (list, set, frozenset, deque)


class _Compiler:
    """Compiles one hint. `scope` looks up the names that are still strings inside of it."""

    def __init__(self, scope: dict[str, Any]) -> None:
        self.given = self.scope = scope
        self.scoped = False  # the node depends on the scope, so it must not be shared by hint
        self.records: dict[object, Node] = {}
        self.open: dict[object, Node] = {}  # aliases that are being compiled
        self.expanded: set[object] = set()  # aliases that became members of the union around

    def node(self, hint: Any) -> Node:
        hint = peel(hint)
        known = _SCALARS.get(hint) or self.records.get(hint) or self.open.get(hint)
        return known or self._make(hint, get_origin(hint) or hint, get_args(hint))

    def _make(self, hint: Any, origin: Any, args: tuple[Any, ...]) -> Node:
        if origin in (Union, types.UnionType, typing.Literal):
            return self._union(hint)
        if is_alias(hint):
            return self._alias(hint, origin.__name__, lambda: alias_value(hint))
        if isinstance(hint, str | typing.ForwardRef):
            return self._forward(hint)
        if origin in _MAPPINGS:
            key, item = args or (str, Any)
            return mapping_node(_MAPPINGS[origin], self.node(key), self.node(item))
        if origin is tuple and args[-1:] != (...,) and args != ():
            return array_node(tuple, [self.node(one) for one in args])
        if origin is tuple:
            # get_args says () of `tuple[()]` as of plain `tuple`.
            return array_node(tuple, [] if hint == tuple[()] else self.node((*args, Any)[0]))
        if origin in _ARRAYS:
            return array_node(origin, self.node((*args, Any)[0]))
        if origin in _ABSTRACT:
            item = self.node((*args, Any)[0])
            concrete = [array_node(cls, item) for cls in _ABSTRACT[origin]]
            tags = [cls.__name__ for cls in _ABSTRACT[origin]]
            return _union_node(f"{origin.__name__}[{item.name}]", concrete, tags, lead=True)
        return self._class(hint, origin) if isinstance(origin, type) else _unsupported(hint)

    def _union(self, hint: Any) -> Node:
        outer, self.expanded = self.expanded, set(self.expanded)
        hints = list(dict.fromkeys(self._members(hint)))
        literals = [one for one in hints if get_origin(one) is typing.Literal]
        others = [one for one in hints if get_origin(one) is not typing.Literal]
        nodes = [self.node(one) for one in others]
        names = [node.name for node in nodes]
        # Two classes of one name are told apart by their modules.
        tags = [
            name if names.count(name) == 1 else repr(one)
            for name, one in zip(names, others, strict=True)
        ]
        values = [value for one in literals for value in get_args(one)]
        for cls in dict.fromkeys(map(type, values)):
            base = self.node(cls)
            if base not in nodes:  # else it takes them anyway
                nodes.append(_only(base, [value for value in values if type(value) is cls]))
                tags.append(base.name)
        self.expanded = outer
        if len(set(tags)) < len(tags):
            return _unsupported(hint)
        return _union_node(" | ".join([*names, *map(_title, literals)]), nodes, tags)

    def _members(self, hint: Any) -> Iterable[Any]:
        """The members of a union and of the unions within it."""
        hint = peel(hint)
        if get_origin(hint) in (Union, types.UnionType):
            for one in get_args(hint):
                yield from self._members(one)
        elif is_alias(hint) and hint not in self.open and hint not in self.expanded:
            self.expanded.add(hint)
            yield from self._members(alias_value(hint))
        else:
            yield hint

    def _alias(self, key: Any, name: str, value: Callable[[], Any]) -> Node:
        """An alias may contain itself: until it is known, a node that looks it up when called."""
        found = [Node(name, ANY.encode, ANY.decode, ALL_KINDS)]
        records = self.records

        def encode(value: Any, room: Room) -> object:
            return found[-1].encode(value, room)

        def decode(wire: Any) -> object:
            return found[-1].decode(wire)

        for _ in range(3):  # inside, unions ask what it is outside: until the answer is stable
            self.open[key] = replace(found[-1], name=name, encode=encode, decode=decode)
            self.records = dict(records)
            found.append(self.node(value()))
            if found[-1].kinds == found[-2].kinds and found[-1].plain == found[-2].plain:
                break
        del self.open[key]
        return found[-1]

    def _forward(self, hint: str | typing.ForwardRef) -> Node:
        text = hint if isinstance(hint, str) else hint.__forward_arg__
        scope, key = self.scope, (text, id(self.scope))
        self.scoped |= scope is self.given
        return self.open.get(key) or self._alias(key, text, lambda: evaluate(text, scope))

    def _class(self, hint: Any, cls: Any) -> Node:
        if issubclass(cls, Enum):
            return self.records.setdefault(hint, enum_node(cls))
        models = sys.modules.get("pydantic.main")  # a model's class cannot be without it
        if models and issubclass(cls, models.BaseModel):
            return self.records.setdefault(hint, model_node(cls))
        if issubclass(cls, dict) and hasattr(cls, "__required_keys__"):
            hints = field_hints(cls, hint)
            usual = cls.__required_keys__
            required = [name for name, one in hints.items() if is_required(one, name in usual)]
            return self._record(hint, TypedDictRecord(cls, _title(hint), required), hints)
        if issubclass(cls, tuple) and hasattr(cls, "_fields"):
            hints = {**dict.fromkeys(cls._fields, Any), **field_hints(cls, hint)}
            return self._record(hint, NamedTupleRecord(cls, _title(hint)), hints)
        if dataclasses.is_dataclass(cls) and not builds_on_builtin(cls):
            known = field_hints(cls, hint)
            hints = {one.name: known.get(one.name, Any) for one in dataclasses.fields(cls)}
            record = DataclassRecord(cls, _title(hint))
            node = self._record(hint, record, hints)
            for one in dataclasses.fields(cls):
                if not one.init:
                    record.unset[one.name] = record.fields.pop(one.name)
            return node
        return _unsupported(hint)

    def _record(self, hint: Any, record: Record, hints: Mapping[str, object]) -> Node:
        node = self.records[hint] = record.node()
        outer, self.scope = self.scope, scope_of(record.cls)
        record.fields.update({name: self.node(one) for name, one in hints.items()})
        self.scope = outer
        return node


_NODES: dict[object, Node] = {}


def node_of(hint: object, scope: dict[str, Any] | None = None) -> Node:
    """The compiled hint; compiled once, if it means the same everywhere."""
    compiler = _Compiler(scope or {})
    try:
        hint = substitute(hint, {})  # no Annotated left anywhere: what it holds may be unhashable
        node = _NODES.get(hint) or compiler.node(hint)
    except Exception as error:  # an annotation can be anything, and is no reason to fail here
        return _unsupported(Unresolved(repr(hint), f"{type(error).__name__}: {error}"))
    if not compiler.scoped:
        _NODES[hint] = node
    return node


# ---- the two faces --------------------------------------------------------------------------


def _prove(node: Node, value: object, wire: object) -> None:
    """Rebuild a value whose class may do so differently, and compare all that it is."""
    again = node.decode(wire)
    states = []
    for one in (value, again):
        room = Room(sys.maxsize)
        room.full = True
        states.append(node.encode(one, room))
    if dumps(states[0]) != dumps(states[1]):
        raise Misfit(
            "would come back different: its constructor, or __post_init__, does not restore it"
        ).at(_difference(*states))


def _difference(one: Any, two: Any) -> str:
    """The path to the first place where two written values differ."""
    if type(one) is type(two) is dict:
        for name in (*one, *two):
            if name not in one or name not in two or one[name] != two[name]:
                return f".{name}{_difference(one.get(name), two.get(name))}"
    if type(one) is type(two) is list and len(one) == len(two):
        for i, (left, right) in enumerate(zip(one, two, strict=True)):
            if left != right:
                return f"[{i}]{_difference(left, right)}"
    return ""


def _finish(wire: object, limit: int) -> str:
    text = dumps(wire)
    size = len(text) if text.isascii() else len(text.encode())
    if size > limit:
        raise Misfit(too_large("takes", size, limit))
    return text


class Coder:
    """One type hint: what it takes to JSON text and back.

    Coder.of(list[date]).encode([date(2024, 1, 31)])    # '["2024-01-31"]'
    """

    def __init__(self, node: Node) -> None:
        self._node = node

    @staticmethod
    def of(hint: object) -> "Coder":
        """The coder of a hint. One that nothing can be stored by is an error at `encode` only."""
        return Coder(node_of(hint))

    def encode(self, value: object, limit: int = MAX_SIZE) -> str:
        """The JSON text; ResultError if the value does not fit, or takes over `limit` bytes."""
        room = Room(limit)
        try:
            wire = self._node.encode(value, room)
            if room.doubtful:
                _prove(self._node, value, wire)
            return _finish(wire, limit)
        except Exception as error:
            raise ResultError(explain("result", error)) from cause_of(error)

    def decode(self, text: str) -> object:
        """The value; ResultError if the text is not of this hint."""
        try:
            return self._node.decode(loads(text))
        except Exception as error:
            raise ResultError(explain("result", error)) from cause_of(error)


class Signature(Binder):
    """A function's parameters: calls bound to them, and their values as one JSON object.

    signature = Signature(send_mail)
    text = signature.encode(signature.bind((7,), {"subject": "Hi"}))
    args, kwargs = signature.decode(text)
    """

    def __init__(self, function: Callable[..., object]) -> None:
        super().__init__(function)
        self._function = function
        self._nodes: dict[str, Node] | None = None
        self._result: Coder | None = None

    @property
    def parameters(self) -> tuple[str, ...]:
        return self.names

    def encode(self, bound: Mapping[str, object], limit: int = MAX_SIZE) -> str:
        """The JSON text of bound values; ArgumentError naming the one that cannot be stored."""
        nodes = self._nodes if self._nodes is not None else self._compile()
        room = Room(limit)
        wire: dict[str, object] = {}
        name = ""
        try:
            for name, value in bound.items():
                wire[name] = nodes[name].encode(value, room)
            if room.doubtful:
                for name, value in bound.items():
                    _prove(nodes[name], value, wire[name])
        except Exception as error:
            raise self._refusal(f"argument {name}", error) from cause_of(error)
        try:
            return _finish(wire, limit)
        except Exception as error:
            raise self._refusal("the call", error) from cause_of(error)

    def decode(self, text: str) -> tuple[tuple[object, ...], dict[str, object]]:
        """Positional and keyword arguments to call the function with.

        Parameters that are new since, and have a default, are left out. ArgumentError if one is
        gone, is new without a default, or if a value is not of its type any more.
        """
        nodes = self._nodes if self._nodes is not None else self._compile()
        subject = "arguments"
        try:
            values = {}
            for name, wire in loads(text).items():
                subject = f"argument {name}"
                if name not in nodes:
                    raise Misfit("is stored, but the function has no such parameter any more")
                values[name] = nodes[name].decode(wire)
            if len(values) < len(nodes) and (missing := self.required - values.keys()):
                subject = f"argument {min(missing)}"
                raise Misfit("is not stored, and has no default: the parameter is new since")
            return self._spread(values)
        except Exception as error:
            raise self._refusal(subject, error) from cause_of(error)

    def _spread(self, values: dict[str, object]) -> tuple[tuple[object, ...], dict[str, object]]:
        try:
            return self.spread(values)
        except TypeError as error:
            raise Misfit(f"does not bind with the others stored: {error}") from None

    def result(self) -> Coder:
        """The coder of what the function returns; untyped without an annotation."""
        if self._result is None:
            hints, scope = function_hints(self._function)
            self._result = Coder(node_of(hints.get("return", Any), scope))
        return self._result

    def _compile(self) -> dict[str, Node]:
        hints, scope = function_hints(self._function)
        nodes = {
            name: node_of(variadic_hint(hints.get(name, Any), kind), scope)
            for name, kind in self.kinds.items()
        }
        if not any(isinstance(hints.get(name), Unresolved) for name in nodes):
            self._nodes = nodes
        return nodes

    def _refusal(self, subject: str, error: Exception) -> ArgumentError:
        return ArgumentError(f"{self.call}: {explain(subject, error)}")


# ---- size, before any encoding --------------------------------------------------------------

_SMALL = frozenset({type(None), bool, float, date, datetime, time, timedelta, UUID, Decimal})
_LOOKS = 4096


def is_large(value: object, budget: int = LARGE) -> bool:
    """Whether encoding it would give more than about `budget` bytes, or take as long as that.

    Every value counts for 16 bytes at least, since it takes time if not room. Looks at 4096 values
    at most, a container or an object counting for several, and says True then: 0.5 ms.
    """
    left, looks = budget - 16, _LOOKS
    batches: list[Collection[Any]] = [(value,)]
    while batches:
        for one in batches.pop():
            kind = type(one)
            if kind is str or kind is bytes:
                left -= len(one)
            elif kind is int:
                left -= one.bit_length() >> 2
            elif kind not in _SMALL:
                parts = (one,) if kind is list or kind is tuple else _parts(one)
                size = sum(map(len, parts))
                left -= 16 * size
                looks -= 1 + len(parts) + size
                if looks < 0:
                    return True
                batches += parts
        if left < 0:
            return True
    return False


def _parts(value: Any) -> tuple[Collection[Any], ...]:
    """What is within a value, without a copy of a container."""
    if isinstance(value, dict):
        return value, value.values()
    if isinstance(value, list | tuple | set | frozenset | deque):
        return (value,)
    if isinstance(value, str | bytes | bytearray):  # of a subclass: as if of so many parts
        return (range(len(value) // 16),)
    if not isinstance(value, Enum):
        slots = getattr(type(value), "__dataclass_fields__", ())
        with suppress(Exception):  # a property of the user's; encoding will say what it raised
            own = getattr(value, "__dict__", None) or {one: getattr(value, one) for one in slots}
            return (own.values(),)
    return ()
