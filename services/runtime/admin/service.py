"""maas.admin.v1.AdminService: what operators change of a running server; the door judges who may."""

import logging
from collections.abc import Iterable
from typing import Any, Protocol

from google.protobuf.message import Message
from grpc import aio

from maas.admin.v1 import admin_service_pb2 as pb
from maas.admin.v1 import admin_service_pb2_grpc as pb_grpc
from services.runtime.admin.levels import Level, Levels
from services.runtime.errors import InvalidInput

PATH = "/maas.admin.v1.AdminService/"
FOR_S = 600.0
# The name under which a gateway asks itself and everybody behind it.
ALL = "all"

OF = {
    pb.LOG_LEVEL_DEBUG: logging.DEBUG,
    pb.LOG_LEVEL_INFO: logging.INFO,
    pb.LOG_LEVEL_WARNING: logging.WARNING,
    pb.LOG_LEVEL_ERROR: logging.ERROR,
}


class Fleet(Protocol):
    """The servers behind this one."""

    async def ask(self, service: str, path: str, request: Message, reply: Any) -> None:
        """Adds to `reply` what each server of `service` (or of all) says, and why who does not says nothing.

        Raises InvalidInput for a service that is none, or Unavailable where nobody answered.
        """


class AdminService(pb_grpc.AdminServiceServicer):
    """`fleet`: whom else it can ask; None = nobody."""

    def __init__(self, levels: Levels, fleet: Fleet | None = None) -> None:
        self._levels, self._fleet = levels, fleet

    async def GetLogLevel(
        self, request: pb.GetLogLevelRequest, context: aio.ServicerContext
    ) -> pb.GetLogLevelResponse:
        reply = pb.GetLogLevelResponse()
        if request.service in ("", ALL):
            reply.levels.extend(_told(self._levels.told(request.logger)))
        await self._elsewhere("GetLogLevel", request, reply)
        return reply

    async def SetLogLevel(
        self, request: pb.SetLogLevelRequest, context: aio.ServicerContext
    ) -> pb.SetLogLevelResponse:
        reply = pb.SetLogLevelResponse()
        if request.service in ("", ALL):
            for_s = request.for_s if request.HasField("for_s") else FOR_S
            await self._levels.set(request.logger, OF.get(request.level), for_s)
            reply.levels.extend(_told(self._levels.told()))
        await self._elsewhere("SetLogLevel", request, reply)
        return reply

    async def _elsewhere(self, method: str, request: Any, reply: Any) -> None:
        if not request.service:
            return
        if self._fleet is None:
            raise InvalidInput("service", "is for the gateway; leave it out to ask this server")
        asked = type(request)()
        asked.CopyFrom(request)
        asked.ClearField("service")
        await self._fleet.ask(request.service, PATH + method, asked, reply)


def _told(levels: Iterable[Level]) -> Iterable[pb.LoggerLevel]:
    """The level by the contract's words: the nearest that is not above it."""
    for one in levels:
        level = max((name for name, number in OF.items() if number <= one.level), default=pb.LOG_LEVEL_DEBUG)
        yield pb.LoggerLevel(logger=one.logger, level=level, seconds_left=one.left_s)
