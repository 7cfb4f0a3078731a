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
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, time, timedelta
from enum import Enum
from json.encoder import encode_basestring
from os import PathLike
from pathlib import Path
from typing import Any

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
