"""Containers, and values without a type hint: what JSON gives back equal by itself."""

import math
import reprlib
from collections import abc, deque
from collections.abc import Iterable
from itertools import repeat
from typing import Any

from inloop._codec.nodes import (
    ALL_KINDS,
    PLAIN_KINDS,
    STR,
    Encode,
    Misfit,
    Node,
    Room,
    dumps,
    escaped,
    mark_of,
    read_int,
    type_name,
    unescaped,
    unreadable,
    write_bool,
    write_int,
    write_none,
    write_str,
    wrong,
)

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
