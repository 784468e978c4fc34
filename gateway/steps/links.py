"""One binding, checked: which values it takes, and how they get into a step's request. Runs nothing."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import Descriptor

from gateway.steps import kinds, paths, templates, values
from gateway.steps.paths import Leaf, Part, Parts, PathError
from maas.gateway.v1 import gateway_pb2

INPUTS = "inputs"


class BadSource(Exception):
    """What is wrong with the path that a value is to come from."""


class BadTemplate(Exception):
    """What is wrong with a template."""


@dataclass(frozen=True, slots=True)
class Roots:
    """What paths may begin with: steps, each with its reply's message; inputs, each with its field of Input."""

    replies: Mapping[str, Descriptor]
    inputs: Mapping[str, str]

    def begin(self, parts: Parts) -> tuple[str, Descriptor, Parts]:
        """The root's name, its message, and the way from there. Raises PathError for what is no root."""
        first, *rest = parts
        name = str(first)
        if name in self.replies:
            return name, self.replies[name], tuple(rest)
        if name == INPUTS and rest and rest[0].name in self.inputs:
            given = rest[0]
            field = Part(self.inputs[given.name], given.index)
            return input_root(given.name), gateway_pb2.Input.DESCRIPTOR, (field, *rest[1:])
        wrong = str(rest[0]) if name == INPUTS and rest else name
        have = ", ".join(sorted([*self.replies, *map(input_root, self.inputs)]))
        raise PathError(f"there is no {'input' if wrong != name else 'step'} {wrong!r}; there are {have}")


def input_root(name: str) -> str:
    """No step's name has a dot."""
    return f"{INPUTS}.{name}"


@dataclass(frozen=True, slots=True)
class Source:
    """A value somewhere in a reply, or in an input: `root` says in which."""

    root: str
    parts: Parts
    leaf: Leaf
    text: str

    def read(self, found: Mapping[str, Any]) -> Any:
        """The value. Raises PathError naming the path where nothing is."""
        try:
            return values.read(found[self.root], self.parts)
        except PathError as error:
            raise PathError(f"{self.text} leads to nothing: {error}") from None


@dataclass(frozen=True, slots=True)
class Link:
    """`texts` are a template's, around the values; without any, the only value is copied."""

    target: Parts
    leaf: Leaf
    sources: tuple[Source, ...]
    texts: tuple[str, ...] = ()

    def value(self, found: Mapping[str, Any], most: int) -> Any:
        """What goes into the request. Raises PathError, or TooLong before a template makes more than `most`."""
        read = [source.read(found) for source in self.sources]
        if not self.texts:
            return read[0]
        told = [templates.told(s.leaf.field, value) for s, value in zip(self.sources, read, strict=True)]
        return templates.filled(self.texts, told, most)


def link(binding: gateway_pb2.Binding, request: Any, kind: str, roots: Roots) -> Link:
    """Checks a binding and makes room for its value in `request`, which is of `kind`.

    Raises PathError for its target, BadSource or BadTemplate.
    """
    target, leaf = _target(binding.target_path, request, kind)
    texts: tuple[str, ...] = ()
    named: tuple[str, ...] = ("",)
    if binding.template:
        texts, named = templates.cut(binding.template)
        if "" not in named:
            raise BadTemplate("has no {} for the value of source_path")
    sources = tuple(_source(text or binding.source_path, roots) for text in named)
    _fit(sources, leaf, bool(texts))
    values.place(request, target, leaf)
    return Link(target, leaf, sources, texts)


def _fit(sources: tuple[Source, ...], leaf: Leaf, by_template: bool) -> None:
    clash = kinds.templated(leaf) if by_template else ""
    if clash:
        raise BadTemplate(clash)
    for source in sources:
        clash = kinds.formatted(source.leaf) if by_template else kinds.copied(source.leaf, leaf)
        if clash:
            raise BadSource(clash)


def _target(text: str, request: Any, kind: str) -> tuple[Parts, Leaf]:
    first, *rest = paths.parse(text)
    if str(first) != kind or not rest:
        raise PathError(f"{text!r} must begin with {kind!r}, what the step calls, and name a field of it")
    return tuple(rest), paths.leaf(request.DESCRIPTOR, tuple(rest))


def _source(text: str, roots: Roots) -> Source:
    try:
        root, message, parts = roots.begin(paths.parse(text))
        if not parts:
            raise PathError(f"{text!r} is a step; name a field of its reply, as in {text}.served_by.model")
        return Source(root, parts, paths.leaf(message, parts), text)
    except PathError as error:
        raise BadSource(str(error)) from None
