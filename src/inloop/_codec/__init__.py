"""Arguments and results as JSON text, by type hints: `Signature` and `Coder`."""

import sys
from collections import deque
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from inloop._codec.compiler import node_of
from inloop._codec.nodes import Misfit, Node, Room, cause_of, dumps, explain, loads, too_large
from inloop._codec.signature import Binder, Unresolved, function_hints, variadic_hint
from inloop._errors import ArgumentError, ResultError

MAX_SIZE = 1 << 20  # bytes of JSON
LARGE = 64 * 1024  # above this, encode in a thread


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
