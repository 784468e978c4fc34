"""Follows the services and their models from start to close, and shows both in the gateway's own health."""

import asyncio
from pathlib import Path

from grpc import ChannelCredentials, aio

from gateway.backends import Backend, Backends
from gateway.follow import follow
from gateway.members import Members
from gateway.relay import Metadata
from gateway.resolve import XDS, resolve
from gateway.settings import GatewaySettings
from gateway.versions import ModelIndex
from gateway.xds.bootstrap import load
from gateway.xds.control_plane import ControlPlane
from maas.model.v1 import model_pb2
from services.runtime.channels import QUICK, open_channel
from services.runtime.followed import Followed
from services.runtime.health import OVERALL, Readiness, model_service
from services.runtime.tls.credentials import of_client
from services.runtime.tls.material import Material


def backend_service(name: str) -> str:
    """The health name of a service behind the gateway."""
    return f"maas.backend/{name}"


class Watch:
    """Owns the backends and the index, and the tasks that keep them true."""

    def __init__(
        self,
        settings: GatewaySettings,
        readiness: Readiness,
        vouching: Metadata = (),
        certificates: Followed[Material] | None = None,
    ) -> None:
        """`vouching`: the metadata by which the services know the gateway; `certificates`: what it shows them."""
        self._settings, self._readiness, self._vouching = settings, readiness, vouching
        self.backends = Backends(settings.addresses, self._backend_changed, settings.bounds)
        self._control_plane: ControlPlane | None = None
        if settings.clusters:
            bootstrap = load(Path(settings.xds_bootstrap))
            self._control_plane = ControlPlane(bootstrap, settings.clusters, self._members_changed)
        self._members = [
            Members(self.backends[name], addresses, self._channel, self._resolve, coalesce=settings.coalesce)
            for name, addresses in settings.addresses.items()
        ]
        self.index = ModelIndex(self._model_changed)
        self._tasks: list[asyncio.Task[None]] = []
        self._certificates = certificates
        if certificates is not None and settings.calls_by_tls:
            certificates.listeners.append(self._renew)
        for name in self.backends:
            readiness.set(backend_service(name), False)

    async def start(self) -> None:
        """Begins to follow; waits a bounded moment for what the services say first."""
        every_s = self._settings.models_refresh_s
        follows = [follow(backend, self.index, every_s, self._vouching) for backend in self.backends.values()]
        members = [one.run() for one in self._members]
        self._tasks = [asyncio.create_task(task) for task in (*members, *follows, self._end_with_health())]
        if self._control_plane is not None:
            self._tasks.append(asyncio.create_task(self._control_plane.run()))
        knowing = [asyncio.create_task(self._known(backend)) for backend in self.backends.values()]
        _, late = await asyncio.wait(knowing, timeout=self._settings.start_wait_s)
        for task in late:
            task.cancel()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for members in self._members:
            await members.close()

    async def _known(self, backend: Backend) -> None:
        """Returns once every replica said whether it serves and, if one does, its models are known."""
        await backend.known()
        if backend.healthy:
            await self.index.told(backend.name)

    async def _resolve(self, address: str) -> tuple[str, ...]:
        asked = self._control_plane.resolve if self._control_plane and address.startswith(XDS) else resolve
        return await asked(address)

    def _members_changed(self) -> None:
        for backend in self.backends.values():
            backend.lost.set()

    def _channel(self, address: str) -> aio.Channel:
        # The choice of another replica is made here, so core must not retry on its own.
        return open_channel(
            address,
            self._settings.max_message_bytes,
            retry=False,
            credentials=self._credentials() if self._settings.calls_by_tls else None,
            keepalive=QUICK,
            server_name=self._settings.tls_server_name,
        )

    def _credentials(self) -> ChannelCredentials:
        return of_client(self._certificates.value if self._certificates else Material())

    def _renew(self) -> None:
        self._tasks += [asyncio.create_task(members.renew()) for members in self._members]

    async def _end_with_health(self) -> None:
        """The end of health watches is the sign that a drain must not wait for watchers of models either."""
        async for _ in self._readiness.watch(OVERALL):
            pass
        self.index.end_watches()

    def _backend_changed(self, backend: Backend) -> None:
        self._readiness.set(backend_service(backend.name), bool(backend.healthy))
        for model in self.index.models():
            self._model_changed(model)

    def _model_changed(self, model: model_pb2.Model) -> None:
        areas = self.index.serving_areas(model.name)
        answers = any(self.backends[area].healthy for area in areas)
        self._readiness.set(model_service(model.name), answers)
