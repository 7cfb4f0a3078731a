"""Values with named fields, and enums: dataclasses, TypedDicts, named tuples, pydantic models.

A dataclass is rebuilt by its constructor, which may do anything. Where a class does more than keep
its fields, encoding asks for a proof: the value is rebuilt and compared, once, from the root.
"""

import dataclasses
import inspect
import reprlib
import types
import typing
from collections.abc import Iterable, Mapping
from enum import Enum, Flag
from functools import cached_property
from typing import Any

from inloop._codec.containers import ANY
from inloop._codec.nodes import (
    ALL_KINDS,
    Misfit,
    Node,
    Room,
    dumps,
    escaped,
    mark_of,
    raised,
    unescaped,
    unreadable,
    wrong,
)


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
