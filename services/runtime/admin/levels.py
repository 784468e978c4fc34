"""Levels of loggers that hold for a time and fall back by themselves, the same in all workers. Knows no RPC."""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from services.runtime.errors import InvalidInput, NotFound
from services.runtime.followed import Followed
from services.runtime.store.files import hold, replace

# Those of libraries could tell what callers or secrets say.
ROOT = "maas"
# Whoever administers must not be able to do it unseen.
AUDIT = "maas.audit"


class Raised(NamedTuple):
    """A level in numbers of `logging`, and the time in seconds since 1970 at which it is over."""

    level: int
    until: float


class Level(NamedTuple):
    """What a logger writes; `left_s`: until it falls back, None for its usual level."""

    logger: str
    level: int
    left_s: float | None


class Levels:
    """`file`: shared with the other workers, who take what it says as they look at it; None = there are none."""

    def __init__(self, file: Path | None = None, clock: Callable[[], float] = time.time) -> None:
        self._clock, self._file = clock, file
        self._raised: Mapping[str, Raised] = {}
        # What loggers had before.
        self._usual: dict[str, int] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._followed: Followed[Mapping[str, Raised]] | None = None

    async def start(self, every_s: float) -> None:
        """Takes what other workers were told, now and later."""
        if self._file is None:
            return
        with hold(self._file.with_suffix(".lock")):
            if not self._file.exists():
                replace(self._file, b"{}")
        followed = self._followed = Followed(self._file, _parsed)
        followed.listeners.append(lambda: self._take(followed.value))
        self._take(followed.value)
        await followed.start(every_s)

    async def close(self) -> None:
        """Every logger has its usual level again."""
        if self._followed is not None:
            await self._followed.close()
        self._take({})

    async def set(self, logger: str, level: int | None, for_s: float) -> None:
        """`logger` "" = all of ours; `level` None = falls back now. Raises NotFound, or InvalidInput for audit."""
        name = logger or ROOT
        _check(name)
        if name == AUDIT:
            raise InvalidInput("logger", f"{AUDIT} always writes")
        change = {} if level is None else {name: Raised(level, self._clock() + for_s)}
        if self._file is None:
            self._take({key: one for key, one in self._raised.items() if key != name} | change)
        else:
            self._take(await asyncio.to_thread(_write, self._file, name, change))

    def told(self, logger: str = "") -> list[Level]:
        """Of one logger, or "": of all that have a level of their own. Raises NotFound."""
        if logger:
            _check(logger)
            return [self._level(logger)]
        own = {name for name in _known() if logging.getLogger(name).level}
        return [self._level(name) for name in sorted({ROOT, *own})]

    def _level(self, name: str) -> Level:
        raised = self._raised.get(name)
        left_s = None if raised is None else max(0.0, raised.until - self._clock())
        return Level(name, logging.getLogger(name).getEffectiveLevel(), left_s)

    def _take(self, table: Mapping[str, Raised]) -> None:
        now = self._clock()
        self._raised = {name: one for name, one in table.items() if one.until > now}
        for name in self._usual.keys() - self._raised.keys():
            logging.getLogger(name).setLevel(self._usual.pop(name))
        for name, one in self._raised.items():
            self._usual.setdefault(name, logging.getLogger(name).level)
            logging.getLogger(name).setLevel(one.level)
        self._wait()

    def _wait(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._raised:
            soonest = min(one.until for one in self._raised.values()) - self._clock()
            # A little later: clocks of the loop and of the day are not the same.
            self._timer = asyncio.get_running_loop().call_later(soonest + 0.01, lambda: self._take(self._raised))


def _known() -> Iterator[str]:
    """Our loggers by name."""
    yield ROOT
    for name, found in list(logging.root.manager.loggerDict.items()):
        if name.startswith(f"{ROOT}.") and isinstance(found, logging.Logger):
            yield name


def _check(name: str) -> None:
    known = set(_known())
    if name not in known:
        raise NotFound("logger", name, known)


def _write(file: Path, name: str, change: Mapping[str, Raised]) -> Mapping[str, Raised]:
    with hold(file.with_suffix(".lock")):
        before = _parsed(file.read_text())
        table = {key: one for key, one in before.items() if key != name} | dict(change)
        replace(file, json.dumps(table).encode())
    return table


def _parsed(text: str) -> Mapping[str, Raised]:
    """Nothing for what is damaged: it is ours alone."""
    with suppress(ValueError, TypeError, AttributeError):
        return {name: Raised(int(level), float(until)) for name, (level, until) in json.loads(text).items()}
    return {}
