"""The Jinja2 dialect of chat templates, in a sandbox. Knows no messages and no tokenizer.

The dialect is that of the `transformers` library: trimmed blocks, `raise_exception`, `strftime_now`,
`tojson` without HTML escapes, loop controls and the `generation` tag (whose body is just rendered).
"""

import json
from datetime import datetime
from typing import Any, Never

from jinja2 import nodes
from jinja2.environment import Environment
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment


class RefusalError(Exception):
    """The template called `raise_exception`; the text is meant for the caller."""


class GenerationTag(Extension):
    """`{% generation %}` marks the assistant's words for training masks; here it changes nothing."""

    tags = {"generation"}  # noqa: RUF012 - the library declares it as an instance-less attribute

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """The body of the tag."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def environment() -> Environment:
    """A fresh sandboxed environment: templates reach no Python internals and change no argument."""
    made = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, loopcontrols]
    )
    made.filters["tojson"] = _to_json
    made.globals["raise_exception"] = _refuse
    made.globals["strftime_now"] = _now
    return made


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)


def _refuse(message: str) -> Never:
    raise RefusalError(message)


def _now(pattern: str) -> str:
    return datetime.now().strftime(pattern)
