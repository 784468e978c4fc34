"""What is asked of tokenization, and how its answers are read."""

from collections.abc import Sequence
from typing import Any, Unpack

import numpy as np

from maas.tokenization.v1 import tokenization_pb2
from maas.tokenization.v1 import tokenization_service_pb2 as pb
from maas_client import arrays
from maas_client.arrays import Ids
from maas_client.ask.words import Message, several, turns
from maas_client.call import Ask, CallInfo, Which, how, which
from maas_client.results import Batch, Encoding, Encodings, Rendered

SERVICE = "maas.tokenization.v1.TokenizationService"


def tokenize(
    texts: str | Sequence[str] | Sequence[tuple[str, str]],
    *,
    add_special_tokens: bool | None = None,
    max_tokens: int | None = None,
    tokens: bool = False,
    offsets: bool = False,
    **options: Unpack[Which],
) -> Ask[Encodings]:
    """Ids of each text, or pair of texts; `max_tokens` cuts, `offsets` are in code points."""
    include = tokenization_pb2.Include(tokens=tokens, offsets=offsets, packed_ids=True)
    request = pb.TokenizeRequest(**which(options), include=include, add_special_tokens=add_special_tokens)
    if max_tokens is not None:
        request.truncation.max_tokens = max_tokens
    for one in several(texts):  # type: ignore[arg-type]
        if isinstance(one, str):
            request.texts.append(one)
        else:
            request.pairs.add(first=one[0], second=one[1])
    return Ask(f"{SERVICE}/Tokenize", request, pb.TokenizeResponse, encodings, how(options))


def detokenize(
    sequences: Sequence[Sequence[int] | Ids],
    *,
    skip_special_tokens: bool | None = None,
    tokenizer_digest: str = "",
    **options: Unpack[Which],
) -> Ask[Batch[str]]:
    """Text of each sequence of ids; with the digest that came with them, only by the tokenizer that made them."""
    request = pb.DetokenizeRequest(**which(options), skip_special_tokens=skip_special_tokens)
    request.sequences.extend(arrays.token_ids(one, tokenizer_digest) for one in sequences)
    return Ask(f"{SERVICE}/Detokenize", request, pb.DetokenizeResponse, texts_of, how(options))


def count_tokens(
    texts: str | Sequence[str], *, add_special_tokens: bool | None = None, **options: Unpack[Which]
) -> Ask[Batch[int]]:
    """Tokens of each text."""
    request = pb.CountTokensRequest(**which(options), texts=several(texts), add_special_tokens=add_special_tokens)
    return Ask(f"{SERVICE}/CountTokens", request, pb.CountTokensResponse, counts, how(options))


def render_chat(
    messages: Sequence[Message],
    *,
    add_generation_prompt: bool | None = None,
    tokenize: bool = False,
    **options: Unpack[Which],
) -> Ask[Rendered]:
    """The conversation as the model's template writes it; with `tokenize` its ids too."""
    request = pb.RenderChatRequest(
        **which(options), add_generation_prompt=add_generation_prompt, tokenize=tokenize
    )
    for turn in turns(messages):
        request.messages.add(**turn)
    return Ask(f"{SERVICE}/RenderChat", request, pb.RenderChatResponse, rendered, how(options))


def encodings(reply: Any, info: CallInfo) -> Encodings:
    return Encodings(tuple(map(_encoding, reply.encodings)), info, reply.tokenizer_digest)


def texts_of(reply: Any, info: CallInfo) -> Batch[str]:
    return Batch(tuple(reply.texts), info)


def counts(reply: Any, info: CallInfo) -> Batch[int]:
    return Batch(tuple(reply.counts), info)


def rendered(reply: Any, info: CallInfo) -> Rendered:
    return Rendered(reply.text, np.asarray(reply.ids, np.uint32), info)


def _encoding(message: Any) -> Encoding:
    # A step of a pipeline of others may have asked for the readable form.
    ids = arrays.unpacked_ids(message.packed_ids) if message.packed_ids else np.asarray(message.ids, np.uint32)
    places = [(place.start, place.end) for place in message.offsets]
    return Encoding(ids, tuple(message.tokens), np.asarray(places, np.uint32) if places else None)
