"""Which replica a key leads to, which keys move, and how far a popular one may fill its replica."""

from collections import Counter
from dataclasses import dataclass

import pytest

from gateway.affinity import FEW, SPARE, Key, home, prompt_key, session_key
from maas.generation.v1.generation_service_pb2 import GenerateRequest, GenerateStreamRequest


@dataclass
class One:
    address: str
    in_flight: int = 0
    share: float = 1.0


def some(count: int) -> list[One]:
    return [One(f"10.0.0.{number}:50054") for number in range(count)]


def keys(count: int) -> list[Key]:
    return [session_key("", f"session {number}") for number in range(count)]


def test_keys_spread_and_are_the_same_for_every_gateway() -> None:
    found = [home(key, some(4)).address for key in keys(4000)]
    assert found == [home(key, list(reversed(some(4)))).address for key in keys(4000)]
    assert all(850 < count < 1150 for count in Counter(found).values())


def test_only_the_keys_of_a_lost_replica_move() -> None:
    before = [home(key, some(4)).address for key in keys(1000)]
    after = [home(key, some(4)[1:]).address for key in keys(1000)]
    lost = some(1)[0].address
    assert all(now == then for now, then in zip(after, before, strict=True) if then != lost)
    assert len({now for now, then in zip(after, before, strict=True) if then == lost}) == 3


def test_a_popular_prompt_spreads_in_its_own_order() -> None:
    replicas, key = some(3), prompt_key("", GenerateRequest(text="the same"))
    assert key is not None
    order = []
    for total in range(300):
        chosen = home(key, replicas)
        order.append(chosen.address)
        chosen.in_flight += 1
        assert chosen.in_flight <= max(FEW, SPARE * (total + 1) / 3 + 1)
    first, second, third = dict.fromkeys(order)
    assert order[:FEW] == [first] * FEW and order[FEW] == second
    loads = {one.address: one.in_flight for one in replicas}
    assert loads[first] >= loads[second] >= loads[third] > 40


def test_a_fresh_replica_is_filled_by_its_share() -> None:
    replicas, key = some(2), prompt_key("", GenerateRequest(text="the same"))
    assert key is not None
    home(key, replicas).share = 0.1
    for _ in range(110):
        home(key, replicas).in_flight += 1
    assert sorted(one.in_flight for one in replicas) == [13, 97]


def test_a_session_stays_however_busy_its_replica_is() -> None:
    replicas, key = some(3), keys(1)[0]
    home(key, replicas).in_flight = 1000
    assert home(key, replicas).in_flight == 1000


BASE = {"text": "x" * 256 + "one"}
SYSTEM = {"role": "system", "content": "Be brief."}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (BASE, {"text": "x" * 256 + "other"}, True),
        (BASE, {"text": "y" + "x" * 255}, False),
        (BASE, BASE | {"sampling": {"temperature": 1}, "priority": 3}, True),
        (BASE, BASE | {"cache_salt": "mine"}, False),
        (BASE, BASE | {"model": "other"}, False),
        (BASE, BASE | {"adapter": "other"}, False),
        ({"text": "12"}, {"token_ids": {"values": [1, 2]}}, False),
        ({"token_ids": {"values": [1, 2]}}, {"token_ids": {"packed": b"\1\0\0\0\2\0\0\0"}}, True),
        ({"token_ids": {"values": range(65)}}, {"token_ids": {"values": range(99)}}, True),
        ({"token_ids": {"values": range(63)}}, {"token_ids": {"values": range(64)}}, False),
        (
            {"chat": {"messages": [SYSTEM, {"role": "user", "content": "a"}]}},
            {"chat": {"messages": [SYSTEM, {"role": "user", "content": "b"}]}},
            True,
        ),
        ({"chat": {"messages": [SYSTEM]}}, {"chat": {"messages": [SYSTEM | {"role": "user"}]}}, False),
    ],
)
def test_what_shares_a_beginning_shares_a_key(one: dict, other: dict, same: bool) -> None:
    assert (prompt_key("t", GenerateRequest(**one)) == prompt_key("t", GenerateStreamRequest(**other))) is same
    assert prompt_key("t", GenerateRequest(**one)) != prompt_key("u", GenerateRequest(**one))


@pytest.mark.parametrize("fields", [{}, {"chat": {}}, BASE | {"truncate_prompt_tokens": 8}])
def test_what_has_no_beginning_has_no_key(fields: dict) -> None:
    assert prompt_key("", GenerateRequest(**fields)) is None
