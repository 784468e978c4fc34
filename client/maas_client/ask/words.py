"""Labels and texts as several areas' messages have them."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from maas_client import arrays
from maas_client.call import CallInfo
from maas_client.results import Batch, Classification, Embeddings, Label

# One turn of a conversation: its role (what the model's template knows: system, user, assistant) and its text.
Message = tuple[str, str]


def several(texts: str | Sequence[str]) -> Sequence[str]:
    """One text, or several."""
    return [texts] if isinstance(texts, str) else texts


def turns(messages: Iterable[Message]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in messages]


def label(message: Any) -> Label:
    return Label(message.index, message.name, message.score)


def classifications(reply: Any, info: CallInfo) -> Batch[Classification]:
    return Batch(tuple(_classification(one) for one in reply.results), info)


def embeddings(reply: Any, info: CallInfo) -> Embeddings:
    return Embeddings(arrays.floats(reply.embeddings), info, tuple(getattr(reply, "token_counts", ())))


def _classification(message: Any) -> Classification:
    steps = getattr(message, "step_scores", ())
    scores = np.asarray(steps, np.float32) if len(steps) else None
    return Classification(tuple(map(label, message.labels)), scores, getattr(message, "step_ms", 0.0))
