"""What functions and classes declare: parameters, how a call binds to them, and type hints.

Hints are resolved at first use, not at declaration: by then every module is loaded, and names that
stood before their definition are there. One that still cannot be resolved, such as an import under
`TYPE_CHECKING`, stays as an `Unresolved` and harms nobody but its own parameter.
"""

import functools
import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import InitVar, dataclass
from typing import Any, Generic, NewType, TypeVar, Union, get_args, get_origin

_EITHER = inspect.Parameter.POSITIONAL_OR_KEYWORD
_PLAIN = frozenset({_EITHER, inspect.Parameter.KEYWORD_ONLY})
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_WRAPPERS = {"Final", "ClassVar", "Required", "NotRequired", "ReadOnly"}
_EMPTY = inspect.Parameter.empty


# ---- calls ----------------------------------------------------------------------------------


def call_name(function: Callable[..., object]) -> str:
    """How a call of it looks in a message: `send_mail()`."""
    return f"{getattr(function, '__qualname__', type(function).__qualname__)}()"


class Binder:
    """Binds calls to a function's parameters, and gives bound values back as a call."""

    def __init__(self, function: Callable[..., object]) -> None:
        self.call = call_name(function)
        self._shape = _shape(function)
        self.kinds = {name: one.kind for name, one in self._shape.parameters.items()}
        self.names = tuple(self.kinds)
        self._defaults = {
            name: one.default
            for name, one in self._shape.parameters.items()
            if one.default is not _EMPTY
        }
        # Without variadics and positional-only ones a loop binds in 0.3 µs; `inspect` takes 5.
        self._plain = _PLAIN.issuperset(self.kinds.values())
        self._positional = list(self.kinds.values()).count(_EITHER)
        self.required = frozenset(
            name
            for name, kind in self.kinds.items()
            if name not in self._defaults and kind not in _VARIADIC
        )

    def bind(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> dict[str, object]:
        """The values by parameter name, in the order of the parameters, defaults applied."""
        given = len(args)
        if not self._plain or given > self._positional:
            return self._bind_by_inspect(args, kwargs)
        bound = dict(zip(self.names, args, strict=False))
        if not kwargs and given == len(self.names):
            return bound
        taken = 0
        for name in self.names[given:]:
            if name in kwargs:
                bound[name] = kwargs[name]
                taken += 1
            elif name in self._defaults:
                bound[name] = self._defaults[name]
            else:
                return self._bind_by_inspect(args, kwargs)
        return bound if taken == len(kwargs) else self._bind_by_inspect(args, kwargs)

    def _bind_by_inspect(
        self, args: tuple[object, ...], kwargs: Mapping[str, object]
    ) -> dict[str, object]:
        try:
            bound = self._shape.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.call} {error}") from None
        bound.apply_defaults()
        return bound.arguments

    def spread(self, values: dict[str, Any]) -> tuple[tuple[object, ...], dict[str, object]]:
        """The call for these values; parameters that are not among them keep their defaults.

        A TypeError, if they do not make a call.
        """
        if self._plain:
            return (), values
        kinds = inspect.Parameter
        early: set[object] = {kinds.POSITIONAL_ONLY}
        if kinds.VAR_POSITIONAL in self.kinds.values():
            early.add(kinds.POSITIONAL_OR_KEYWORD)
        args: list[object] = []
        kwargs: dict[str, object] = {}
        for name, kind in self.kinds.items():
            if kind in early:
                args.append(values.get(name, self._defaults.get(name)))
            elif kind is kinds.VAR_POSITIONAL:
                args.extend(values.get(name, ()))
            elif kind is kinds.VAR_KEYWORD:
                more = values.get(name, {})
                if both := more.keys() & kwargs.keys():
                    raise TypeError(f"got multiple values for argument {min(both)!r}")
                kwargs |= more
            elif name in values:
                kwargs[name] = values[name]
        self._shape.bind(*args, **kwargs)
        return tuple(args), kwargs


def _shape(function: Callable[..., object]) -> inspect.Signature:
    try:
        if sys.version_info >= (3, 14):  # annotations are evaluated there unless told otherwise
            import annotationlib

            return inspect.signature(function, annotation_format=annotationlib.Format.FORWARDREF)
        return inspect.signature(function)
    except ValueError:  # some builtins do not say
        return inspect.signature(lambda *args, **kwargs: None)


# ---- hints ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Unresolved:
    """An annotation that names something that is not there."""

    text: str
    reason: str


def scope_of(thing: Any) -> dict[str, Any]:
    """The names that the annotations of a function or class can use."""
    module = sys.modules.get(getattr(thing, "__module__", None) or "")
    names = getattr(thing, "__globals__", None) or (vars(module) if module else {})
    parameters = getattr(thing, "__type_params__", ())  # which Python 3.12.0 to .3 forget
    return {**names, **{one.__name__: one for one in parameters}} if parameters else names


def evaluate(annotation: object, scope: dict[str, Any]) -> object:
    """One annotation with the names in it looked up."""
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    try:
        return typing.get_type_hints(holder, scope, {}, include_extras=True)["it"]
    except Exception as error:  # whatever an annotation may raise is no reason to fail here
        text = getattr(annotation, "__forward_arg__", annotation)
        return Unresolved(str(text), f"{type(error).__name__}: {error}")


def function_hints(function: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The hints of a function's parameters and of its "return", and the scope they stand in."""
    while isinstance(function, functools.partial):
        function = function.func
    if isinstance(function, type):
        hints, scope = function_hints(function.__init__)  # type: ignore[misc]  # unsound if called
        return {**hints, "return": function}, scope
    if not hasattr(function, "__annotations__"):
        function = getattr(type(function), "__call__", function)  # noqa: B004  # not a test
    function = inspect.unwrap(function)
    scope = scope_of(function)
    try:
        return typing.get_type_hints(function, include_extras=True), scope
    except Exception:  # one name is missing: look at each annotation by itself
        hints = {name: evaluate(one, scope) for name, one in _annotations(function).items()}
        return hints, scope


def variadic_hint(hint: Any, kind: object) -> Any:
    """`*args: int` as `tuple[int, ...]` and `**kwargs: int` as `dict[str, int]`."""
    if kind is inspect.Parameter.VAR_POSITIONAL:
        return _of_args(hint)
    if kind is inspect.Parameter.VAR_KEYWORD:
        return _of_kwargs(hint)
    return hint


def _of_args(hint: Any) -> object:
    if getattr(hint, "__unpacked__", False):  # *args: *tuple[int, str]
        return tuple[hint.__args__]
    if _is_unpack(hint):
        return get_args(hint)[0]
    item: Any = Any if isinstance(hint, typing.ParamSpecArgs) else hint
    return tuple[item, ...]


def _of_kwargs(hint: Any) -> object:
    if _is_unpack(hint):
        return get_args(hint)[0]
    item: Any = Any if isinstance(hint, typing.ParamSpecKwargs) else hint
    return dict[str, item]


def _is_unpack(hint: Any) -> bool:
    return getattr(get_origin(hint), "_name", None) == "Unpack"  # also typing_extensions' own


def _annotations(thing: Any) -> dict[str, Any]:
    if sys.version_info >= (3, 14):
        import annotationlib

        return annotationlib.get_annotations(thing, format=annotationlib.Format.FORWARDREF)
    return inspect.get_annotations(thing)


def field_hints(cls: Any, hint: object) -> dict[str, object]:
    """The hints of a class's fields, `hint` being the class with its type arguments, if any."""
    try:
        hints = typing.get_type_hints(cls, include_extras=True)
    except Exception:  # one name is missing, for one: a class that is local to a function
        hints = {
            name: evaluate(one, {**scope_of(base), cls.__name__: cls})
            for base in reversed(cls.__mro__)
            for name, one in _annotations(base).items()
        }
    found: dict[str, object] = {}
    ancestors = list(_ancestors(cls, get_args(hint), hint))
    if issubclass(cls, dict):  # a TypedDict repeats its bases' fields, with their type variables
        ancestors.reverse()
    for base, known in ancestors:
        for name in _annotations(base):
            if name in hints:
                found.setdefault(name, substitute(hints[name], known))
    return found


def _ancestors(
    cls: Any, args: tuple[object, ...], owner: object
) -> Iterator[tuple[Any, dict[object, object]]]:
    """A class and its bases, nearest first, each with what its type parameters stand for."""
    known = dict(zip(getattr(cls, "__parameters__", ()), args, strict=False))
    yield cls, {**known, typing.Self: owner}
    for base in vars(cls).get("__orig_bases__", cls.__bases__):
        origin = get_origin(base) or base
        if isinstance(origin, type) and origin not in (Generic, typing.Protocol):
            passed = tuple(substitute(one, known) for one in get_args(base))
            yield from _ancestors(origin, passed, owner)


def substitute(hint: Any, known: Mapping[object, object]) -> Any:
    """The hint with type variables, and `Self`, replaced."""
    args = get_args(hint)
    if not args:
        return known.get(hint, hint) if isinstance(hint, TypeVar) or hint is typing.Self else hint
    origin = get_origin(hint)
    if origin is typing.Literal:
        return hint
    if origin is typing.Annotated:
        return substitute(args[0], known)
    replaced = tuple(substitute(one, known) for one in args)
    if all(new is old for new, old in zip(replaced, args, strict=True)):
        return hint
    if origin in (Union, types.UnionType):
        return Union[replaced]  # noqa: UP007  # a tuple of members, not two of them
    return origin[replaced[0] if len(replaced) == 1 else replaced]


def peel(hint: Any) -> Any:
    """The hint without what says nothing about the values: Annotated, NewType, Final, …"""
    while True:
        origin = get_origin(hint)
        if isinstance(hint, NewType):
            hint = hint.__supertype__
        elif isinstance(hint, TypeVar):
            constraints = hint.__constraints__
            bound = Union[constraints] if constraints else hint.__bound__  # noqa: UP007  # a tuple
            hint = Any if bound is None else bound
        elif isinstance(hint, InitVar):
            hint = hint.type
        elif origin is typing.Annotated or getattr(origin, "_name", None) in _WRAPPERS:
            hint = get_args(hint)[0]
        elif hint in (typing.Final, typing.ClassVar):
            hint = Any
        else:
            return type(None) if hint is None else hint


def is_required(hint: Any, usually: bool) -> bool:
    """Whether a TypedDict's field is required: `Required[…]` and its kin may be anywhere outside.

    The class's own `__required_keys__` cannot see them where annotations are strings.
    """
    while (origin := get_origin(hint)) is not None:
        name = getattr(origin, "_name", None)
        if name in ("Required", "NotRequired"):
            return bool(name == "Required")
        if origin is not typing.Annotated and name != "ReadOnly":
            break
        hint = get_args(hint)[0]
    return usually


def is_alias(hint: Any) -> bool:
    """Whether it is made by a `type` statement; on Python 3.11 by typing_extensions."""
    return type(get_origin(hint) or hint).__name__ == "TypeAliasType"


def alias_value(hint: Any) -> Any:
    """What an alias stands for; names in it that are still strings are those of its module."""
    alias = get_origin(hint) or hint
    known = dict(zip(alias.__type_params__, get_args(hint), strict=False))
    return substitute(evaluate(alias.__value__, scope_of(alias)), known)
