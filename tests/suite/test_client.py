"""maas_client against the live suite, both of its clients."""

import asyncio
import re
import textwrap
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage

import maas_client
from maas_client import Ask, AsyncClient, Client, Step, ask
from maas_client.results import StepOutput
from tests.suite.conftest import Suite

pytestmark = [pytest.mark.models, pytest.mark.timeout(300)]
README = Path(__file__).parents[2] / "README.md"
CAT = Path(skimage.__file__).parent / "data" / "chelsea.png"
QUESTION = "What is the capital of France?"
SILENCE = np.zeros(512, np.float32)


class Both:
    """Whatever one client answers, the other does too."""

    def __init__(self, one: Client, other: AsyncClient) -> None:
        self.one, self.other = one, other

    async def send(self, what: Ask[Any]) -> Any:
        """The asynchronous answer, once it is told apart from the synchronous one by nothing but its own call."""
        found = await self.other.send(what)
        same = await asyncio.to_thread(self.one.send, what)
        if hasattr(found, "info"):
            assert found.info.request_id != same.info.request_id
            assert replace(found.info, request_id="", cache="", cache_age_s=0) == replace(
                same.info, request_id="", cache="", cache_age_s=0
            )
        return found


@pytest.fixture
async def both(suite: Suite) -> AsyncIterator[Both]:
    async with AsyncClient(suite.address()) as other:
        with Client(suite.address()) as one:
            yield Both(one, other)


async def test_texts_and_ids(both: Both) -> None:
    told = await both.send(ask.tokenize("Hello world!", tokens=True, offsets=True))
    assert told[0].ids.tolist() == [19556, 905, 17] and told[0].tokens == ("Hello", "Ġworld", "!")
    assert told[0].offsets.tolist() == [[0, 5], [5, 11], [11, 12]]
    assert (told.info.model, told.info.version) == ("smollm2-135m-instruct", "1")
    back = await both.send(ask.detokenize([told[0].ids, [905]], tokenizer_digest=told.tokenizer_digest))
    assert list(back) == ["Hello world!", " world"]
    assert list(await both.send(ask.count_tokens(["Hello world!", "Hello"]))) == [3, 1]
    pair = await both.send(ask.tokenize([("a b c", "d e")], model="minilm-l6-v2", max_tokens=5))
    assert len(pair[0].ids) == 5
    chat = await both.send(ask.render_chat([("user", "hi")], tokenize=True))
    assert "hi" in chat.text and list(chat.ids) == list((await both.send(ask.tokenize(chat.text)))[0].ids)
    with pytest.raises(maas_client.FailedPrecondition):
        await both.send(ask.detokenize([[1]], tokenizer_digest="sha256:other"))


async def test_pictures(both: Both) -> None:
    pixels = skimage.io.imread(CAT)
    told = await both.send(ask.classify_images([CAT, CAT.read_bytes(), pixels], top_k=2))
    assert [one.best.index for one in told] == [282, 282, 282] and len(told[0].labels) == 2
    assert (await both.send(ask.embed_images(CAT, normalize=True))).vectors.shape == (1, 1280)
    why = await both.send(ask.explain_image(CAT, method="grad_cam", overlay=True))
    assert why.attributions.shape == (224, 224) and why.overlay_png.startswith(b"\x89PNG")


async def test_sequences(both: Both) -> None:
    vectors = (await both.send(ask.embed_texts(["a cat", "a kitten", "an invoice"]))).vectors
    assert vectors.shape == (3, 384) and vectors[0] @ vectors[1] > vectors[0] @ vectors[2]
    audio = ask.classify_series([np.zeros(5120)], sample_rate_hz=16_000, step_scores=True)
    heard = (await both.send(audio))[0]
    assert heard.best.name == "silence" and heard.step_scores.shape == (10,) and heard.step_ms == 32
    assert (await both.send(ask.transduce("computer")))[0].symbols[:2] == ("K", "AH0")
    assert len((await both.send(ask.explain_series(SILENCE, steps=2))).attributions) == 1


async def test_text_is_generated_streamed_and_scored(both: Both) -> None:
    options: Any = {"max_tokens": 12, "logprobs": 1}
    told = await both.send(ask.generate("Once upon a time", **options))
    deltas = [delta async for delta in both.other.generate_stream("Once upon a time", **options)]
    assert "".join(delta.text for delta in deltas) == told.text
    assert sum((delta.token_ids for delta in deltas), ()) == told.completions[0].token_ids
    assert sum((delta.logprobs for delta in deltas), ()) == told.completions[0].logprobs
    assert deltas[-1].usage == told.usage and deltas[-1].finish_reason == "LENGTH"
    same = await asyncio.to_thread(lambda: list(both.one.generate_stream("Once upon a time", **options)))
    assert "".join(delta.text for delta in same) == told.text
    chosen = await both.send(ask.generate("My favourite colour is", choice=["red", "blue"]))
    assert chosen.text in ("red", "blue")
    scored = await both.send(ask.score("Once upon a time", continuation=told.text))
    assert scored.total_logprob == pytest.approx(told.completions[0].cumulative_logprob, abs=0.1)


async def test_a_chat_remembers_what_was_answered(both: Both) -> None:
    chat = both.other.chat("Be brief.", max_tokens=16)
    assert "Paris" in (await chat.say(QUESTION)).text
    pieces = [piece async for piece in chat.stream("And of Italy?")]
    assert "Rome" in "".join(pieces) and len(chat.messages) == 5
    again = both.one.chat("Be brief.", max_tokens=16)
    await asyncio.to_thread(again.say, QUESTION)
    assert await asyncio.to_thread(lambda: list(again.stream("And of Italy?"))) != []
    assert again.messages == chat.messages
    with pytest.raises(maas_client.InvalidArgument):
        await both.other.chat(temperature=-1.0).say("hi")
    stopped = both.other.chat(messages=(("user", "hi"), ("assistant", "hello")))
    async for _ in stopped.stream("Tell me a story"):
        break
    assert stopped.messages == [("user", "hi"), ("assistant", "hello")]


async def test_several_calls_as_one(both: Both) -> None:
    calls = {
        "ids": ask.tokenize("Hello"),
        "bad": ask.generate("x", temperature=-1.0),
        "cat": ask.classify_images(CAT),
    }
    ids, bad, cat = await both.send(ask.fan_out(calls))
    assert list(ids.get()[0].ids) == [19556] and cat.get()[0].best.index == 282 and cat.id == "cat"
    assert bad.error.violations[0].field == "sampling.temperature"
    with pytest.raises(maas_client.InvalidArgument):
        bad.get()
    labels, text = await both.send(ask.run_pipeline("describe", {"picture": CAT, "max_tokens": 2}))
    assert labels.get()[0].best.index == 282 and text.get().usage.completion_tokens == 2
    bound = Step("count", ask.count_tokens([]), {"texts[0]": ("g2p.results[0].text", "It sounds {}")})
    _, count = await both.send(ask.run_steps([Step("g2p", ask.transduce("computer")), bound]))
    assert list(count.get()) == [13]
    assert "describe" in await both.send(ask.pipelines())


async def test_models_and_status(both: Both) -> None:
    listed = {(one.name, one.service): one for one in await both.send(ask.models())}
    assert listed["mnist-cnn", "vision"].state == "SERVING"
    card = await both.send(ask.model("mnist-cnn"))
    assert card.class_names == tuple("0123456789") and card.preprocessing and card.limits is not None
    assert {one.service for one in (await both.send(ask.status())).backends} >= {"vision", "generation"}
    with pytest.raises(maas_client.NotFound, match="mnist-cnn"):
        await both.send(ask.model("absent"))


async def test_sessions_step_by_step_and_many_steps_at_once(both: Both) -> None:
    frames = np.random.default_rng(0).normal(0, 0.1, (40, 512)).astype(np.float32)
    async with both.other.session(sample_rate_hz=16_000) as session:
        first = await session.step(frames[0])
        outputs = [first, *[output async for output in session.steps(frames[1:])]]
    assert [output.step for output in outputs] == list(range(1, 41))

    def stepped() -> list[StepOutput]:
        with both.one.session() as same:
            return list(same.steps(frames))

    for one, other in zip(outputs, await asyncio.to_thread(stepped), strict=True):
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)
    with pytest.raises(maas_client.NotFound, match="expired"):
        async with both.other.session(session.session_id, resume=True):
            pass


async def test_a_session_that_was_left_is_gone_on_with_by_the_other_client(both: Both) -> None:
    async with both.other.session() as session:
        await session.step(SILENCE)
        session.leave()

    def gone_on() -> int:
        with both.one.session(session.session_id, resume=True) as same:
            assert same.last_step == 1
            return same.step(SILENCE).step

    assert await asyncio.to_thread(gone_on) == 2


def example(head: str) -> str:
    """The one block of Python under a heading of the README."""
    section = README.read_text().partition(f"\n## {head}\n")[2].partition("\n## ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.S)
    return str(code)


def test_the_readme_s_stubs(suite: Suite, capsys: pytest.CaptureFixture[str]) -> None:
    code = example("The same four calls, three ways").replace("localhost:50050", suite.address())
    exec(code.replace("cat.png", str(CAT)), {})
    assert capsys.readouterr().out == "a cat having a striped coat\nThe capital of France is Paris."


async def test_the_readme_s_example(suite: Suite, capsys: pytest.CaptureFixture[str]) -> None:
    code = example("The Python client")
    code = code.replace("localhost:50050", suite.address()).replace("gateway:50050", suite.address())
    code = code.replace(', tls=Tls("authority.pem"), credential=key', "").replace('"cat.png"', "CAT")
    first, _, second = code.partition("# The same, with await.\n")
    names: dict[str, Any] = {"CAT": CAT, "frames": np.zeros((3, 512))}
    await asyncio.to_thread(exec, first, names)
    exec(f"async def main():\n{textwrap.indent(second, '    ')}", names)
    await names["main"]()
    told = capsys.readouterr().out
    assert "Rome" in told and "MODEL_NOT_FOUND" in told and re.findall(r"^(\d) \[", told, re.M)[-1] == "3"
