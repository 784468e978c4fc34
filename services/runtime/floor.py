"""What a service is built on: servicers behind the door, model hosts, what starts and closes with them."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Generic, TypeVar

from grpc_channelz.v1 import channelz_pb2_grpc
from grpc_channelz.v1.channelz import aio as channelz_aio
from grpc_health.v1 import health_pb2_grpc

from maas.admin.v1 import admin_service_pb2_grpc
from maas.model.v1 import model_service_pb2_grpc
from services.runtime import workers
from services.runtime.admin.levels import Levels
from services.runtime.admin.service import AdminService, Fleet
from services.runtime.admission import Admission
from services.runtime.channels import server_options
from services.runtime.door import Door
from services.runtime.envelope.exchange import Exchange
from services.runtime.follow import Follower
from services.runtime.followed import Followed
from services.runtime.generic import GenericOnly
from services.runtime.h2.guests import Guests
from services.runtime.health import OVERALL, SERVING, HealthServicer, Readiness, model_service
from services.runtime.host import M, ModelHost
from services.runtime.identity.doorkeeper import Doorkeeper
from services.runtime.metrics import Metrics
from services.runtime.model_service import ModelService
from services.runtime.reflection import add_reflection
from services.runtime.registrar import Registrar
from services.runtime.settings import ServerSettings
from services.runtime.states import State, Status
from services.runtime.store.manifest import Manifest
from services.runtime.store.store import ModelStore
from services.runtime.telemetry.access import AccessLog
from services.runtime.telemetry.models import ModelMetrics
from services.runtime.telemetry.orca import LoadReport
from services.runtime.telemetry.siblings import Siblings
from services.runtime.toll import Toll
from services.runtime.tracing.open import open_telemetry
from services.runtime.transport import listen, open_server

S = TypeVar("S", bound=ServerSettings)
Closer = Callable[[], Awaitable[None]]

log = logging.getLogger("maas.server")


class Floor(Generic[S]):
    """What a service's `build` gets: add servicers, open a model host, say what must be closed."""

    def __init__(self, chosen: S, changed: Callable[[], None] = lambda: None) -> None:
        """`changed` hears that all is loaded, and of each model that comes or goes after."""
        self.settings = chosen
        self._changed = changed
        self.metrics = Metrics()
        self._models = ModelMetrics(self.metrics)
        self.metrics.calls_limit.set(chosen.queue_limit)
        self._siblings = Siblings(self.metrics.tell)
        self.readiness = Readiness()
        self.admission = Admission(chosen.queue_limit)
        self.server, joins = open_server(
            chosen.transport == "native",
            server_options(
                chosen.max_message_bytes,
                chosen.max_connection_age_s,
                chosen.workers > 1,
                chosen.connections,
                chosen.handshake_s,
            ),
            chosen.stream_idle_s,
            Guests(chosen.connections, chosen.connections_of_one),
        )
        self.doorkeeper = Doorkeeper.of(chosen)
        self.certificates = chosen.followed_tls()
        self.levels = Levels(workers.shared("log-levels.json"))
        # Servers behind this one.
        self.fleet: Fleet | None = None
        tracer, flush = open_telemetry(chosen, self.metrics)
        self._door = Door(
            self.admission,
            self.metrics,
            chosen.stream_idle_s,
            self.doorkeeper,
            AccessLog(chosen.access_log_per_s, chosen.log_bodies),
            LoadReport(self.metrics),
            chosen.body_redactor,
            joins=joins,
            tracer=tracer,
        )
        self._handlers: dict[str, Any] = {}
        self._exchange = Exchange(self._handlers, chosen.max_message_bytes, chosen.max_connection_age_s)
        self.services: list[str] = []
        self._hosts: list[Follower] = []
        self._closers: list[Closer] = [lambda: asyncio.to_thread(flush)]
        self._starters: list[Closer] = []
        # Until every model of the store had its turn, a first loaded one must not make the server SERVING.
        self._loaded = False
        self._following: list[asyncio.Task[None]] = []

    def add(
        self,
        add_to_server: Callable[[Any, Any], None],
        servicer: Any,
        *,
        admitted: bool = True,
        free: Collection[str] = (),
    ) -> None:
        """Registers a servicer behind the door.

        Without `admitted`, or for methods that are `free`, the admission limit does not apply (administration).
        """
        registrar = Registrar(self.server, self._door, admitted, free)
        add_to_server(servicer, registrar)
        self._handlers |= registrar.handlers
        for name in registrar.services:
            self.services.append(name)
            self.readiness.set(name, False)

    def host(
        self,
        area: str,
        load: Callable[[Manifest, Path], Awaitable[M]],
        defaults: Mapping[str, str],
        reads: Callable[[Manifest], Collection[str]] = lambda manifest: manifest.files,
    ) -> ModelHost[M]:
        """A host that follows the store, with its ModelService and per-model health.

        `reads` names the files of a version that `load` opens.
        """
        store = ModelStore(self.settings.store)
        host = ModelHost(store, area, load, defaults, self._model_changed, reads)
        follower = Follower(host)
        self._hosts.append(follower)
        self.add(model_service_pb2_grpc.add_ModelServiceServicer_to_server, ModelService(follower), admitted=False)
        self.on_close(host.close)
        return host

    def follower(self, host: ModelHost[Any]) -> Follower:
        """What keeps `host` in step with the store and takes an administrator's wishes for it."""
        return next(follower for follower in self._hosts if follower.host is host)

    def charge(self, toll: Toll) -> None:
        """Has calls counted by `toll`."""
        self._door.toll = toll

    def on_start(self, starter: Closer) -> None:
        """Awaited before the server says SERVING."""
        self._starters.append(starter)

    def on_close(self, closer: Closer) -> None:
        """Awaited after the last call ended, latest first."""
        self._closers.append(closer)

    async def start(self) -> int:
        """Opens the port (NOT_SERVING), loads the models, then SERVING; returns the port.

        One of several workers loads first: on a shared port, its siblings answer meanwhile.
        Raises RuntimeError when the port cannot be had.
        """
        if self.settings.workers > 1:
            await self._load()
            return await self._open()
        port = await self._open()
        await self._load()
        return port

    async def close(self) -> None:
        """The written order: not serving, lame duck, drain, engines, channels."""
        self.readiness.drain()
        if self._loaded:
            await asyncio.sleep(self.settings.lame_duck_s)
        self.readiness.end_watches()
        for follower in self._hosts:
            follower.host.end_watches()
        self._exchange.end()
        await self.server.stop(self.settings.drain_s)
        for task in self._following:
            task.cancel()
        await asyncio.gather(*self._following, return_exceptions=True)
        async with AsyncExitStack() as engines:
            engines.push_async_callback(self._siblings.close)
            # One that fails must not keep the others from closing.
            for closer in self._closers:
                engines.push_async_callback(closer)

    async def _open(self) -> int:
        administers = AdminService(self.levels, self.fleet)
        self.add(admin_service_pb2_grpc.add_AdminServiceServicer_to_server, administers, admitted=False)
        plain = GenericOnly(self.server)
        health_pb2_grpc.add_HealthServicer_to_server(HealthServicer(self.readiness), plain)
        open_or_not = plain if self.settings.open_reflection else Registrar(self.server, self._door, False)
        channelz_pb2_grpc.add_ChannelzServicer_to_server(channelz_aio.ChannelzServicer(), open_or_not)
        add_reflection(open_or_not, [*self.services, "grpc.health.v1.Health", "grpc.channelz.v1.Channelz"])
        if self.settings.takes_envelopes:
            self._exchange.add_to(self.server)
        shown = self.certificates if self.settings.tls else None
        address = f"{self.settings.host}:{self.settings.port}"
        port = listen(self.server, address, shown, self.settings.tls_clients)
        await self.server.start()
        log.info("listening", extra={"address": f"{self.settings.host}:{port}"})
        return port

    async def _load(self) -> None:
        followed: list[Followed[Any] | Levels] = [*self.doorkeeper.files, self.levels]
        followed += [self.certificates] if self.certificates else []
        for file in followed:
            self.on_close(file.close)
            await file.start(self.settings.store_poll_s)
        for starter in (self._siblings.start, *self._starters):
            await starter()
        for follower in self._hosts:
            await follower.sync()
        self._loaded = True
        self._judge()
        self._following = [asyncio.create_task(f.run(self.settings.store_poll_s)) for f in self._hosts]
        log.info("serving" if self.readiness.status(OVERALL) == SERVING else "loaded, nothing to serve yet")

    def _model_changed(self, status: Status) -> None:
        self._models.told(status)
        serving = any(status.manifest.name in f.host.loaded() for f in self._hosts)
        self.readiness.set(model_service(status.manifest.name), serving or status.state is State.SERVING)
        if self._loaded:
            self._judge()

    def _judge(self) -> None:
        """SERVING when every host has at least one model, or there is no host."""
        ready = all(follower.host.loaded() for follower in self._hosts)
        for name in (OVERALL, *self.services):
            self.readiness.set(name, ready)
        self._changed()
