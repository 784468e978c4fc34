"""What administrators change of running servers, at a gateway and at the services behind it."""

import logging

import grpc
import pytest
from grpc import aio

from gateway.__main__ import build
from maas.admin.v1 import admin_service_pb2 as pb
from maas.admin.v1.admin_service_pb2_grpc import AdminServiceStub
from tests.harness import running
from tests.suite.gateway_fakes import behind, settings, started

CALLS = "maas.call"


def of(reply: pb.SetLogLevelResponse) -> list[tuple[str, str, int]]:
    """Without the path of a server: who, which, what."""
    return [(one.server.partition(" ")[0], one.logger, one.level) for one in reply.levels if one.logger == CALLS]


async def refusal(call: object) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(aio.AioRpcError) as error:
        await call  # type: ignore[misc]
    return error.value.code(), str(error.value.details())


async def test_levels_are_set_at_the_gateway_at_services_and_at_all() -> None:
    async with started(behind("vision"), behind("tokenization")) as (vision, tokens):
        addresses = {"vision": vision.address, "tokenization": tokens.address}
        async with running(settings(addresses), build) as (channel, _):
            stub = AdminServiceStub(channel)
            told = await stub.SetLogLevel(pb.SetLogLevelRequest(logger=CALLS, level=pb.LOG_LEVEL_DEBUG))
            assert of(told) == [("", CALLS, pb.LOG_LEVEL_DEBUG)]
            assert logging.getLogger(CALLS).level == logging.DEBUG
            assert 590 < next(one.seconds_left for one in told.levels if one.logger == CALLS) <= 600
            set_all = pb.SetLogLevelRequest(logger=CALLS, level=pb.LOG_LEVEL_ERROR, for_s=60, service="all")
            assert {server for server, *_ in of(await stub.SetLogLevel(set_all))} == {"", "vision", "tokenization"}
            asked = await stub.GetLogLevel(pb.GetLogLevelRequest(logger=CALLS, service="vision"))
            assert of(asked) == [("vision", CALLS, pb.LOG_LEVEL_ERROR)]
            assert asked.levels[0].server == f"vision {vision.address}"
            # Replicas that are gone, or not there, hide nobody.
            everywhere = await stub.GetLogLevel(pb.GetLogLevelRequest(logger=CALLS, service="all"))
            assert {name.partition(" ")[0] for name in everywhere.unavailable} <= {"sequence", "generation"}
            await stub.SetLogLevel(pb.SetLogLevelRequest(logger=CALLS))
        # The servers of this test share a process, and so its loggers.
    assert logging.getLogger(CALLS).level == logging.NOTSET


async def test_what_cannot_be_is_refused_in_words() -> None:
    async with started(behind("vision")) as (vision,), running(settings({"vision": vision.address}), build) as at:
        stub = AdminServiceStub(at[0])
        code, why = await refusal(stub.GetLogLevel(pb.GetLogLevelRequest(logger="grpc")))
        assert code is grpc.StatusCode.NOT_FOUND and CALLS in why
        code, why = await refusal(stub.GetLogLevel(pb.GetLogLevelRequest(service="visio")))
        assert code is grpc.StatusCode.INVALID_ARGUMENT and "vision" in why
        code, why = await refusal(stub.SetLogLevel(pb.SetLogLevelRequest(level=9)))
        assert code is grpc.StatusCode.INVALID_ARGUMENT and "level" in why
        code, why = await refusal(stub.SetLogLevel(pb.SetLogLevelRequest(logger="maas.audit", level=4)))
        assert code is grpc.StatusCode.INVALID_ARGUMENT and "always" in why
        async with aio.insecure_channel(vision.address) as channel:
            alone = AdminServiceStub(channel)
            code, why = await refusal(alone.GetLogLevel(pb.GetLogLevelRequest(service="all")))
            assert code is grpc.StatusCode.INVALID_ARGUMENT and "gateway" in why
