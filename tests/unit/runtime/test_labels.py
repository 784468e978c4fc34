"""Labels of the store in a host that follows it: what stays loaded, what calls mean, what watchers hear."""

import asyncio
from pathlib import Path

import pytest

from services.runtime.errors import InvalidInput, ModelNotFound, PreconditionFailed, Unavailable
from services.runtime.follow import Follower
from services.runtime.states import State
from services.runtime.store.desired import Choice
from services.runtime.store.manifest_file import DamagedModel
from services.runtime.store.store import ModelStore
from tests.unit.runtime.test_host import TASK, Counting, host_of, publish


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    """Three good versions of `net`."""
    found = ModelStore(tmp_path / "store")
    for number in (1, 2, 3):
        publish(found, "net", a=number)
    return found


def answering(follower: Follower, version: str = "") -> int:
    with follower.host.lease("net", version, TASK) as model:
        return int(model.manifest.version)


async def loading(follower: Follower) -> None:
    """Returns once a version of `net` loads."""
    while not follower.host._states.any_is(State.LOADING, "net"):
        await asyncio.sleep(0.01)


async def test_stable_answers_and_every_labelled_version_stays_beside_the_newest(store: ModelStore) -> None:
    store.set_label("net", "stable", 1)
    store.set_label("net", "canary", 2)
    follower = Follower(host_of(store))
    await follower.sync()
    assert follower.host.versions("net") == [1, 2, 3]
    assert [answering(follower, version) for version in ("", "stable", "canary", "3")] == [1, 1, 2, 3]


async def test_a_version_loses_its_place_with_its_label_and_drains(store: ModelStore) -> None:
    store.set_label("net", "stable", 1)
    follower = Follower(host_of(store))
    await follower.sync()
    with follower.host.lease("net", "", TASK) as old:
        store.set_label("net", "stable", 3)
        await follower.sync()
        await asyncio.sleep(0)
        assert answering(follower) == 3
        assert follower.host.versions("net") == [3]
        assert not old.closed
    await follower.host.close()
    assert old.closed


async def test_no_version_is_built_twice(store: ModelStore) -> None:
    store.set_label("net", "stable", 3)
    store.set_label("net", "canary", 3)
    before = len(Counting.made)
    follower = Follower(host_of(store))
    await follower.sync()
    await follower.sync()
    assert len(Counting.made) == before + 1


async def test_a_moved_label_is_told_to_watchers_new_answer_first(store: ModelStore) -> None:
    store.set_label("net", "stable", 1)
    host = host_of(store)
    follower = Follower(host)
    await follower.sync()
    with host.watch() as changes:
        store.set_label("net", "stable", 3)
        await follower.sync()
        await host.close()
        host.end_watches()
        told = [(change.manifest.version, change.state) async for change in changes]
    assert told[:3] == [(3, State.SERVING), (1, State.SERVING), (1, State.DRAINING)]


async def test_a_label_moves_only_once_its_version_is_loaded(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.set_label("net", "stable", 1)
    store.set_label("net", "canary", 3)
    follower = Follower(host_of(store))
    await follower.sync()
    gate = asyncio.Event()
    monkeypatch.setattr(Counting, "gate", gate)
    store.set_label("net", "canary", 2)
    syncing = asyncio.create_task(follower.sync())
    await loading(follower)
    assert answering(follower, "canary") == 3
    gate.set()
    await syncing
    assert answering(follower, "canary") == 2


async def test_a_first_label_whose_version_is_loading_says_retry(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower = Follower(host_of(store))
    await follower.sync()
    gate = asyncio.Event()
    monkeypatch.setattr(Counting, "gate", gate)
    store.set_label("net", "canary", 2)
    syncing = asyncio.create_task(follower.sync())
    await loading(follower)
    with pytest.raises(Unavailable, match="loading"):
        answering(follower, "canary")
    assert answering(follower) == 3
    gate.set()
    await syncing


async def test_a_broken_labelled_version_says_why_and_the_rest_keeps_serving(store: ModelStore) -> None:
    store.set_label("net", "stable", 1)
    broken = publish(store, "net", broken=True).version
    store.set_label("net", "canary", broken)
    follower = Follower(host_of(store))
    await follower.sync()
    assert answering(follower) == 1
    with pytest.raises(PreconditionFailed, match="not finite"):
        answering(follower, "canary")
    failed = next(s for s in follower.host.statuses() if s.manifest.version == broken)
    assert (failed.state, failed.reason) == (State.FAILED, "ArithmeticError: warm-up answer is not finite")


@pytest.mark.parametrize("label", ["stable", "canary"])
async def test_a_label_moved_to_a_broken_version_stays_where_it_was(store: ModelStore, label: str) -> None:
    store.set_label("net", label, 1)
    follower = Follower(host_of(store))
    await follower.sync()
    before = answering(follower)
    store.set_label("net", label, publish(store, "net", broken=True).version)
    await follower.sync()
    assert answering(follower) == before
    assert answering(follower, label) == 1


async def test_a_broken_version_is_tried_again_when_something_changes_and_not_before(store: ModelStore) -> None:
    broken = publish(store, "net", broken=True).version
    follower = Follower(host_of(store))
    await follower.sync()
    made = len(Counting.made)
    await follower.sync()
    assert len(Counting.made) == made
    store.set_label("net", "canary", broken)
    await follower.sync()
    assert len(Counting.made) == made + 1


async def test_at_a_start_the_newest_that_loads_stands_in_for_a_broken_one(store: ModelStore) -> None:
    store.set_label("net", "stable", publish(store, "net", broken=True).version)
    follower = Follower(host_of(store))
    await follower.sync()
    assert answering(follower) == 3


async def test_an_unreadable_label_file_changes_nothing(store: ModelStore) -> None:
    store.set_label("net", "stable", 1)
    follower = Follower(host_of(store))
    await follower.sync()
    (store.root / "net" / "labels.toml").write_text("not toml [")
    await follower.sync()
    assert answering(follower) == answering(follower, "stable") == 1


async def test_a_dropped_label_is_unknown_and_the_newest_answers(store: ModelStore) -> None:
    store.set_label("net", "stable", 1)
    follower = Follower(host_of(store))
    await follower.sync()
    store.set_label("net", "stable", None)
    await follower.sync()
    assert answering(follower) == 3
    with pytest.raises(ModelNotFound, match="available: 3"):
        answering(follower, "stable")


async def test_an_administrators_load_wins_until_stable_is_set(store: ModelStore) -> None:
    store.set_label("net", "stable", 1)
    one, other = Follower(host_of(store)), Follower(host_of(store))
    await one.sync()
    await one.choose("net", "2")
    store.set_label("net", "canary", 3)
    await one.sync()
    await other.sync()
    for follower in (one, other):
        assert [answering(follower, version) for version in ("", "stable", "canary")] == [2, 1, 3]
    # The same version again: still the last word.
    store.set_label("net", "stable", 1)
    await one.sync()
    assert answering(one) == 1


async def test_a_load_without_a_version_goes_back_to_the_labels(store: ModelStore) -> None:
    store.set_label("net", "stable", 1)
    follower = Follower(host_of(store))
    await follower.sync()
    await follower.choose("net", "2")
    assert answering(follower) == 2
    await follower.choose("net", "")
    await follower.sync()
    assert answering(follower) == 1


async def test_one_of_several_kept_versions_cannot_be_unloaded_alone(store: ModelStore) -> None:
    store.set_label("net", "stable", 1)
    follower = Follower(host_of(store))
    await follower.sync()
    with pytest.raises(PreconditionFailed, match="kept loaded as stable"):
        await follower.drop("net", "1")
    with pytest.raises(PreconditionFailed, match="as the newest"):
        await follower.drop("net", "3")
    with pytest.raises(ModelNotFound):
        await follower.drop("net", "2")
    await follower.drop("net", "")
    await follower.sync()
    assert follower.host.versions("net") == []


async def test_a_label_set_by_an_administrator_holds_at_once(store: ModelStore) -> None:
    follower = Follower(host_of(store))
    await follower.sync()
    await follower.label("net", "canary", "2")
    await follower.label("net", "stable", "canary")
    assert answering(follower) == 2
    assert store.labels("net") == {"canary": 2, "stable": 2}
    await follower.label("net", "stable", "")
    assert answering(follower) == 3
    with pytest.raises(InvalidInput):
        await follower.label("net", "Not a label", "1")


async def test_a_label_is_not_set_on_what_does_not_load(store: ModelStore) -> None:
    broken = publish(store, "net", broken=True).version
    follower = Follower(host_of(store))
    await follower.sync()
    with pytest.raises(PreconditionFailed, match="not finite"):
        await follower.label("net", "stable", str(broken))
    assert store.labels("net") == {}
    assert answering(follower) == 3


async def test_a_removed_version_is_not_listed_any_more(store: ModelStore) -> None:
    follower = Follower(host_of(store))
    await follower.sync()
    await follower.choose("net", "1")
    store.remove("net", 3)
    await follower.host.close()
    assert [s.manifest.version for s in follower.host.statuses()] == [1, 2]


async def test_a_version_that_left_is_gone_even_while_another_loads(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.set_label("net", "canary", 1)
    follower = Follower(host_of(store))
    await follower.sync()
    store.set_label("net", "canary", None)
    await follower.sync()
    gate = asyncio.Event()
    monkeypatch.setattr(Counting, "gate", gate)
    publish(store, "net", a=4)
    syncing = asyncio.create_task(follower.sync())
    await loading(follower)
    with pytest.raises(ModelNotFound, match="available: 3"):
        answering(follower, "1")
    gate.set()
    await syncing
    assert answering(follower) == 4


async def test_what_is_published_in_the_place_of_a_removed_version_is_loaded(store: ModelStore) -> None:
    follower = Follower(host_of(store))
    await follower.sync()
    store.remove("net", 3)
    anew = publish(store, "net", a=99)
    await follower.sync()
    with follower.host.lease("net", "", TASK) as model:
        assert model.manifest.digest == anew.digest


async def test_a_version_that_drains_while_it_loads_again_is_loading(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.set_label("net", "canary", 1)
    follower = Follower(host_of(store))
    await follower.sync()
    gate = asyncio.Event()
    with follower.host.lease("net", "1", TASK) as old:
        store.set_label("net", "canary", None)
        await follower.sync()
        monkeypatch.setattr(Counting, "gate", gate)
        store.set_label("net", "canary", 1)
        syncing = asyncio.create_task(follower.sync())
        await loading(follower)
    while not old.closed:
        await asyncio.sleep(0.01)
    with pytest.raises(Unavailable, match="loading"):
        answering(follower, "canary")
    gate.set()
    await syncing
    assert answering(follower, "canary") == 1


async def test_what_is_published_during_a_load_by_hand_is_newer_than_the_choice(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower = Follower(host_of(store))
    await follower.sync()
    gate = asyncio.Event()
    monkeypatch.setattr(Counting, "gate", gate)
    choosing = asyncio.create_task(follower.choose("net", "1"))
    await loading(follower)
    publish(store, "net", a=4)
    gate.set()
    await choosing
    await follower.sync()
    assert answering(follower) == 4


async def test_a_model_whose_versions_are_all_removed_can_be_unloaded(store: ModelStore) -> None:
    follower = Follower(host_of(store))
    await follower.sync()
    for version in (1, 2, 3):
        store.remove("net", version)
    await follower.sync()
    assert answering(follower) == 3
    await follower.drop("net", "")
    assert follower.host.loaded() == []
    publish(store, "net", a=4)
    await follower.sync()
    assert answering(follower) == 4


@pytest.mark.parametrize("content", ["{", "[]", '{"net": 3}', '{"net": {"version": 1, "newest": null}}'])
async def test_unreadable_choices_stop_no_model_and_are_told_to_administrators(
    store: ModelStore, content: str
) -> None:
    follower = Follower(host_of(store))
    follower.desired.write("net", Choice(1, 3))
    (store.root / ".admin" / "vision.json").write_text(content)
    await follower.sync()
    assert answering(follower) == 3
    with pytest.raises(DamagedModel, match=r"vision\.json is unreadable.*delete it"):
        await follower.choose("net", "1")


async def test_a_label_of_another_areas_model_is_not_changed_here(store: ModelStore) -> None:
    publish(store, "speech", task="sequence.session")
    store.set_label("speech", "canary", 1)
    with pytest.raises(InvalidInput, match="nothing of vision"):
        await Follower(host_of(store)).label("speech", "canary", "")
    assert store.labels("speech") == {"canary": 1}
