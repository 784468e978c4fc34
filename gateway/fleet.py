"""Asks every replica behind the gateway one thing, for an administrator. Knows no RPC and what it is about."""

import asyncio
from typing import Any

from google.protobuf.message import Message
from grpc import aio

from gateway.backends import Backend, Backends, Replica
from gateway.relay import relay, unreachable
from services.runtime.admin.service import ALL
from services.runtime.context import current
from services.runtime.errors import InvalidInput, ServiceError

# A replica that hangs must not hide the others.
ANSWER_WITHIN_S = 5.0


class BehindMe:
    """Each replica by itself: whichever it is, it hears it once."""

    def __init__(self, backends: Backends) -> None:
        self._backends = backends

    async def ask(self, service: str, path: str, request: Message, reply: Any) -> None:
        """Adds what each says to `reply`, and to its `unavailable` why who does not says nothing.

        Raises InvalidInput for a service that is none; if none answered, and nobody else did, what the first said.
        """
        if service != ALL and service not in self._backends:
            raise InvalidInput("service", f"{service!r} is none of {', '.join((*self._backends, ALL))}")
        meant = self._backends.values() if service == ALL else (self._backends[service],)
        replicas = [(backend, replica) for backend in meant for replica in backend.replicas]
        answers = await asyncio.gather(*(_said(*one, path, request, type(reply)) for one in replicas))
        failures = [answer for answer in answers if isinstance(answer, ServiceError)]
        if not reply.levels and len(failures) == len(answers):
            raise failures[0] if failures else unreachable(service, "no address is set")
        for (backend, replica), answer in zip(replicas, answers, strict=True):
            server = f"{backend.name} {replica.address}"
            if isinstance(answer, ServiceError):
                reply.unavailable[server] = answer.message
                continue
            for one in answer.levels:
                reply.levels.add(server=server).MergeFrom(one)


async def _said(backend: Backend, replica: Replica, path: str, request: Message, reply: Any) -> Any:
    metadata = current().outgoing()
    with replica.held() as channel:
        try:
            call = channel.unary_unary(path)
            return reply.FromString(
                await call(request.SerializeToString(), timeout=ANSWER_WITHIN_S, metadata=metadata)
            )
        except aio.AioRpcError as error:
            return relay(error, backend.name, replica.address)
