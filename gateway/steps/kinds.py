"""Which value fits where, told by descriptors alone, before there is a value."""

from google.protobuf.descriptor import FieldDescriptor

from gateway.steps.paths import Leaf

_TYPE = FieldDescriptor
_WORDS = {
    _TYPE.CPPTYPE_STRING: "text",
    _TYPE.CPPTYPE_BOOL: "a bool",
    _TYPE.CPPTYPE_FLOAT: "a number",
    _TYPE.CPPTYPE_DOUBLE: "a number",
}
_WHOLE = "a whole number"


def kind(field: FieldDescriptor) -> str:
    """What a field holds, in a word; messages and enums by their names."""
    if field.message_type is not None:
        return f"a {field.message_type.name}"
    if field.enum_type is not None:
        return f"a {field.enum_type.name}"
    return "bytes" if field.type == _TYPE.TYPE_BYTES else _WORDS.get(field.cpp_type, _WHOLE)


def copied(source: Leaf, target: Leaf) -> str:
    """Why `source` cannot be copied into `target`; empty if it can."""
    if source.listed != target.listed:
        one, other = (source, target) if source.listed else (target, source)
        fix = f"say which item, as in {one.field.name}[0]"
        return f"{one.field.name} is a list and {other.field.name} is not; {fix}"
    have, want = kind(source.field), kind(target.field)
    if _type(source.field) == _type(target.field) or (have, want) == (_WHOLE, "a number"):
        return ""
    fix = '; give a template, as in "{}"' if want == "text" and not formatted(source) else ""
    return f"{source.field.name} is {have}, {target.field.name} takes {want}{fix}"


def formatted(source: Leaf) -> str:
    """Why a template cannot tell `source`; empty if it can."""
    if source.listed:
        return f"{source.field.name} is a list; say which item, as in {source.field.name}[0]"
    have = kind(source.field)
    if source.field.message_type is not None or have == "bytes":
        return f"{source.field.name} is {have}, which no template tells; bind a field of text or numbers"
    return ""


def templated(target: Leaf) -> str:
    """Why the text of a template cannot go into `target`; empty if it can."""
    if target.listed or kind(target.field) != "text":
        return f"a template makes text, {target.field.name} takes {_told(target)}; leave the template out"
    return ""


def _told(leaf: Leaf) -> str:
    return f"a list ({kind(leaf.field)} each)" if leaf.listed else kind(leaf.field)


def _type(field: FieldDescriptor) -> str:
    """Equal for fields whose values can be copied, but for a number's range."""
    inner = field.message_type or field.enum_type
    return inner.full_name if inner is not None else kind(field)
