"""Explain of texts, series and sound over a real server, on tiny random nets whose numbers are done again here."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np
import pytest
import pytest_asyncio
import torch
from grpc import aio
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn

from maas.common.v1.tensor_pb2 import Series, TokenIds
from maas.sequence.v1 import sequence_service_pb2 as pb
from maas.sequence.v1.sequence_service_pb2_grpc import SequenceServiceStub
from services.runtime.store.publish import Draft
from services.runtime.store.store import ModelStore
from services.sequence.__main__ import build
from services.sequence.models import registry
from services.sequence.settings import SequenceSettings
from tests.harness import running
from tests.service.sequence.calls import refused

pytestmark = pytest.mark.asyncio(loop_scope="module")

WORDS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "cheap", "pills", "meet", "me", "now"]
BERT = {
    "vocab_size": len(WORDS), "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 32, "max_position_embeddings": 12, "num_labels": 3,
}  # fmt: skip
MOTION = np.random.default_rng(3).normal(2, 3, (20, 4)).astype(np.float32)
MEAN, STD = [2.0, 1.0, 0.0, 2.0], [3.0, 2.0, 1.0, 4.0]
SOUND = (np.random.default_rng(4).normal(0, 0.2, 512 * 5)).astype(np.float32)
SOUND[512:1024] = 0


def spec(name: str, *shape: int, dtype: str = "float32") -> dict[str, Any]:
    return {"name": name, "dtype": dtype, "shape": list(shape)}


def random_net(architecture: str, config: dict[str, Any], seed: int) -> nn.Module:
    torch.manual_seed(seed)
    net = registry.build(architecture, config)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.3)
    return net


@pytest.fixture(scope="module")
def bert() -> nn.Module:
    return random_net("BertForSequenceClassification", BERT, 1)


@pytest.fixture(scope="module")
def lstm() -> nn.Module:
    return random_net("lstm_classifier", {"features": 4, "hidden_sizes": [8, 6], "classes": 3}, 2)


@pytest.fixture(scope="module")
def vad() -> nn.Module:
    return random_net("silero_vad", {}, 3)


def tokenizer() -> Tokenizer:
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.add_special_tokens(WORDS[:4])
    made.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, [("[CLS]", 1), ("[SEP]", 2)])
    return made


def fill(draft: Draft, net: nn.Module, labels: str, **fields: Any) -> None:
    save_file(dict(net.state_dict()), draft.directory / "model.safetensors")
    (draft.directory / "labels.txt").write_text(labels.replace(" ", "\n") + "\n")
    draft.fields.update(fields | {"labels": "labels.txt"})


def publish_bert(store: ModelStore, net: nn.Module, name: str, **preprocessing: int) -> None:
    ids = [spec(n, -1, -1, dtype="int64") for n in ("input_ids", "attention_mask", "token_type_ids")]
    with store.publish(name) as draft:
        tokenizer().save(str(draft.directory / "tokenizer.json"))
        fill(
            draft, net, "ham spam other", tasks=["sequence.classify"], config=BERT, inputs=ids,
            architecture="BertForSequenceClassification", outputs=[spec("logits", -1, 3)],
            tokenizer={"pad_token": "[PAD]"}, preprocessing=preprocessing,
        )  # fmt: skip


def publish_lstm(store: ModelStore, net: nn.Module) -> None:
    with store.publish("motions") as draft:
        fill(
            draft, net, "walk run stand", tasks=["sequence.classify"], architecture="lstm_classifier",
            config={"features": 4, "hidden_sizes": [8, 6], "classes": 3},
            inputs=[spec("series", -1, -1, 4), spec("lengths", -1, dtype="int64")],
            outputs=[spec("logits", -1, 3)], preprocessing={"kind": "series", "mean": MEAN, "std": STD},
        )  # fmt: skip


def publish_vad(store: ModelStore, net: nn.Module) -> None:
    state, context = spec("state", 2, -1, 128), spec("context", -1, 64)
    with store.publish("voice") as draft:
        fill(
            draft, net, "silence speech", tasks=["sequence.session", "sequence.classify"],
            architecture="silero_vad", inputs=[spec("audio", -1, 512), state, context],
            outputs=[spec("p", -1, 1), state | {"name": "next_state"}, context | {"name": "next_context"}],
            preprocessing={"kind": "audio", "sample_rate_hz": 16000, "frame_samples": 512},
        )  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def channel(
    tmp_path_factory: pytest.TempPathFactory, bert: nn.Module, lstm: nn.Module, vad: nn.Module
) -> AsyncIterator[aio.Channel]:
    torch.set_num_threads(1)
    store = ModelStore(tmp_path_factory.mktemp("store"))
    publish_bert(store, bert, "words")
    publish_bert(store, bert, "few-words", cut_tokens=4)
    publish_lstm(store, lstm)
    publish_vad(store, vad)
    settings = SequenceSettings(port=0, store=store.root, lame_duck_s=0, drain_s=1, metrics_port=0)
    async with running(settings, build) as (channel, _):
        yield channel


@pytest.fixture(scope="module")
def stub(channel: aio.Channel) -> Any:
    return SequenceServiceStub(channel)


def packed(values: np.ndarray, features: int = 0) -> Series:
    return Series(packed=values.astype("<f4").tobytes(), features=features)


def logits(net: nn.Module, *inputs: Any) -> np.ndarray:
    with torch.no_grad():
        return net(*(torch.as_tensor(value)[None] for value in inputs))[0][0].numpy()


def read(net: nn.Module, ids: list[int]) -> np.ndarray:
    return logits(net, ids, [1] * len(ids), [0] * len(ids))


def check_complete(reply: pb.ExplainResponse, rise: float) -> None:
    assert abs(sum(reply.attributions) - rise) == pytest.approx(reply.convergence_delta, abs=1e-4)
    assert reply.convergence_delta < 0.02 * np.abs(reply.attributions).sum()


async def test_tokens_sum_to_the_rise_from_the_blank_text(stub: Any, bert: nn.Module) -> None:
    reply = await stub.Explain(pb.ExplainRequest(model="words", text="cheap pills now"))
    assert list(reply.tokens) == ["[CLS]", "cheap", "pills", "now", "[SEP]"]
    assert len(reply.attributions) == 5 and reply.attributions[0] == reply.attributions[4] == 0
    wanted = read(bert, [1, 4, 5, 8, 2])
    assert reply.target.index == wanted.argmax()
    assert reply.target.name == ["ham", "spam", "other"][wanted.argmax()]
    assert reply.target.score == pytest.approx(np.exp(wanted).max() / np.exp(wanted).sum(), abs=1e-5)
    check_complete(reply, (wanted - read(bert, [1, 0, 0, 0, 2]))[wanted.argmax()])
    assert (reply.served_by.model, reply.timing.batch_size) == ("words", 1)


async def test_ids_are_explained_as_their_text_for_any_class(stub: Any, bert: nn.Module) -> None:
    ids = TokenIds(values=[1, 6, 7, 2])
    by_ids = await stub.Explain(pb.ExplainRequest(model="words", token_ids=ids, target_index=0))
    by_text = await stub.Explain(pb.ExplainRequest(model="words", text="meet me", target_index=0))
    assert by_ids.attributions == by_text.attributions and by_ids.target == by_text.target
    check_complete(by_ids, (read(bert, [1, 6, 7, 2]) - read(bert, [1, 0, 0, 2]))[0])


async def test_a_long_text_is_cut_as_the_model_was_trained(stub: Any, bert: nn.Module) -> None:
    reply = await stub.Explain(pb.ExplainRequest(model="few-words", text="cheap pills now", target_index=2))
    assert list(reply.tokens) == ["[CLS]", "cheap", "pills", "[SEP]"]
    check_complete(reply, (read(bert, [1, 4, 5, 2]) - read(bert, [1, 0, 0, 2]))[2])


async def test_steps_of_a_series_sum_to_the_rise_from_its_mean(stub: Any, lstm: nn.Module) -> None:
    reply = await stub.Explain(pb.ExplainRequest(model="motions", series=packed(MOTION.ravel(), 4)))
    scores = (MOTION - np.float32(MEAN)) / np.float32(STD)
    wanted = logits(lstm, scores, 20)
    assert reply.target.index == wanted.argmax() and len(reply.attributions) == 20 and not reply.tokens
    check_complete(reply, (wanted - logits(lstm, np.zeros_like(scores), 20))[wanted.argmax()])


def heard(net: nn.Module, sound: np.ndarray) -> float:
    """Mean probability of speech over all frames."""
    state, context, found = torch.zeros(2, 1, 128), torch.zeros(1, 64), []
    with torch.no_grad():
        for frame in torch.from_numpy(sound).reshape(-1, 1, 512):
            probability, state, context = net(frame, state, context)
            found.append(float(probability))
    return float(np.mean(found))


async def test_frames_of_sound_sum_to_the_rise_from_silence(stub: Any, vad: nn.Module) -> None:
    request = pb.ExplainRequest(model="voice", series=packed(SOUND), target_index=1, steps=100)
    reply = await stub.Explain(request)
    assert (reply.target.name, len(reply.attributions)) == ("speech", 5)
    assert reply.target.score == pytest.approx(heard(vad, SOUND), abs=1e-5)
    assert reply.attributions[1] == 0, "a silent frame is the baseline itself"
    check_complete(reply, heard(vad, SOUND) - heard(vad, np.zeros_like(SOUND)))
    request.target_index = 0
    against = await stub.Explain(request)
    np.testing.assert_allclose(against.attributions, np.negative(reply.attributions), atol=1e-5)


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.ExplainRequest(model="words", text="me", target_index=3), "target_index"),
        (pb.ExplainRequest(model="voice", series=packed(SOUND), target_index=2), "target_index"),
        (pb.ExplainRequest(model="words", text="me", steps=501), "steps"),
        (pb.ExplainRequest(model="words", text="me " * 11), "text"),
        (pb.ExplainRequest(model="words", token_ids=TokenIds(values=[1, 9])), "token_ids.values[1]"),
        (pb.ExplainRequest(model="words", series=packed(SOUND)), "series"),
        (pb.ExplainRequest(model="motions", text="me"), "text"),
        (pb.ExplainRequest(model="motions", series=packed(MOTION.ravel(), 5)), "series.features"),
        (pb.ExplainRequest(model="voice", series=packed(np.zeros(512 * 257))), "series"),
        (pb.ExplainRequest(model="words"), "input"),
    ],
)
async def test_bad_questions_are_named(stub: Any, request_: pb.ExplainRequest, field: str) -> None:
    await refused(stub.Explain(request_), grpc.StatusCode.INVALID_ARGUMENT, field)


async def test_without_a_classifier_it_is_not_found(stub: Any) -> None:
    await refused(stub.Explain(pb.ExplainRequest(text="me")), grpc.StatusCode.NOT_FOUND, said="bert-classify")


async def test_ids_of_another_tokenizer_are_not_explained(stub: Any) -> None:
    ids = TokenIds(values=[1], tokenizer_digest="sha256:other")
    call = stub.Explain(pb.ExplainRequest(model="words", token_ids=ids))
    await refused(call, grpc.StatusCode.FAILED_PRECONDITION, said="tokenizer sha256:other")
