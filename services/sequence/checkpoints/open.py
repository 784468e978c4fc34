"""From settings to what keeps the sessions of a server, and to what tells how that goes."""

import logging
import time

from services.runtime.floor import Floor
from services.runtime.redis_link import RedisLink
from services.runtime.sealing import Sealer, keys_of
from services.sequence.checkpoints.agenda import Agenda
from services.sequence.checkpoints.keeper import Forgetful, Keeper
from services.sequence.checkpoints.memory import Memory
from services.sequence.checkpoints.store import CheckpointStore
from services.sequence.sessions import SessionTable
from services.sequence.settings import SequenceSettings

# Its health tells nothing of the server's: sessions go on without it.
HEALTH = "maas.backend/redis"

log = logging.getLogger("maas.sessions")


def open_keeper(floor: Floor[SequenceSettings], table: SessionTable[Memory]) -> Keeper[Memory] | Forgetful[Memory]:
    """Keeps sessions in Redis; where none is named they stay in this process alone."""
    settings = floor.settings
    if not settings.redis_url:
        return Forgetful()
    events = floor.metrics.session_checkpoints
    link = RedisLink.of(settings, events.labels("fault").inc, lambda broken: _tell(floor, broken))
    floor.readiness.set(HEALTH, True)
    sealer = Sealer(keys_of(settings.cache_key.get_secret_value())) if settings.cache_key else None
    agenda: Agenda[Memory] = Agenda(
        time.monotonic, settings.session_checkpoint_steps, settings.session_checkpoint_ms / 1000
    )
    # A write that is under way comes first.
    bound_s = 2 * (settings.redis_connect_ms + settings.redis_operation_ms) / 1000
    keeper = Keeper(
        table, CheckpointStore(link, sealer), agenda, bound_s, lambda event: events.labels(event).inc()
    )
    floor.on_start(keeper.start)
    floor.on_close(keeper.close)
    return keeper


def _tell(floor: Floor[SequenceSettings], broken: bool) -> None:
    floor.metrics.breaker_open.labels("redis").set(broken)
    floor.readiness.set(HEALTH, not broken)
    if broken:
        log.warning("sessions are not checkpointed: Redis does not answer")
    else:
        log.info("sessions are checkpointed again")
