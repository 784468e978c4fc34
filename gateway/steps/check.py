"""Steps of a pipeline → a plan that can run, or what is wrong with them. Nothing is called."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from google.protobuf.descriptor import Descriptor

from gateway.steps import graph
from gateway.steps.links import INPUTS, BadSource, BadTemplate, Link, Roots, link
from gateway.steps.paths import Parts, PathError
from maas.gateway.v1 import gateway_pb2
from services.runtime.errors import InvalidInput

_NAME = re.compile(r"[\w-]+", re.ASCII)
# Some 15 µs each.
MOST_VALUES = 4096

Steps = Sequence[gateway_pb2.Step]


@dataclass(frozen=True, slots=True)
class Plan:
    """Per step, in the order given: what its request takes from where, and whose replies it needs for that."""

    links: Mapping[str, tuple[Link, ...]]
    needs: Mapping[str, tuple[str, ...]]


def plan(steps: Steps, inputs: Mapping[str, str], where: str) -> Plan:
    """Checks every reference, and makes room for the values in the steps' own requests.

    `inputs`: the field of Input that each is. Raises InvalidInput naming step and binding, below `where`.
    """
    _check_names(steps, where)
    _check_size(steps, where)
    roots = Roots({step.name: _reply(step) for step in steps}, inputs)
    links = {step.name: _links(step, roots, f"{where}[{index}]") for index, step in enumerate(steps)}
    needs = {name: _needs(found, roots) for name, found in links.items()}
    _check_order(needs, steps, where)
    return Plan(links, needs)


def _check_names(steps: Steps, where: str) -> None:
    seen: set[str] = set()
    for index, step in enumerate(steps):
        field = f"{where}[{index}].name"
        if not _NAME.fullmatch(step.name) or step.name == INPUTS:
            raise InvalidInput(field, f"{step.name!r} is no name; use letters, digits, _ and -, not {INPUTS!r}")
        if step.name in seen:
            raise InvalidInput(field, f"{step.name!r} is used twice; names must be unique")
        seen.add(step.name)


def _check_size(steps: Steps, where: str) -> None:
    """Bounds the time that the check takes, by what is counted in none."""
    count = sum(1 + binding.template.count("{") for step in steps for binding in step.bindings)
    if count > MOST_VALUES:
        raise InvalidInput(where, f"have {count} bindings and braces in templates; at most {MOST_VALUES} allowed")


def _links(step: gateway_pb2.Step, roots: Roots, where: str) -> tuple[Link, ...]:
    found: list[Link] = []
    for index, binding in enumerate(step.bindings):
        field = f"{where}.bindings[{index}]"
        try:
            made = link(binding, getattr(step.request, _kind(step)), _kind(step), roots)
            _check_alone(made.target, [other.target for other in found])
        except PathError as error:
            raise _wrong(f"{field}.target_path", step, error) from None
        except BadSource as error:
            raise _wrong(f"{field}.source_path", step, error) from None
        except BadTemplate as error:
            raise _wrong(f"{field}.template", step, error) from None
        found.append(made)
    return tuple(found)


def _check_alone(target: Parts, others: Sequence[Parts]) -> None:
    """No value may overwrite another, or a part of it."""
    for index, other in enumerate(others):
        if target[: len(other)] == other[: len(target)]:
            raise PathError(f"bindings[{index}] fills {'.'.join(map(str, other))} already; leave one of them out")


def _wrong(field: str, step: gateway_pb2.Step, error: Exception) -> InvalidInput:
    return InvalidInput(field, f"step {step.name!r}: {error}")


def _needs(links: Sequence[Link], roots: Roots) -> tuple[str, ...]:
    wanted = (source.root for link in links for source in link.sources)
    return tuple(dict.fromkeys(root for root in wanted if root in roots.replies))


def _check_order(needs: graph.Needs, steps: Steps, where: str) -> None:
    ring = graph.cycle(needs)
    if not ring:
        return
    index = next(index for index, step in enumerate(steps) if step.name == ring[0])
    told = "needs its own reply" if len(ring) == 2 else "is in a ring of steps that wait for each other"
    raise InvalidInput(
        f"{where}[{index}].bindings", f"step {ring[0]!r} {told}: {' → '.join(ring)}; take one binding out"
    )


def _reply(step: gateway_pb2.Step) -> Descriptor:
    """What the step's call is answered with: the field of the same name in a CallResult."""
    field = gateway_pb2.CallResult.DESCRIPTOR.fields_by_name[_kind(step)]
    assert field.message_type is not None
    return field.message_type


def _kind(step: gateway_pb2.Step) -> str:
    return step.request.WhichOneof("request") or ""
