"""One of our services without its batcher: `python -m … vision --port …`. Each item is computed by itself."""

import asyncio
import importlib
import sys
import time
from collections.abc import Sequence
from typing import Any

from services.runtime.batcher import MicroBatcher, Outcome
from services.runtime.server import main


class Straight(MicroBatcher[Any, Any]):
    """Hands over what comes, as it comes: no queue, no batch, no deadline looked at."""

    async def submit(self, item: Any, deadline: float | None = None) -> Outcome[Any]:
        began = time.monotonic()
        (found,) = await self._execute(self._run, [item])
        if isinstance(found, Exception):
            raise found
        return Outcome(found, 0.0, (time.monotonic() - began) * 1e3, 1)

    async def submit_all(self, items: Sequence[Any], deadline: float | None = None) -> list[Outcome[Any]]:
        return await asyncio.gather(*(self.submit(item, deadline) for item in items))


HOLDERS = {"vision": "services.vision.model", "sequence": "services.sequence.loaded"}
SETTINGS = {"vision": "VisionSettings", "sequence": "SequenceSettings"}


def run() -> None:
    name = sys.argv.pop(1)
    setattr(importlib.import_module(HOLDERS[name]), MicroBatcher.__name__, Straight)
    settings = getattr(importlib.import_module(f"services.{name}.settings"), SETTINGS[name])
    main(settings, importlib.import_module(f"services.{name}.__main__").build, name)


if __name__ == "__main__":
    run()
