"""How maas_client calls: deadlines, retries, cancellation, TLS; on a real server that counts what it gets."""

import asyncio
import signal
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from google.protobuf.message import Message

import maas_client
from cli.authority import Authority
from maas.generation.v1 import generation_service_pb2 as generation_pb
from maas.generation.v1 import generation_service_pb2_grpc as generation_grpc
from maas.tokenization.v1 import tokenization_service_pb2 as pb
from maas.tokenization.v1 import tokenization_service_pb2_grpc as pb_grpc
from maas_client import AsyncClient, Client, Tls
from services.runtime.context import current
from services.runtime.errors import Overloaded, Unavailable
from services.runtime.floor import Floor
from services.runtime.identity import keys
from services.runtime.settings import ServerSettings


class Counting(pb_grpc.TokenizationServiceServicer, generation_grpc.GenerationServiceServicer):
    """Does what the name of the model says, and notes it."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.requests: list[Message] = []
        self.begun, self.cancelled = asyncio.Event(), asyncio.Event()
        self.remaining_s: float | None = None
        self.metadata: dict[str, str] = {}
        self.tenant = ""

    async def Detokenize(self, request: pb.DetokenizeRequest, context: Any) -> pb.DetokenizeResponse:
        self.calls[request.model] += 1
        self.remaining_s, self.metadata = current().remaining_s(), dict(current().metadata)
        self.tenant = current().tenant
        if request.model == "twice unavailable" and self.calls[request.model] < 3:
            raise Unavailable("not yet", retry_after_s=0.001)
        if request.model == "never available":
            raise Unavailable("never")
        if request.model == "full":
            raise Overloaded("full", retry_after_s=0.001)
        if request.model == "slow":
            await self._wait()
        return pb.DetokenizeResponse(texts=["well"])

    async def GenerateStream(
        self, request: generation_pb.GenerateStreamRequest, context: Any
    ) -> AsyncIterator[generation_pb.GenerateStreamResponse]:
        self.requests.append(request)
        reply = generation_pb.GenerateStreamResponse
        if request.text in ("breaks", "cannot go on"):
            known = "" if request.text == "cannot go on" else "an-id"
            yield reply(sequence_number=1, text_delta="be", stream_id=known)
            raise Unavailable("gone")
        if request.text == "stuck":
            await self._wait()
        yield reply(sequence_number=2, text_delta="gun", usage={"completion_tokens": 2})

    async def _wait(self) -> None:
        self.begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


@asynccontextmanager
async def serving(**more: Any) -> AsyncIterator[tuple[Counting, str]]:
    servicer, floor = Counting(), Floor(ServerSettings(port=0, lame_duck_s=0, drain_s=0.2, **more))
    floor.add(pb_grpc.add_TokenizationServiceServicer_to_server, servicer)
    floor.add(generation_grpc.add_GenerationServiceServicer_to_server, servicer)
    port = await floor.start()
    try:
        yield servicer, f"127.0.0.1:{port}"
    finally:
        await floor.close()


@pytest.fixture
async def counting() -> AsyncIterator[tuple[Counting, str]]:
    async with serving() as found:
        yield found


async def told(client: Client | AsyncClient, **options: Any) -> Any:
    """A call of either client."""
    if isinstance(client, AsyncClient):
        return await client.detokenize([[1]], **options)
    return await asyncio.to_thread(client.detokenize, [[1]], **options)


@pytest.fixture(params=["sync", "async"])
async def client(counting: tuple[Counting, str], request: Any) -> AsyncIterator[Client | AsyncClient]:
    if request.param == "async":
        async with AsyncClient(counting[1], timeout_s=20) as found:
            yield found
    else:
        with Client(counting[1], timeout_s=20) as other:
            yield other


async def test_unavailable_alone_is_tried_again(counting: tuple[Counting, str], client: Any) -> None:
    calls = counting[0].calls
    assert (await told(client, model="twice unavailable"))[0] == "well"
    with pytest.raises(maas_client.Unavailable, match="never"):
        await told(client, model="never available")
    with pytest.raises(maas_client.ResourceExhausted) as caught:
        await told(client, model="full")
    assert calls == {"twice unavailable": 3, "never available": 3, "full": 1}
    assert (caught.value.reason, caught.value.retry_after_s) == ("OVERLOADED", 0.001)


async def test_nothing_is_tried_again_where_nobody_wants_it(counting: tuple[Counting, str]) -> None:
    async with AsyncClient(counting[1], retry=False) as client:
        with pytest.raises(maas_client.Unavailable):
            await told(client, model="never available")
    assert counting[0].calls["never available"] == 1


async def test_every_call_has_a_deadline_and_an_id(counting: tuple[Counting, str], client: Any) -> None:
    servicer, _ = counting
    await told(client)
    assert servicer.remaining_s is not None and 10 < servicer.remaining_s < 25
    reply = await told(client, timeout_s=3, request_id="mine", cache_control="no-cache", urgency="batch")
    assert servicer.remaining_s < 5 and reply.info.request_id == "mine"
    given = {"x-request-id": "mine", "cache-control": "no-cache", "x-maas-priority": "batch"}
    assert given.items() <= servicer.metadata.items()
    with pytest.raises(maas_client.DeadlineExceeded) as caught:
        await told(client, model="slow", timeout_s=0.05, request_id="late")
    assert caught.value.request_id == "late"


async def test_a_stream_that_breaks_goes_on_and_is_not_begun_again(
    counting: tuple[Counting, str], client: Any
) -> None:
    if isinstance(client, AsyncClient):
        heard = [delta.text async for delta in client.generate_stream("breaks")]
    else:
        heard = await asyncio.to_thread(lambda: [delta.text for delta in client.generate_stream("breaks")])
    assert heard == ["be", "gun"]
    resume = generation_pb.GenerateStreamRequest(resume={"stream_id": "an-id", "after_sequence_number": 1})
    assert counting[0].requests == [generation_pb.GenerateStreamRequest(text="breaks"), resume]


async def test_a_stream_without_an_id_is_not_begun_again(counting: tuple[Counting, str]) -> None:
    heard = []
    async with AsyncClient(counting[1]) as client:
        with pytest.raises(maas_client.Unavailable, match="gone"):
            async for delta in client.generate_stream("cannot go on"):
                heard += [delta.text]
    assert heard == ["be"] and len(counting[0].requests) == 1


@pytest.mark.parametrize("form", ["unary", "stream"])
async def test_a_cancelled_task_cancels_the_call_at_the_server(counting: tuple[Counting, str], form: str) -> None:
    servicer, address = counting
    async with AsyncClient(address) as client, asyncio.timeout(10):
        waiting = told(client, model="slow") if form == "unary" else anext(client.generate_stream("stuck"))
        task = asyncio.ensure_future(waiting)
        await servicer.begun.wait()
        task.cancel()
        await servicer.cancelled.wait()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_who_stops_to_listen_cancels_the_stream(counting: tuple[Counting, str], client: Any) -> None:
    servicer, _ = counting
    if isinstance(client, AsyncClient):
        stream = client.generate_stream("stuck")
        task = asyncio.ensure_future(anext(stream))
        await servicer.begun.wait()
        task.cancel()
    else:
        waiting = threading.Thread(target=lambda: next(client.generate_stream("stuck"), None), daemon=True)
        threading.excepthook, before = lambda _: None, threading.excepthook
        waiting.start()
        await servicer.begun.wait()
        client.close()
        await asyncio.to_thread(waiting.join, 10)
        threading.excepthook = before
        assert not waiting.is_alive()
    async with asyncio.timeout(10):
        await servicer.cancelled.wait()


@pytest.mark.parametrize("form", ["unary", "stream"])
async def test_ctrl_c_ends_the_waiting_and_the_call(counting: tuple[Counting, str], form: str) -> None:
    servicer, address = counting
    script = Path(__file__).with_name("client_script.py")
    child = await asyncio.create_subprocess_exec(
        sys.executable, script, form, address, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(100):
        await servicer.begun.wait()
        child.send_signal(signal.SIGINT)
        _, errors = await child.communicate()
        await servicer.cancelled.wait()
    assert errors.rstrip().endswith(b"KeyboardInterrupt")


async def test_no_thread_is_left_behind(counting: tuple[Counting, str]) -> None:
    async with AsyncClient(counting[1]) as client:
        await told(client)
    before = set(threading.enumerate())
    with Client(counting[1]) as other:
        await asyncio.to_thread(lambda: list(other.generate_stream("x")))
    left = {thread for thread in set(threading.enumerate()) - before if not thread.name.startswith("asyncio")}
    for thread in left:
        await asyncio.to_thread(thread.join, 5)
    assert not any(thread.is_alive() for thread in left)


async def test_mutual_tls_both_ways(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    chain, key = authority.issue("server", ["localhost"], 1)
    own, own_key = authority.issue("caller", [], 1)
    files = {"tls_certificate": chain, "tls_key": key, "tls_authority": tmp_path / "authority.pem"}
    async with serving(tls_clients=True, **files) as (_, address):
        shown = Tls(tmp_path / "authority.pem", own, own_key, server_name="localhost")
        async with AsyncClient(address, tls=shown) as client:
            assert (await told(client))[0] == "well"
        with Client(address.replace("127.0.0.1", "localhost"), tls=shown) as other:
            assert (await told(other))[0] == "well"
        nobody = Tls(tmp_path / "authority.pem", server_name="localhost")
        async with AsyncClient(address, tls=nobody, retry=False) as client:
            with pytest.raises(maas_client.Unavailable):
                await told(client)


async def test_a_key_says_whose_call_it_is(tmp_path: Path) -> None:
    key, table = keys.new("acme", "ci", [], None)
    (tmp_path / "keys.toml").write_text(tomli_w.dumps({"keys": [table]}))
    async with serving(api_keys_file=str(tmp_path / "keys.toml")) as (servicer, address):
        with Client(address, credential=key) as client:
            await told(client)
            assert servicer.tenant == "acme"
        async with AsyncClient(address, credential=lambda: key) as other:
            assert [delta.text async for delta in other.generate_stream("x")] == ["gun"]
        async with AsyncClient(address) as nobody:
            with pytest.raises(maas_client.Unauthenticated) as caught:
                await told(nobody)
    assert caught.value.reason == "CREDENTIALS_MISSING" and key not in str(caught.value)


async def test_replicas_take_turns_and_one_that_is_lost_costs_no_call() -> None:
    async with serving() as (one, first), AsyncExitStack() as leaving:
        other, second = await leaving.enter_async_context(serving())
        async with AsyncClient(f"ipv4:{first},{second}") as client:
            while not (one.calls and other.calls):
                await told(client)
            await leaving.aclose()
            before = one.calls[""]
            for _ in range(5):
                await told(client)
    assert one.calls[""] == before + 5


async def test_nobody_there_is_unavailable_and_keeps_its_id() -> None:
    async with AsyncClient("127.0.0.1:1") as client:
        with pytest.raises(maas_client.Unavailable) as caught:
            await told(client, request_id="mine")
    assert caught.value.request_id == "mine" and isinstance(caught.value, maas_client.MaasError)
