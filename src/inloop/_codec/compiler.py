"""Unions, and the way from type hints to nodes."""

import dataclasses
import inspect
import sys
import types
import typing
from collections import OrderedDict, abc, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from os import PathLike
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Any, Union, get_args, get_origin
from uuid import UUID

from inloop._codec.containers import ANY, array_node, mapping_node
from inloop._codec.nodes import (
    ALL_KINDS,
    BOOL,
    FLOAT,
    INT,
    NONE,
    SPAN,
    STR,
    Decode,
    Misfit,
    Node,
    Room,
    bytes_node,
    kind_of,
    mark_of,
    moment_node,
    path_node,
    text_node,
    type_name,
    unreadable,
    wrong,
)
from inloop._codec.records import (
    DataclassRecord,
    NamedTupleRecord,
    Record,
    TypedDictRecord,
    builds_on_builtin,
    enum_node,
    model_node,
)
from inloop._codec.signature import (
    Unresolved,
    alias_value,
    evaluate,
    field_hints,
    is_alias,
    is_required,
    peel,
    scope_of,
    substitute,
)

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
