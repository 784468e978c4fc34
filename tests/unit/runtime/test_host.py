"""Hot load, swap, drain and unload over a real store on disk; what a model computes is a counter."""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import pytest

from services.runtime.errors import InvalidInput, ModelNotFound, PreconditionFailed, Unavailable
from services.runtime.follow import Follower
from services.runtime.host import ModelHost
from services.runtime.states import State
from services.runtime.store.manifest import Manifest
from services.runtime.store.store import ModelStore

TASK = "vision.classify"


class Counting:
    """A model that remembers its warm-up and its end."""

    made: ClassVar[list["Counting"]] = []
    gate: ClassVar[asyncio.Event | None] = None

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self.warm = self.closed = False
        Counting.made.append(self)

    async def warm_up(self) -> None:
        if Counting.gate is not None:
            await Counting.gate.wait()
        if self.manifest.config.get("broken"):
            raise ArithmeticError("warm-up answer is not finite")
        self.warm = True

    async def close(self) -> None:
        self.closed = True


def publish(store: ModelStore, name: str, task: str = TASK, **config: Any) -> Manifest:
    with store.publish(name) as draft:
        (draft.directory / "weights.bin").write_bytes(repr(config).encode())
        draft.fields.update(tasks=[task], config=config)
    assert draft.published
    return draft.published


async def load(manifest: Manifest, directory: Path) -> Counting:
    return Counting(manifest)


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "store")


def host_of(store: ModelStore) -> ModelHost[Counting]:
    return ModelHost(store, "vision", load, {TASK: "net"})


async def test_default_version_and_task_are_found(store: ModelStore) -> None:
    publish(store, "net")
    publish(store, "speech", task="sequence.session")
    host = host_of(store)
    await Follower(host).sync()
    assert host.loaded() == ["net"]
    with host.lease("", "", TASK) as model:
        assert model.warm
        assert model.manifest.version == 1
    with pytest.raises(ModelNotFound, match="available: net"), host.lease("nope", "", TASK):
        pass
    with pytest.raises(ModelNotFound, match="available: 1"), host.lease("net", "7", TASK):
        pass
    with pytest.raises(InvalidInput, match=r"does not serve vision\.embed"), host.lease("net", "", "vision.embed"):
        pass


async def test_a_swap_keeps_the_old_version_until_its_last_call_ends(store: ModelStore) -> None:
    publish(store, "net", a=1)
    host = host_of(store)
    follower = Follower(host)
    await follower.sync()
    with host.lease("net", "", TASK) as old:
        publish(store, "net", a=2)
        await follower.sync()
        with host.lease("net", "", TASK) as new:
            assert new.manifest.version == 2
        await asyncio.sleep(0)
        assert not old.closed
        states = {s.manifest.version: s.state for s in host.statuses()}
        assert states == {1: State.DRAINING, 2: State.SERVING}
    await host.close()
    assert old.closed


async def test_a_failed_load_leaves_the_old_one_serving_and_says_why(store: ModelStore) -> None:
    publish(store, "net")
    host = host_of(store)
    follower = Follower(host)
    await follower.sync()
    publish(store, "net", broken=True)
    await follower.sync()
    assert host.serving_version("net") == 1
    failed = next(s for s in host.statuses() if s.manifest.version == 2)
    assert failed.state is State.FAILED
    assert "not finite" in failed.reason
    with pytest.raises(PreconditionFailed, match="not finite"):
        await host.load("net", "2")


async def test_a_version_that_broke_is_loaded_anew_and_nobody_gets_the_broken_one(store: ModelStore) -> None:
    publish(store, "net")
    store.set_label("net", "stable", 1)
    host = host_of(store)
    follower = Follower(host)
    await follower.sync()
    with host.lease("net", "", TASK) as broken:
        host.give_up(broken.manifest, "broke down")
        host.give_up(broken.manifest, "broke down")
        assert host.loaded() == [] and not broken.closed
        assert [(one.state, one.reason) for one in host.statuses()] == [(State.LOADING, "broke down")]
        for version in ("", "1", "stable"):
            with pytest.raises(Unavailable) as refused:
                host.lease("net", version, TASK)
            assert refused.value.reason == "MODEL_LOADING"
        await follower.sync()
        with host.lease("net", "stable", TASK) as anew:
            assert anew is not broken and not anew.closed
    await asyncio.sleep(0)
    assert broken.closed and [one.state for one in host.statuses()] == [State.SERVING]


async def test_a_version_that_broke_leaves_the_others_alone(store: ModelStore) -> None:
    host = host_of(store)
    follower = Follower(host)
    for number in (1, 2):
        publish(store, "net", a=number)
    store.set_label("net", "old", 1)
    await follower.sync()
    with host.lease("net", "2", TASK) as broken:
        host.give_up(broken.manifest, "broke down")
    with pytest.raises(Unavailable):
        host.lease("net", "", TASK)
    with host.lease("net", "old", TASK) as other:
        assert other.manifest.version == 1
    await follower.sync()
    assert host.serving_version("net") == 2 and host.versions("net") == [1, 2]


async def test_a_failed_warm_up_closes_what_was_built(store: ModelStore) -> None:
    publish(store, "net", broken=True)
    host = host_of(store)
    with pytest.raises(PreconditionFailed):
        await host.load("net")
    assert Counting.made[-1].closed


async def test_a_load_goes_on_when_its_caller_leaves(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(store, "net")
    host = host_of(store)
    gate = asyncio.Event()
    monkeypatch.setattr(Counting, "gate", gate)
    caller = asyncio.create_task(host.load("net"))
    while not host._states.all():
        await asyncio.sleep(0.01)
    caller.cancel()
    gate.set()
    while not host.loaded():
        await asyncio.sleep(0.01)
    assert [s.state for s in host.statuses()] == [State.SERVING]


async def test_closing_ends_a_load_in_progress(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(store, "net")
    host = host_of(store)
    monkeypatch.setattr(Counting, "gate", asyncio.Event())
    before = len(Counting.made)
    caller = asyncio.create_task(host.load("net"))
    while len(Counting.made) == before:
        await asyncio.sleep(0.01)
    await host.close()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert Counting.made[-1].closed
    assert host.statuses()[0].state is State.FAILED


async def test_one_damaged_model_stops_no_other(store: ModelStore) -> None:
    publish(store, "net")
    damaged = publish(store, "other")
    (store.directory(damaged) / "model.toml").write_text("not toml [")
    host = host_of(store)
    follower = Follower(host)
    await follower.sync()
    assert host.loaded() == ["net"]
    publish(store, "net", a=2)
    await follower.sync()
    assert host.serving_version("net") == 2


async def test_a_slow_sync_does_not_undo_an_administrator(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a-slow", "net"):
        publish(store, name, a=1)
        publish(store, name, a=2)
    host = host_of(store)
    follower = Follower(host)
    gate = asyncio.Event()
    monkeypatch.setattr(Counting, "gate", gate)
    syncing = asyncio.create_task(follower.sync())
    while not host._states.all():
        await asyncio.sleep(0.01)
    choosing = asyncio.create_task(follower.choose("net", "1"))
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(syncing, choosing)
    assert host.serving_version("net") == 1


async def test_a_watch_begun_after_the_end_ends(store: ModelStore) -> None:
    host = host_of(store)
    host.end_watches()
    with host.watch() as changes:
        assert [change async for change in changes] == []


async def test_damaged_files_are_not_served(store: ModelStore) -> None:
    manifest = publish(store, "net")
    (store.directory(manifest) / "weights.bin").write_bytes(b"changed")
    host = host_of(store)
    await Follower(host).sync()
    assert host.loaded() == []
    assert "sha256" in host.statuses()[0].reason


async def test_what_an_administrator_asks_of_one_worker_reaches_the_others(store: ModelStore) -> None:
    publish(store, "net", a=1)
    publish(store, "net", a=2)
    one, other = Follower(host_of(store)), Follower(host_of(store))
    await one.sync()
    await other.sync()
    await one.choose("net", "1")
    await other.sync()
    assert other.host.serving_version("net") == 1
    await other.drop("net", "")
    await one.sync()
    assert one.host.loaded() == []
    publish(store, "net", a=3)
    await one.sync()
    assert one.host.serving_version("net") == 3


async def test_watchers_see_each_change(store: ModelStore) -> None:
    publish(store, "net")
    host = host_of(store)
    seen: list[tuple[State, int]] = []

    async def watch() -> None:
        with host.watch() as changes:
            async for status in changes:
                seen.append((status.state, status.manifest.version))  # noqa: PERF401  read while it grows

    task = asyncio.create_task(watch())
    await asyncio.sleep(0)
    await host.load("net")
    await host.unload("net")
    await host.close()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert [s for s, _ in seen][:3] == [State.LOADING, State.SERVING, State.DRAINING]


async def test_manifests_of_what_is_not_loaded_are_read_once(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2):
        publish(store, "net", a=number)
    publish(store, "speech", task="sequence.session")
    host = host_of(store)
    await Follower(host).sync()
    first = host.statuses()
    assert [(s.manifest.version, s.state) for s in first] == [(1, State.AVAILABLE), (2, State.SERVING)]
    monkeypatch.setattr(store, "manifest", None)
    assert host.statuses() == first
    store.remove("net", 1)
    assert host.statuses() == first[1:]
