"""Prompts of two tenants share no block of the KV cache, whatever salt they send; those of one do."""

from typing import Any

import pytest

from maas.generation.v1 import generation_pb2 as pb
from maas.generation.v1 import generation_service_pb2 as service_pb
from services.runtime.identity.caller import Caller
from services.runtime.identity.mesh import Mesh
from tests.service.generation import Served

MESH_KEY = bytes(range(32))
PROMPT = "a prompt that is long enough for some blocks to be filled by it " * 2


@pytest.fixture
def overrides() -> dict[str, Any]:
    return {"mesh_key": MESH_KEY.hex()}


async def cached(served: Served, tenant: str, **more: Any) -> int:
    """Prompt tokens that were found in the cache."""
    asked = service_pb.GenerateRequest(text=PROMPT, stopping=pb.Stopping(max_tokens=1), **more)
    along = Mesh([MESH_KEY]).vouch(Caller(tenant=tenant)).vouching
    return (await served.stub.Generate(asked, metadata=along)).usage.cached_prompt_tokens


@pytest.mark.parametrize("salt", [{}, {"cache_salt": "pepper"}])
async def test_no_block_is_shared_between_tenants(served: Served, salt: dict[str, str]) -> None:
    assert [await cached(served, tenant, **salt) for tenant in ("acme", "umbrella", "")] == [0, 0, 0]
    assert all([await cached(served, tenant, **salt) > 0 for tenant in ("acme", "umbrella", "")])


async def test_a_salt_divides_its_own_tenants_alone(served: Served) -> None:
    assert await cached(served, "acme") == 0
    assert await cached(served, "acme", cache_salt="pepper") == 0
    assert await cached(served, "acme", cache_salt="pepper") > 0
    for salt in ("pepper", "acme", "acmepepper", "\x04\x00\x00\x00\x00\x00\x00\x00acme"):
        assert await cached(served, "umbrella", cache_salt=salt) == 0
    assert await cached(served, "acmep", cache_salt="epper") == 0


async def test_streams_and_scores_of_another_tenant_share_none_either(served: Served) -> None:
    await cached(served, "acme")
    asked = service_pb.GenerateStreamRequest(text=PROMPT, stopping=pb.Stopping(max_tokens=1))
    for tenant, found in (("umbrella", False), ("acme", True)):
        along = Mesh([MESH_KEY]).vouch(Caller(tenant=tenant)).vouching
        messages = [one async for one in served.stub.GenerateStream(asked, metadata=along)]
        assert (messages[-1].usage.cached_prompt_tokens > 0) == found


@pytest.mark.parametrize(("held", "wanted", "counts"), [(False, 7, 7), (True, 7, 0), (True, -5, -5)])
async def test_what_the_policy_does_not_grant_goes_before_nobody(
    served: Served, monkeypatch: pytest.MonkeyPatch, held: bool, wanted: int, counts: int
) -> None:
    """As a gateway passes it on that has a policy."""
    seen: list[int] = []
    add = served.engine.add
    monkeypatch.setattr(served.engine, "add", lambda new: (seen.append(new[0].request.priority), add(new))[1])
    passed_on = (*Mesh([MESH_KEY]).vouch(Caller(tenant="acme")).vouching, *[("x-maas-priority", "default")] * held)
    asked = service_pb.GenerateRequest(text=PROMPT, priority=wanted, stopping=pb.Stopping(max_tokens=1))
    call = served.stub.Generate(asked, metadata=passed_on)
    await call
    assert seen == [counts]
    told = dict(await call.trailing_metadata()).get("x-maas-priority")
    assert told == ("default" if wanted > counts else None)


async def test_the_tenants_turn_is_told_to_the_engine(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fairness there goes by tenant."""
    shares = served.engine.scheduler.shares
    seen: list[str] = []
    arrive = shares.arrive
    monkeypatch.setattr(
        shares, "arrive", lambda tenant, waiting: (seen.append(tenant), arrive(tenant, waiting))[1]
    )
    for tenant in ("acme", "umbrella"):
        await cached(served, tenant)
    assert seen == ["acme", "umbrella"]
