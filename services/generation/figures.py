"""What a version's card tells of its precisions, measured by the first process that needs it. Chooses nothing."""

import logging
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from services.generation import quality
from services.generation.engine.runner import Runner
from services.generation.kernels import packing
from services.generation.models import registry
from services.runtime.errors import PreconditionFailed
from services.runtime.store.files import hold
from services.runtime.store.manifest import Manifest
from services.runtime.store.publish import LOCKS
from services.runtime.store.store import ModelStore
from services.runtime.text import tokenizer

log = logging.getLogger("maas.models")

KEY, FP32, INT8 = "precisions", "fp32", "int8"
LEAST_CONTEXT = 2


def of(manifest: Manifest, store: ModelStore) -> Mapping[str, Any]:
    """What the card has of int8, or nothing if that was measured of another form of packing."""
    found = store.card(manifest).get(KEY, {})
    return found if found.get("packing") == packing.FORMAT and "divergence" in found.get(INT8, {}) else {}


def measured(
    manifest: Manifest, directory: Path, store: ModelStore, runner: Runner, room: int
) -> Mapping[str, Any]:
    """The card's figures, measured on `quality.SAMPLE` now if it has none; a process that came first is awaited.

    room: tokens that the runner's KV cache holds. Takes some ten seconds for 135 million weights.
    """
    if found := of(manifest, store):
        return found
    with hold(store.root / LOCKS / f"{manifest.name}.figures.lock"):
        return of(manifest, store) or _kept(manifest, store, _measure(manifest, directory, runner, room))


def told(costs: Mapping[str, Mapping[str, Any]], data: str, tokens: int, context: int) -> dict[str, Any]:
    """As the card keeps them."""
    return {"data": data, "tokens": tokens, "context": context, "packing": packing.FORMAT, **costs}


def plain(cost: quality.Cost) -> dict[str, Any]:
    """Six digits of each figure."""
    return {name: float(f"{value:.6g}") for name, value in asdict(cost).items()}


def _kept(manifest: Manifest, store: ModelStore, found: dict[str, Any]) -> dict[str, Any]:
    """In the card, which is no part of the digest. If it cannot be written the next process measures again."""
    try:
        store.change_card(manifest, lambda card: {**card, KEY: found})
    except OSError as error:
        log.warning("the card cannot be written: %s", error, extra={"model": manifest.name})
    return found


def _measure(manifest: Manifest, directory: Path, runner: Runner, room: int) -> dict[str, Any]:
    log.info("measuring what eight bits cost", extra={"model": manifest.name})
    began, net = time.monotonic(), registry.load(manifest, directory)
    ids = tokenizer.load(manifest, directory).encode_ids(quality.SAMPLE.read_text(), parse_special=False)
    context = min(quality.CONTEXT, net.config.max_position_embeddings, room)
    if context < LEAST_CONTEXT:
        raise PreconditionFailed("the KV cache holds no block to measure with")
    runners = (quality.reference(net, context), runner)
    costs = [plain(cost) for cost in quality.costs(runners, ids[: quality.MOST_TOKENS], context)]
    more = {"model": manifest.name, "seconds": round(time.monotonic() - began, 1), **costs[1]}
    log.info("measured", extra=more)
    tokens = min(len(ids), quality.MOST_TOKENS) - 1
    return told(dict(zip((FP32, INT8), costs, strict=True)), quality.SAMPLE.name, tokens, context)
