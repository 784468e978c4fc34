"""Pipelines in a TOML file: one table a name, the words of maas.gateway.v1.Pipeline. Checked as they are read."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.json_format import ParseDict, ParseError

from gateway.steps.check import Plan, plan
from maas.gateway.v1 import gateway_pb2
from services.runtime.errors import InvalidInput, ServiceError
from services.runtime.validate import validate

# What the suite comes with.
FILE = Path(__file__).with_name("suite.toml")
_TYPES = gateway_pb2.Input.DESCRIPTOR.fields_by_name


@dataclass(frozen=True, slots=True)
class Stored:
    """A pipeline that can run. Nobody may write into its steps."""

    pipeline: gateway_pb2.Pipeline
    plan: Plan


def load(path: Path) -> Mapping[str, Stored]:
    """Pipelines by name. Raises InvalidInput naming line, or pipeline, step and binding; OSError."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidInput(str(path), f"is no TOML: {error}") from None
    return {name: _read(name, entry) for name, entry in table.items()}


def _read(name: str, entry: Any) -> Stored:
    pipeline = _parsed(name, entry)
    try:
        validate(pipeline)
    except ServiceError as error:
        raise InvalidInput(name, error.message) from None
    types = {key: _type_of(given, f"{name}.inputs.{key}") for key, given in pipeline.inputs.items()}
    return Stored(pipeline, plan(pipeline.steps, types, f"{name}.steps"))


def _parsed(name: str, entry: Any) -> gateway_pb2.Pipeline:
    if not isinstance(entry, dict):
        raise InvalidInput(name, f"is no pipeline; write [{name}] and [[{name}.steps]]")
    try:
        return ParseDict({**entry, "name": name}, gateway_pb2.Pipeline())
    except (ParseError, TypeError, AttributeError, ValueError) as error:
        raise InvalidInput(name, str(error)) from None


def _type_of(given: gateway_pb2.PipelineInput, where: str) -> str:
    if given.type not in _TYPES:
        raise InvalidInput(f"{where}.type", f"{given.type!r} is no type; choose one of {', '.join(_TYPES)}")
    if given.HasField("default") and given.default.WhichOneof("value") != given.type:
        raise InvalidInput(f"{where}.default", f"is no {given.type}; write {{ {given.type} = … }}")
    return given.type
