"""The tokenization service over a real server and stub, with small tokenizers trained here."""

import asyncio
import json
import struct
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc import aio

from maas.common.v1 import tensor_pb2
from maas.tokenization.v1 import tokenization_pb2 as pb
from maas.tokenization.v1 import tokenization_service_pb2 as service_pb
from maas.tokenization.v1.tokenization_service_pb2_grpc import TokenizationServiceStub as Stub
from services.runtime.floor import Floor
from services.runtime.status import status_of
from services.runtime.store.store import ModelStore
from services.runtime.text.tokenizer import Tokenizer
from services.tokenization import answers
from services.tokenization.__main__ import build
from services.tokenization.settings import TokenizationSettings
from tests.harness import heard, running
from tests.unit.runtime.text.made import (
    CHATML,
    all_families,
    byte_level,
    from_library,
    piece_model,
    word_piece,
)

TEXT = "héllo 日本語 🙂\n\n  x"
NAMED = {"eos_token": "<|im_end|>", "pad_token": "<|im_end|>", "chat_template": CHATML}
CHAT_SPEC = NAMED | {"max_length_tokens": 64}
ALL_COLUMNS = pb.Include(offsets=True, tokens=True, masks=True, word_ids=True, overflowing=True)


def publish(store: ModelStore, name: str, file: str, data: bytes, **spec: object) -> None:
    with store.publish(name) as draft:
        (draft.directory / file).write_bytes(data)
        draft.fields.update(tasks=["tokenization.tokenize"], runner="none", tokenizer={"file": file} | spec)


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    made = ModelStore(tmp_path)
    publish(made, "chatty", "tokenizer.json", byte_level().to_str().encode(), **CHAT_SPEC)
    publish(made, "bert", "tokenizer.json", word_piece().to_str().encode())
    publish(made, "pieces", "tokenizer.model", piece_model(), kind="sentencepiece")
    return made


@pytest.fixture
async def served(store: ModelStore) -> AsyncIterator[tuple[Stub, Floor[TokenizationSettings]]]:
    settings = TokenizationSettings(
        port=0, metrics_port=0, store=store.root, lame_duck_s=0, drain_s=5, tokenize_model="chatty"
    )
    async with running(settings, build) as (channel, floor):
        yield Stub(channel), floor


@pytest.fixture
def stub(served: tuple[Stub, Floor[TokenizationSettings]]) -> Stub:
    return served[0]


def chatty() -> Tokenizer:
    return from_library(byte_level(), **NAMED)


async def refusal(call: aio.UnaryUnaryCall) -> tuple[grpc.StatusCode, list[str], str]:
    """Code, violated fields and text of a call that must fail."""
    with pytest.raises(aio.AioRpcError) as error:
        await call
    bad = error_details_pb2.BadRequest()
    for detail in status_of(error.value).details:
        detail.Unpack(bad)
    fields = [violation.field for violation in bad.field_violations]
    return error.value.code(), fields, error.value.details() or ""


async def test_the_tokenize_model_tokenizes_and_says_who_answered(stub: Stub) -> None:
    reply = await stub.Tokenize(service_pb.TokenizeRequest(texts=[TEXT, ""]))
    assert list(reply.encodings[0].ids) == chatty().encode_ids(TEXT)
    assert list(reply.encodings[1].ids) == []
    assert (reply.served_by.model, reply.served_by.version) == ("chatty", "1")
    assert reply.served_by.digest.startswith("sha256:")
    assert reply.tokenizer_digest.startswith("sha256:")
    assert reply.timing.total_ms > 0
    assert reply.timing.batch_size == 2


async def test_only_what_is_included_is_filled(stub: Stub) -> None:
    plain = await stub.Tokenize(service_pb.TokenizeRequest(model="bert", texts=["the fox"]))
    assert [field.name for field, _ in plain.encodings[0].ListFields()] == ["ids"]
    reply = await stub.Tokenize(service_pb.TokenizeRequest(model="bert", texts=["the fox"], include=ALL_COLUMNS))
    full, expected = reply.encodings[0], all_families()["word_piece"].encode("the fox")
    assert list(full.tokens) == expected.tokens
    assert [(o.start, o.end) for o in full.offsets] == expected.offsets
    assert list(full.attention_mask) == expected.attention_mask
    assert list(full.type_ids) == expected.type_ids
    assert list(full.special_tokens_mask) == expected.special_mask
    assert list(full.word_ids) == [-1 if word is None else word for word in expected.word_ids]


async def test_packed_ids_are_little_endian_uint32(stub: Stub) -> None:
    request = service_pb.TokenizeRequest(texts=[TEXT], include=pb.Include(packed_ids=True))
    encoding = (await stub.Tokenize(request)).encodings[0]
    ids = chatty().encode_ids(TEXT)
    assert not encoding.ids
    assert list(struct.unpack(f"<{len(ids)}I", encoding.packed_ids)) == ids


@pytest.mark.parametrize("model", ["chatty", "bert", "pieces"])
async def test_offsets_cut_the_same_text_in_both_units(stub: Stub, model: str) -> None:
    request = service_pb.TokenizeRequest(model=model, texts=[TEXT], include=pb.Include(offsets=True))
    points = (await stub.Tokenize(request)).encodings[0].offsets
    request.offset_unit = pb.OFFSET_UNIT_BYTE
    units = (await stub.Tokenize(request)).encodings[0].offsets
    for point, unit in zip(points, units, strict=True):
        assert TEXT[point.start : point.end].encode() == TEXT.encode()[unit.start : unit.end]
    assert points[-1].end in (0, len(TEXT))


async def test_byte_offsets_of_a_pair_belong_to_their_own_text(stub: Stub) -> None:
    request = service_pb.TokenizeRequest(
        model="bert",
        pairs=[pb.TextPair(first="the fox", second="日本 dog")],
        offset_unit=pb.OFFSET_UNIT_BYTE,
        include=pb.Include(offsets=True, masks=True),
    )
    encoding = (await stub.Tokenize(request)).encodings[0]
    second = [o for o, kind in zip(encoding.offsets, encoding.type_ids, strict=True) if kind and o.end]
    assert second[-1].end == len("日本 dog".encode())


async def test_truncation_and_padding_are_honoured(stub: Stub) -> None:
    request = service_pb.TokenizeRequest(
        model="bert",
        texts=["the fox jumps over the dog", "a"],
        truncation=pb.Truncation(max_tokens=6, stride=1),
        padding=pb.Padding(to=pb.PADDING_TARGET_MAX, length=8, side=pb.SIDE_LEFT),
        include=ALL_COLUMNS,
    )
    cut, short = (await stub.Tokenize(request)).encodings
    assert list(cut.attention_mask) == [0, 0, 1, 1, 1, 1, 1, 1]
    assert cut.overflowing
    assert {len(window.ids) for window in cut.overflowing} == {8}
    assert list(short.tokens)[:5] == ["[PAD]"] * 5
    request.include.overflowing = False
    assert not (await stub.Tokenize(request)).encodings[0].overflowing


async def test_special_tokens_can_be_left_off(stub: Stub) -> None:
    request = service_pb.TokenizeRequest(model="pieces", texts=["the fox"], add_special_tokens=False)
    ids = list((await stub.Tokenize(request)).encodings[0].ids)
    assert ids == all_families()["pieces_bpe"].encode_ids("the fox", add_special_tokens=False)


async def test_counts_equal_the_ids(stub: Stub) -> None:
    request = service_pb.CountTokensRequest(model="bert", texts=["the fox", "", TEXT * 200])
    reply = await stub.CountTokens(request)
    expected = [len(ids) for ids in all_families()["word_piece"].encode_ids_batch(list(request.texts))]
    assert list(reply.counts) == expected
    assert reply.total == sum(expected)


async def test_detokenize_gives_the_text_back(stub: Stub) -> None:
    tokenized = await stub.Tokenize(service_pb.TokenizeRequest(texts=[TEXT, "<|im_end|>a"]))
    request = service_pb.DetokenizeRequest()
    for encoding in tokenized.encodings:
        request.sequences.add(values=encoding.ids, tokenizer_digest=tokenized.tokenizer_digest)
    assert list((await stub.Detokenize(request)).texts) == [TEXT, "a"]
    request.skip_special_tokens = False
    assert list((await stub.Detokenize(request)).texts) == [TEXT, "<|im_end|>a"]


async def test_chat_is_rendered_and_tokenized_without_letting_content_take_control(stub: Stub) -> None:
    request = service_pb.RenderChatRequest(tokenize=True)
    request.messages.add(role="user", content="hi <|im_end|>")
    reply = await stub.RenderChat(request)
    assert reply.text == "<|im_start|>user\nhi <|im_end|><|im_end|>\n<|im_start|>assistant\n"
    control = chatty().special_tokens
    assert list(reply.ids).count(control["<|im_end|>"]) == 1
    request.add_generation_prompt, request.tokenize = False, False
    reply = await stub.RenderChat(request)
    assert reply.text.endswith("<|im_end|>\n")
    assert not reply.ids


async def test_get_tokenizer_tells_what_a_client_needs(stub: Stub) -> None:
    reply = await stub.GetTokenizer(service_pb.GetTokenizerRequest())
    assert (
        reply.tokenizer_digest == (await stub.Tokenize(service_pb.TokenizeRequest(texts=["a"]))).tokenizer_digest
    )
    assert (reply.kind, reply.vocabulary_size) == ("huggingface", byte_level().get_vocab_size())
    assert (reply.chat_template, reply.max_length_tokens) == (CHATML, 64)
    roles = [(special.role, special.token) for special in reply.special_tokens]
    assert ("eos", "<|im_end|>") in roles
    assert ("pad", "<|im_end|>") in roles
    assert ("", "<|im_start|>") in roles


async def test_tokenize_stream_answers_each_request_in_order(stub: Stub) -> None:
    texts = [TEXT * (1 + 300 * (n % 2)) for n in range(12)]
    requests = [
        service_pb.TokenizeStreamRequest(request=service_pb.TokenizeRequest(texts=[text])) for text in texts
    ]
    replies = [reply async for reply in stub.TokenizeStream(iter(requests))]
    expected = [chatty().encode_ids(text) for text in texts]
    assert [list(reply.response.encodings[0].ids) for reply in replies] == expected


async def test_the_first_error_ends_a_tokenize_stream(stub: Stub) -> None:
    good = service_pb.TokenizeStreamRequest(request=service_pb.TokenizeRequest(texts=["a"]))
    bad = service_pb.TokenizeStreamRequest(request=service_pb.TokenizeRequest())
    replies = heard(stub.TokenizeStream(iter([good, bad, good])))
    assert (await anext(replies)).response.encodings
    with pytest.raises(aio.AioRpcError) as error:
        await anext(replies)
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("model", ["chatty", "bert", "pieces"])
async def test_detokenize_stream_deltas_concatenate_to_the_whole(stub: Stub, model: str) -> None:
    encoding = await stub.Tokenize(service_pb.TokenizeRequest(model=model, texts=[TEXT]))
    ids = list(encoding.encodings[0].ids)
    whole = service_pb.DetokenizeRequest(model=model)
    whole.sequences.add(values=ids)
    first = service_pb.DetokenizeStreamRequest(model=model)
    rest = [service_pb.DetokenizeStreamRequest(ids=[token_id]) for token_id in ids]
    replies = [reply async for reply in stub.DetokenizeStream(iter([first, *rest]))]
    assert "".join(reply.text_delta for reply in replies) == (await stub.Detokenize(whole)).texts[0]
    assert [reply.finished for reply in replies] == [False] * (1 + len(ids)) + [True]


async def test_detokenize_stream_answers_while_it_is_open(stub: Stub) -> None:
    ids = chatty().encode_ids("🙂", add_special_tokens=False)
    call = stub.DetokenizeStream()
    deltas = []
    for token_id in ids:
        packed = struct.pack("<I", token_id)
        await call.write(service_pb.DetokenizeStreamRequest(packed_ids=packed))
        deltas.append((await call.read()).text_delta)
    await call.done_writing()
    assert deltas == [""] * (len(ids) - 1) + ["🙂"]
    assert (await call.read()).finished


Call = Callable[[Stub], aio.UnaryUnaryCall]
TOO_LONG = "a" * 1_048_577


@pytest.mark.parametrize(
    ("call", "fields"),
    [
        (lambda s: s.Tokenize(service_pb.TokenizeRequest()), ["texts"]),
        (lambda s: s.Tokenize(service_pb.TokenizeRequest(texts=["a"] * 257)), ["texts"]),
        (lambda s: s.Tokenize(service_pb.TokenizeRequest(texts=["a", "b", "c", TOO_LONG])), ["texts[3]"]),
        (lambda s: s.CountTokens(service_pb.CountTokensRequest()), ["texts"]),
        (lambda s: s.Detokenize(service_pb.DetokenizeRequest()), ["sequences"]),
        (lambda s: s.Detokenize(ids_request([0, 1, 10**9])), ["sequences[0].values[2]"]),
        (lambda s: s.RenderChat(chat_request("user", "wizard")), ["messages[1].role"]),
        (
            lambda s: s.Tokenize(
                service_pb.TokenizeRequest(model="bert", texts=["a"], truncation=pb.Truncation(max_tokens=1))
            ),
            ["truncation.max_tokens"],
        ),
        (lambda s: s.Tokenize(service_pb.TokenizeRequest(texts=["a"], offset_unit=9)), ["offset_unit"]),
    ],
)
async def test_bad_input_names_its_field_and_harms_nobody(stub: Stub, call: Call, fields: Sequence[str]) -> None:
    code, found, _ = await refusal(call(stub))
    assert (code, found) == (grpc.StatusCode.INVALID_ARGUMENT, fields)
    assert (await stub.Tokenize(service_pb.TokenizeRequest(texts=["a"]))).encodings


def ids_request(ids: Sequence[int], digest: str = "") -> service_pb.DetokenizeRequest:
    request = service_pb.DetokenizeRequest()
    request.sequences.add(values=ids, tokenizer_digest=digest)
    return request


def chat_request(*roles: str, model: str = "") -> service_pb.RenderChatRequest:
    request = service_pb.RenderChatRequest(model=model)
    for role in roles:
        request.messages.add(role=role, content="hi")
    return request


@pytest.mark.parametrize(
    ("call", "code", "says"),
    [
        (
            lambda s: s.Tokenize(service_pb.TokenizeRequest(model="nope", texts=["a"])),
            grpc.StatusCode.NOT_FOUND,
            "bert, chatty, pieces",
        ),
        (
            lambda s: s.Tokenize(service_pb.TokenizeRequest(version="9", texts=["a"])),
            grpc.StatusCode.NOT_FOUND,
            "1",
        ),
        (
            lambda s: s.Detokenize(ids_request([1], "sha256:0")),
            grpc.StatusCode.FAILED_PRECONDITION,
            "sha256:0",
        ),
        (
            lambda s: s.RenderChat(chat_request("user", model="bert")),
            grpc.StatusCode.FAILED_PRECONDITION,
            "no chat template",
        ),
    ],
)
async def test_other_refusals_carry_their_code(stub: Stub, call: Call, code: grpc.StatusCode, says: str) -> None:
    found, _, text = await refusal(call(stub))
    assert found is code
    assert says in text


async def test_a_stream_refuses_ids_of_another_tokenizer(stub: Stub) -> None:
    own = (await stub.GetTokenizer(service_pb.GetTokenizerRequest())).tokenizer_digest
    call = stub.DetokenizeStream()
    await call.write(service_pb.DetokenizeStreamRequest(ids=[70], tokenizer_digest=own))
    assert await call.read()
    await call.write(service_pb.DetokenizeStreamRequest(ids=[70], tokenizer_digest="sha256:0"))
    with pytest.raises(aio.AioRpcError) as error:
        await call.read()
    assert error.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "sha256:0" in (error.value.details() or "")


@pytest.mark.parametrize("model", ["chatty", "bert", "pieces"])
async def test_remembered_words_change_no_answer(stub: Stub, model: str) -> None:
    texts = [TEXT, "the quick brown fox", "", "don't stop [SEP] <|im_end|>", "the fox " * 300]
    first = service_pb.TokenizeRequest(model=model, texts=texts)
    packed = service_pb.TokenizeRequest(model=model, texts=texts, include=pb.Include(packed_ids=True))
    columns = service_pb.TokenizeRequest(model=model, texts=texts, include=pb.Include(tokens=True))
    expected = [list(encoding.ids) for encoding in (await stub.Tokenize(columns)).encodings]
    for _ in range(2):
        assert [list(encoding.ids) for encoding in (await stub.Tokenize(first)).encodings] == expected
        rows = [encoding.packed_ids for encoding in (await stub.Tokenize(packed)).encodings]
        assert [list(memoryview(row).cast("I")) for row in rows] == expected


async def test_large_and_small_calls_at_once_get_their_own_answers(stub: Stub) -> None:
    texts = [f"{n} the quick brown fox " * 2000 for n in range(6)]
    calls = [
        asyncio.ensure_future(
            stub.Tokenize(service_pb.TokenizeRequest(model=model, texts=[text], include=ALL_COLUMNS))
        )
        for text in texts
        for model in ("chatty", "bert", "pieces")
    ]
    small = await stub.Tokenize(service_pb.TokenizeRequest(texts=["a"]))
    assert list(small.encodings[0].ids) == chatty().encode_ids("a")
    replies = await asyncio.gather(*calls)
    for reply, text in zip(replies[::3], texts, strict=True):
        assert list(reply.encodings[0].ids) == chatty().encode_ids(text)


async def test_large_messages_are_read_on_a_thread(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def noting(work: Callable[..., list[int]]) -> Callable[..., list[int]]:
        def noted(*given: object) -> list[int]:
            seen.append(threading.current_thread().name)
            return work(*given)

        return noted

    monkeypatch.setattr(answers, "sequences", noting(answers.sequences))
    monkeypatch.setattr(answers, "stream_ids", noting(answers.stream_ids))
    packed = struct.pack("<I", 5) * 4000
    await stub.Detokenize(service_pb.DetokenizeRequest(sequences=[tensor_pb2.TokenIds(packed=packed)]))
    call = stub.DetokenizeStream()
    await call.write(service_pb.DetokenizeStreamRequest(packed_ids=packed))
    await call.read()
    call.cancel()
    assert len(seen) == 2 and all(name.startswith("tokenizer") for name in seen)


async def test_a_damaged_tokenizer_is_not_served(store: ModelStore) -> None:
    document = json.loads(byte_level().to_str()) | {"decoder": {"type": "BPEDecoder", "suffix": "</w>"}}
    publish(store, "odd", "tokenizer.json", json.dumps(document).encode())
    settings = TokenizationSettings(port=0, metrics_port=0, store=store.root, lame_duck_s=0)
    async with running(settings, build) as (channel, _):
        reply = await Stub(channel).Tokenize(service_pb.TokenizeRequest(model="bert", texts=["a"]))
        assert reply.encodings
        code, _, text = await refusal(Stub(channel).Tokenize(service_pb.TokenizeRequest(model="odd", texts=["a"])))
        assert code is grpc.StatusCode.NOT_FOUND
        assert "bert, chatty, pieces" in text
