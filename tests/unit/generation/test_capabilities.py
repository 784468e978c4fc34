"""Which fields a request sets, by name, and what is refused."""

import pytest

from maas.generation.v1 import generation_pb2 as pb
from maas.generation.v1 import generation_service_pb2 as service_pb
from services.generation.capabilities import ENGINE, EVERYTHING, given, require
from services.runtime.errors import Unimplemented

WIDE = service_pb.GenerateRequest(
    text="x",
    sampling=pb.Sampling(temperature=0, logit_bias={3: 1.0}, typical_p=0.5),
    constraint=pb.Constraint(choice=pb.Choice(values=["a"])),
    output=pb.Output(echo=False),
    priority=0,
)


def test_fields_are_named_where_they_are_set_even_to_zero() -> None:
    assert set(given(WIDE)) == {
        *("text", "sampling.temperature", "sampling.logit_bias", "sampling.typical_p"),
        *("constraint.choice", "output.echo", "priority"),
    }
    assert set(given(WIDE)) <= EVERYTHING and "stopping.stop" in EVERYTHING and "resume" in EVERYTHING


def test_neutral_values_ask_for_nothing() -> None:
    neutral = service_pb.GenerateRequest(sampling=pb.Sampling(num_beams=1, typical_p=1.0))
    assert not list(given(neutral))
    require(neutral, frozenset())


def test_what_is_not_honoured_is_named() -> None:
    require(WIDE, EVERYTHING)
    with pytest.raises(Unimplemented, match=r"^sampling\.typical_p, constraint\.choice: not served"):
        require(WIDE, EVERYTHING - {"sampling.typical_p", "constraint.choice", "stopping.stop"})


def test_the_engine_honours_every_plain_field() -> None:
    assert {"sampling.typical_p", "stopping.include_stop", "output.logprobs", "cache_salt"} <= ENGINE
