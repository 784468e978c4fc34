"""Pipelines over the wire: order, bindings, partial results, time, cancellation, and what is refused."""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio
from typer.testing import CliRunner

from cli.__main__ import app
from cli.ports import any_free
from gateway.__main__ import build
from gateway.settings import GatewaySettings
from maas.gateway.v1 import gateway_service_pb2, gateway_service_pb2_grpc
from services.runtime.errors import InvalidInput, Overloaded
from tests.harness import running
from tests.suite.gateway_fakes import behind, gateway, settings, started

AREAS = ("tokenization", "vision", "sequence", "generation")
Code = grpc.StatusCode


def step(name: str, request: dict[str, Any], *bindings: tuple[str, ...], **more: Any) -> dict[str, Any]:
    """A step of a pipeline; a binding is (target, source) or (target, source, template)."""
    keys = ("target_path", "source_path", "template")
    bound = [dict(zip(keys, binding, strict=False)) for binding in bindings]
    return {"name": name, "request": request, "bindings": bound, **more}


# The length of a picture in upper case and backwards: every step but the first needs another's reply.
CHAIN = (
    step("look", {"classify_image": {"images": [{"encoded": b"123456789012"}]}}),
    step("say", {"transduce": {}}, ("transduce.texts[0]", "look.results[0].labels[0].index", "n {}")),
    step("text", {"generate": {}}, ("generate.text", "say.results[0].text")),
)


def asked(*steps: dict[str, Any], **more: Any) -> gateway_service_pb2.RunPipelineRequest:
    return gateway_service_pb2.RunPipelineRequest(steps={"values": steps}, **more)


async def run(channel: aio.Channel, *steps: dict[str, Any], timeout: float | None = None, **more: Any) -> Any:
    stub = gateway_service_pb2_grpc.GatewayServiceStub(channel)
    return (await stub.RunPipeline(asked(*steps, **more), timeout=timeout)).results


async def refused(channel: aio.Channel, *steps: dict[str, Any], **more: Any) -> aio.AioRpcError:
    with pytest.raises(aio.AioRpcError) as caught:
        await run(channel, *steps, **more)
    return caught.value


def kinds(found: Any) -> list[str]:
    return [result.WhichOneof("reply") for result in found]


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def test_values_flow_from_step_to_step_and_are_remembered():
    async with gateway(*map(behind, AREAS)) as (channel, _):
        found = await run(channel, *reversed(CHAIN))
        assert [result.id for result in found] == ["text", "say", "look"]
        assert found[0].generate.completions[0].text == "21 N"
        assert {result.cache for result in found} == {"miss"}
        assert {result.cache for result in await run(channel, *CHAIN)} == {"hit-l1"}


async def test_a_step_begins_as_soon_as_its_own_needs_have_ended():
    services = {area: behind(area) for area in AREAS}
    services["tokenization"].gate.clear()
    slow = step("slow", {"tokenize": {"texts": ["a"]}})
    last = step(
        "last",
        {"render_chat": {"messages": [{"role": "user"}]}},
        ("render_chat.messages[0].content", "slow.served_by.model"),
    )
    async with gateway(*services.values()) as (channel, _):
        stub = gateway_service_pb2_grpc.GatewayServiceStub(channel)
        request = gateway_service_pb2.RunPipelineStreamRequest(steps={"values": [last, slow, *CHAIN]})
        stream = stub.RunPipelineStream(request)
        assert [(await stream.read()).result.id for _ in range(3)] == ["look", "say", "text"]
        services["tokenization"].gate.set()
        assert [(await stream.read()).result.id for _ in range(2)] == ["slow", "last"]
        assert await stream.read() is aio.EOF


async def test_what_needs_a_failed_step_is_skipped_and_the_rest_goes_on():
    services = {area: behind(area) for area in AREAS}
    services["sequence"].failure = Overloaded("full", reason="QUEUE_FULL")
    alone = step("alone", {"tokenize": {"texts": ["a"]}})
    async with gateway(*services.values()) as (channel, _):
        found = await run(channel, *CHAIN, alone)
        assert [result.WhichOneof("reply") for result in found] == [
            "classify_image",
            "status",
            "status",
            "tokenize",
        ]
        assert (found[1].status.code, found[1].status.message) == (Code.RESOURCE_EXHAUSTED.value[0], "full")
        skipped = "step 'text' was skipped: it needs 'say', which ended with RESOURCE_EXHAUSTED: full"
        assert (found[2].status.code, found[2].status.message) == (Code.FAILED_PRECONDITION.value[0], skipped)
    assert not services["generation"].calls


async def test_fail_fast_ends_with_the_steps_status_and_cancels_the_rest():
    services = {area: behind(area) for area in AREAS}
    services["sequence"].failure = Overloaded("full", reason="QUEUE_FULL", retry_after_s=2)
    services["tokenization"].gate.clear()
    alone = step("alone", {"tokenize": {"texts": ["a"]}})
    async with gateway(*services.values()) as (channel, _):
        error = await refused(channel, alone, *CHAIN, fail_fast=True)
        assert (error.code(), error.details()) == (Code.RESOURCE_EXHAUSTED, "step 'say': full")
        trailing = dict(error.trailing_metadata())
        assert b"QUEUE_FULL" in trailing["grpc-status-details-bin"]
        assert trailing["grpc-retry-pushback-ms"] == "2000"
        await until(lambda: services["tokenization"].cancelled["Tokenize"])


@pytest.mark.parametrize("where", ["step", "call"])
async def test_a_step_of_best_effort_and_what_needs_it_never_fail_the_whole(where: str):
    services = {area: behind(area) for area in AREAS}
    services["sequence"].failure = Overloaded("full")
    best_effort = CHAIN[1] | {"best_effort": True}
    if where == "call":
        best_effort = CHAIN[1] | {"request": {"transduce": {}, "best_effort": True}}
    async with gateway(*services.values()) as (channel, _):
        found = await run(channel, CHAIN[0], best_effort, CHAIN[2], fail_fast=True)
        assert kinds(found) == ["classify_image", "status", "status"]


async def test_a_step_has_its_own_time_cut_from_the_callers():
    services = {area: behind(area) for area in AREAS}
    services["vision"].gate.clear()
    hurried = CHAIN[0] | {"request": CHAIN[0]["request"] | {"timeout_ms": 200}}
    async with gateway(*services.values()) as (channel, _):
        found = await run(channel, hurried, CHAIN[1], timeout=30)
        assert found[0].status.code == Code.DEADLINE_EXCEEDED.value[0]
        assert "skipped" in found[1].status.message
    assert services["vision"].remaining[0] < 1


async def test_a_caller_that_leaves_cancels_what_runs_and_begins_nothing_more():
    services = {area: behind(area) for area in AREAS}
    services["vision"].gate.clear()
    async with gateway(*services.values()) as (channel, _):
        stub = gateway_service_pb2_grpc.GatewayServiceStub(channel)
        call = stub.RunPipeline(asked(*CHAIN))
        await until(lambda: services["vision"].calls["Classify"])
        call.cancel()
        await until(lambda: services["vision"].cancelled["Classify"])
    assert not services["sequence"].calls


async def test_a_reader_that_leaves_a_stream_cancels_what_runs_and_begins_nothing_more():
    services = {area: behind(area) for area in AREAS}
    services["sequence"].gate.clear()
    services["tokenization"].gate.clear()
    alone = step("alone", {"tokenize": {"texts": ["a"]}})
    async with gateway(*services.values()) as (channel, _):
        stub = gateway_service_pb2_grpc.GatewayServiceStub(channel)
        request = gateway_service_pb2.RunPipelineStreamRequest(steps={"values": [*CHAIN, alone]})
        stream = stub.RunPipelineStream(request)
        assert (await stream.read()).result.id == "look"
        await until(lambda: services["sequence"].calls["Transduce"] and services["tokenization"].calls["Tokenize"])
        stream.cancel()
        await until(lambda: services["sequence"].cancelled["Transduce"])
        await until(lambda: services["tokenization"].cancelled["Tokenize"])
    assert not services["generation"].calls


async def test_no_more_steps_at_once_than_calls_of_a_fan_out():
    service = behind("vision")
    service.gate.clear()
    many = [step(f"s{n}", {"classify_image": {"images": [{"encoded": b"x" * n}]}}) for n in range(1, 31)]
    async with gateway(service) as (channel, _):
        running_now = asyncio.create_task(run(channel, *many))
        await until(lambda: service.calls["Classify"] == 16)
        await asyncio.sleep(0.05)
        assert service.calls["Classify"] == 16
        service.gate.set()
        assert kinds(await running_now) == ["classify_image"] * 30


async def test_the_deadline_of_the_whole_is_that_of_every_step():
    services = {area: behind(area) for area in AREAS}
    services["sequence"].gate.clear()
    async with gateway(*services.values()) as (channel, _):
        # Which of the two comes first: that the caller gives up, or that every step was told to.
        with suppress(aio.AioRpcError):
            assert kinds(await run(channel, *CHAIN, timeout=0.3))[1:] == ["status", "status"]
        await until(lambda: services["sequence"].cancelled["Transduce"])
    assert 0 < services["vision"].remaining[0] <= 0.3 and not services["generation"].calls


async def test_a_path_that_leads_to_nothing_fails_its_step():
    steps = [CHAIN[0], step("say", {"transduce": {}}, ("transduce.texts[0]", "look.results[0].labels[3].name"))]
    async with gateway(*map(behind, AREAS)) as (channel, _):
        found = await run(channel, *steps)
        wrong = "look.results[0].labels[3].name leads to nothing: labels[3] is not there: labels has 1 item"
        assert found[1].status.code == Code.FAILED_PRECONDITION.value[0]
        assert found[1].status.message == f"bindings[0]: {wrong}"


async def test_a_step_that_cannot_work_is_refused_before_anything_runs():
    service = behind("vision")
    wrong = step("say", {"transduce": {}}, ("transduce.texts[0]", "loook.results[0].labels[0].name"))
    async with gateway(service) as (channel, _):
        error = await refused(channel, CHAIN[0], wrong)
        assert error.code() is Code.INVALID_ARGUMENT
        assert error.details() == (
            "steps.values[1].bindings[0].source_path: step 'say': there is no step 'loook'; there are look, say"
        )
    assert not service.calls


async def test_a_request_that_its_bindings_leave_invalid_is_the_steps_own_status():
    steps = [CHAIN[0], step("say", {"transduce": {}}, ("transduce.texts[0]", "look.results[0].labels[0].name"))]
    async with gateway(*map(behind, AREAS)) as (channel, _):
        found = await run(channel, *steps)
        assert found[1].status.code == Code.INVALID_ARGUMENT.value[0]
        assert found[1].status.message == "texts[0]: must not be empty"


async def test_inputs_are_bound_like_replies():
    both = step(
        "say",
        {"transduce": {"texts": ["x"]}},
        ("transduce.texts[1]", "inputs.word"),
        ("transduce.model", "inputs.net"),
    )
    inputs = {"word": {"text": "ab"}, "net": {"text": "upper"}}
    async with gateway(behind("sequence")) as (channel, _):
        (found,) = await run(channel, both, inputs=inputs)
        assert [one.text for one in found.transduce.results] == ["X", "AB"]


async def test_what_is_copied_and_replied_is_bounded():
    long = step("say", {"transduce": {}}, ("transduce.texts[0]", "inputs.word", "{}" * 1000))
    inputs = {"word": {"text": "a" * 4000}}
    async with gateway(behind("sequence"), max_message_mib=1) as (channel, _):
        (found,) = await run(channel, long, inputs=inputs)
        assert found.status.code == Code.RESOURCE_EXHAUSTED.value[0]


async def test_copies_and_replies_count_together():
    first = step("a", {"generate": {}}, ("generate.text", "inputs.text"))
    second = step("b", {"generate": {}}, ("generate.text", "a.completions[0].text"))
    inputs = {"text": {"text": "ab" * 130_000}}
    async with gateway(behind("generation"), max_message_mib=1) as (channel, _):
        found = await run(channel, first, second, inputs=inputs)
        assert kinds(found) == ["generate", "status"]
        assert found[1].status.code == Code.RESOURCE_EXHAUSTED.value[0]
        assert found[1].status.message.startswith("what bindings copy and steps reply is more than 1048576 bytes")


FILE = """
[shout]
description = "A word, louder"
inputs = { word = { type = "text" }, mark = { type = "text", default = { text = "!" } } }
[[shout.steps]]
name = "say"
request = { transduce = {} }
bindings = [{ target_path = "transduce.texts[0]", source_path = "inputs.word", template = "{}{inputs.mark}" }]
"""


async def named(channel: aio.Channel, name: str, **inputs: Any) -> str:
    stub = gateway_service_pb2_grpc.GatewayServiceStub(channel)
    request = gateway_service_pb2.RunPipelineRequest(name=name, inputs=inputs)
    return (await stub.RunPipeline(request)).results[0].transduce.results[0].text


async def test_a_stored_pipeline_is_called_by_its_name(tmp_path: Path):
    file = tmp_path / "pipelines.toml"
    file.write_text(FILE)
    async with gateway(behind("sequence"), pipelines=str(file)) as (channel, _):
        assert await named(channel, "shout", word={"text": "ab"}) == "AB!"
        assert await named(channel, "shout", word={"text": "c"}, mark={"text": "?"}) == "C?"
        stub = gateway_service_pb2_grpc.GatewayServiceStub(channel)
        (listed,) = (await stub.ListPipelines(gateway_service_pb2.ListPipelinesRequest())).pipelines
        assert (listed.name, listed.inputs["mark"].default.text) == ("shout", "!")
        assert not listed.steps[0].request.transduce.texts[0]


@pytest.mark.parametrize(
    ("name", "inputs", "code", "told"),
    [
        ("quiet", {}, Code.NOT_FOUND, "pipeline 'quiet' not found; available: shout"),
        ("", {}, Code.NOT_FOUND, "pipeline '' not found; available: shout"),
        ("shout", {}, Code.INVALID_ARGUMENT, "inputs[word]: must be set; shout takes mark (text), word (text)"),
        ("shout", {"word": {"number": 1}}, Code.INVALID_ARGUMENT, "inputs[word]: must be of type text"),
        ("shout", {"wort": {"text": "a"}}, Code.INVALID_ARGUMENT, "inputs[wort]: shout takes no such input"),
    ],
)
async def test_a_call_that_does_not_fit_a_stored_pipeline_says_what_does(
    tmp_path: Path, name: str, inputs: dict[str, Any], code: grpc.StatusCode, told: str
):
    file = tmp_path / "pipelines.toml"
    file.write_text(FILE)
    service = behind("sequence")
    async with gateway(service, pipelines=str(file)) as (channel, _):
        with pytest.raises(aio.AioRpcError) as caught:
            await named(channel, name, **inputs)
        assert caught.value.code() is code and caught.value.details().startswith(told)
    assert not service.calls


async def test_a_changed_file_is_taken_and_a_bad_one_is_not(tmp_path: Path):
    file = tmp_path / "pipelines.toml"
    file.write_text(FILE)
    async with gateway(behind("sequence"), pipelines=str(file), store_poll_s=0.02) as (channel, _):
        file.write_text(FILE.replace('text = "!"', 'text = "!!"'))

        async def louder() -> None:
            while await named(channel, "shout", word={"text": "ab"}) != "AB!!":
                await asyncio.sleep(0.01)

        await asyncio.wait_for(louder(), 10)
        file.write_text(FILE.replace("inputs.word", "inputs.nothing"))
        await asyncio.sleep(0.2)
        assert await named(channel, "shout", word={"text": "ab"}) == "AB!!"
        file.write_text(FILE)

        async def again() -> None:
            while await named(channel, "shout", word={"text": "ab"}) != "AB!":
                await asyncio.sleep(0.01)

        await asyncio.wait_for(again(), 10)


async def test_the_command_line_runs_and_lists_them(tmp_path: Path):
    file = tmp_path / "pipelines.toml"
    file.write_text(FILE)
    async with started(behind("sequence")) as (service,):
        port = any_free("127.0.0.1")
        chosen = settings({"sequence": service.address}, pipelines=str(file)).model_copy(update={"port": port})
        async with running(chosen, build):

            async def called(*arguments: str) -> Any:
                command = ["call", "pipeline", *arguments, "--address", f"127.0.0.1:{port}"]
                return await asyncio.to_thread(CliRunner().invoke, app, command)

            shown = (await called("shout", "--text", "word=ab", "--input", 'mark={"text": "[b]"}')).stdout
            assert shown.splitlines()[-1].split()[:3] == ["say", "AB[B]", "miss"]
            listed = (await called()).stdout.splitlines()[-1]
            assert listed.split("  ")[0] == "shout" and "[mark: text], word: text" in listed
            assert isinstance((await called("shout", "--text", "word")).exception, InvalidInput)
            assert isinstance((await called("shout", "--input", "word={")).exception, InvalidInput)


def test_a_bad_file_stops_the_start(tmp_path: Path):
    file = tmp_path / "pipelines.toml"
    file.write_text(FILE.replace("inputs.word", "inputs.nothing"))
    with pytest.raises(
        ValueError, match=r"shout.steps\[0\].bindings\[0\].source_path: step 'say': there is no input"
    ):
        GatewaySettings(pipelines=str(file))
