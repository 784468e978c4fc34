"""Enforces the `limits` that the protos declare. A checker is built once per message type, at start-up."""

import math
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, OneofDescriptor
from google.protobuf.message import Message

from maas.common.v1 import constraints_pb2
from services.runtime.errors import InvalidInput, Violation

# Where a message lies: in what, in which field of it, at which index (-1 = not in a list). Told only of a breach.
Place = tuple[Any, str, int] | None
Check = Callable[[Any, Place, list[Violation]], None]
ScalarRule = Callable[[Any], str | None]

_TEXTUAL = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)
_FLOATING = (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE)


def validate(message: Message) -> None:
    """Raises InvalidInput naming every field of `message` that breaks its declared limits."""
    check = checker(message.DESCRIPTOR)
    if check is None:
        return
    found: list[Violation] = []
    check(message, None, found)
    if found:
        raise InvalidInput.many(found)


@cache
def checker(descriptor: Descriptor) -> Check | None:
    """The check of one message type; None when nothing in it is limited."""
    if descriptor.full_name.startswith("google."):
        return None
    checks = [c for c in map(_field_check, descriptor.fields) if c]
    checks += [c for c in map(_oneof_check, descriptor.oneofs) if c]
    if not checks:
        return None

    def check(message: Any, place: Place, found: list[Violation]) -> None:
        for one in checks:
            one(message, place, found)

    return check


def _field_check(field: FieldDescriptor) -> Check | None:
    if field.containing_oneof is not None and _oneof_limits(field.containing_oneof).deferred:
        return None
    limits = field.GetOptions().Extensions[constraints_pb2.limits]
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return _map_check(field.name, field.message_type.fields_by_name["value"], limits)
    if field.is_repeated:
        return _repeated_check(field, limits)
    if field.message_type is not None:
        return _message_check(field, limits)
    return _scalar_check(field, limits)


def _oneof_check(oneof: OneofDescriptor) -> Check | None:
    if not _oneof_limits(oneof).required:
        return None
    name, choices = oneof.name, ", ".join(f.name for f in oneof.fields)

    def check(message: Any, place: Place, found: list[Violation]) -> None:
        if message.WhichOneof(name) is None:
            found.append(Violation(_path(place, name), f"one of {choices} must be set"))

    return check


def _oneof_limits(oneof: OneofDescriptor) -> constraints_pb2.OneofLimits:
    return oneof.GetOptions().Extensions[constraints_pb2.oneof_limits]


def _scalar_check(field: FieldDescriptor, limits: constraints_pb2.Limits) -> Check | None:
    rule = _rule(field, limits)
    if rule is None:
        return None
    name, optional = field.name, field.has_presence

    def check(message: Any, place: Place, found: list[Violation]) -> None:
        if optional and not message.HasField(name):
            return
        problem = rule(getattr(message, name))
        if problem:
            found.append(Violation(_path(place, name), problem))

    return check


def _message_check(field: FieldDescriptor, limits: constraints_pb2.Limits) -> Check | None:
    inner = checker(field.message_type)
    name, required = field.name, limits.required
    if inner is None and not required:
        return None

    def check(message: Any, place: Place, found: list[Violation]) -> None:
        if message.HasField(name):
            if inner is not None:
                inner(getattr(message, name), (place, name, -1), found)
        elif required:
            found.append(Violation(_path(place, name), "must be set"))

    return check


def _repeated_check(field: FieldDescriptor, limits: constraints_pb2.Limits) -> Check | None:
    rule = _rule(field, limits) if field.message_type is None else None
    inner = checker(field.message_type) if field.message_type is not None else None
    owner = field.containing_type
    packed = owner is not None and "packed" in owner.fields_by_name
    count = _count_rule(limits, "fill packed instead" if packed else "split the request")
    if rule is None and inner is None and count is None:
        return None
    name, numeric = field.name, rule is not None and field.type not in _TEXTUAL
    whole = field.type not in _FLOATING

    def check(message: Any, place: Place, found: list[Violation]) -> None:
        items = getattr(message, name)
        problem = count(len(items)) if count else None
        if problem:
            found.append(Violation(_path(place, name), problem))
            return
        if inner is not None:
            for index, item in enumerate(items):
                inner(item, (place, name, index), found)
        if rule is not None and not (numeric and _all_pass(rule, items[:], whole)):
            found.extend(_first_breach(rule, items, _path(place, name)))

    return check


def _map_check(name: str, value: FieldDescriptor, limits: constraints_pb2.Limits) -> Check | None:
    rule, count = _rule(value, limits), _count_rule(limits)
    if rule is None and count is None:
        return None

    def check(message: Any, place: Place, found: list[Violation]) -> None:
        items = getattr(message, name)
        problem = count(len(items)) if count else None
        if problem:
            found.append(Violation(_path(place, name), problem))
        for key, value in items.items():
            if rule and (problem := rule(value)):
                found.append(Violation(_path(place, f"{name}[{key}]"), problem))

    return check


def _path(place: Place, name: str) -> str:
    """The proto path of a field of the message at `place`."""
    while place is not None:
        place, outer, index = place
        name = f"{outer}.{name}" if index < 0 else f"{outer}[{index}].{name}"
    return name


def _all_pass(rule: ScalarRule, items: list[Any], whole: bool) -> bool:
    """Long lists in C speed: extremes and the sum decide for all (a NaN poisons the sum; no integer is one).

    A list proper: the library's own is walked through three times as slowly.
    """
    if not items:
        return True
    return rule(min(items)) is None and rule(max(items)) is None and (whole or math.isfinite(sum(items)))


def _first_breach(rule: ScalarRule, items: Iterable[Any], path: str) -> list[Violation]:
    for index, item in enumerate(items):
        problem = rule(item)
        if problem:
            return [Violation(f"{path}[{index}]", problem)]
    return []


def _count_rule(
    limits: constraints_pb2.Limits, fix: str = "split the request"
) -> Callable[[int], str | None] | None:
    low = limits.min_items if limits.HasField("min_items") else 0
    high = limits.max_items if limits.HasField("max_items") else math.inf
    if low == 0 and high == math.inf:
        return None

    def rule(count: int) -> str | None:
        if count < low:
            return f"has {count} items; at least {low} needed"
        return f"has {count} items; at most {high} allowed, {fix}" if count > high else None

    return rule


def _rule(field: FieldDescriptor, limits: constraints_pb2.Limits) -> ScalarRule | None:
    if field.type in _TEXTUAL:
        return _length_rule(limits)
    if field.enum_type is not None:
        return _enum_rule(field.enum_type) if limits.defined_only else None
    return _number_rule(limits)


def _enum_rule(enum: EnumDescriptor) -> ScalarRule:
    known = frozenset(enum.values_by_number)
    names = ", ".join(v.name for v in enum.values)
    return lambda value: None if value in known else f"{value} is not one of {names}"


def _length_rule(limits: constraints_pb2.Limits) -> ScalarRule | None:
    low = limits.min_bytes if limits.HasField("min_bytes") else 0
    high = limits.max_bytes if limits.HasField("max_bytes") else math.inf
    if low == 0 and high == math.inf:
        return None

    def rule(value: str | bytes) -> str | None:
        # A code point takes at most 4 bytes, so short strings need no encoding to be counted.
        if low <= len(value) and len(value) * 4 <= high:
            return None
        size = len(value.encode()) if isinstance(value, str) else len(value)
        if size < low:
            return "must not be empty" if low == 1 else f"is {size} bytes; at least {low} needed"
        return f"is {size} bytes; at most {high} allowed" if size > high else None

    return rule


def _number_rule(limits: constraints_pb2.Limits) -> ScalarRule | None:
    low = limits.min if limits.HasField("min") else -math.inf
    high = limits.max if limits.HasField("max") else math.inf
    exclusive, finite = limits.exclusive_min, limits.finite
    if low == -math.inf and high == math.inf and not finite:
        return None

    def rule(value: float) -> str | None:
        if finite and not math.isfinite(value):
            return f"is {value}; a finite number is needed"
        if value < low or (exclusive and value == low):
            return f"is {value:g}; must be {'above' if exclusive else 'at least'} {low:g}"
        return f"is {value:g}; must be at most {high:g}" if value > high else None

    return rule
