"""The byte-bounded memory against a plain model of it."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.entry import OVERHEAD_BYTES, Entry
from gateway.lru import ByteLRU

LIMIT = 4 * OVERHEAD_BYTES

steps = st.lists(
    st.tuples(st.sampled_from(["put", "get", "remove"]), st.sampled_from("abcde"), st.integers(0, LIMIT))
)


def entry(size: int) -> Entry:
    return Entry(b"x" * size, 0.0, 1.0)


@given(steps)
def test_it_equals_a_list_in_order_of_use(given_steps: list[tuple[str, str, int]]):
    lru, model = ByteLRU(LIMIT), {}
    for action, key, size in given_steps:
        if action == "put":
            lru.put(key, entry(size))
            model.pop(key, None)
            if entry(size).size <= LIMIT:
                model[key] = entry(size)
            while sum(kept.size for kept in model.values()) > LIMIT:
                model.pop(next(iter(model)))
        elif action == "get":
            assert lru.get(key) == model.get(key)
            if key in model:
                model[key] = model.pop(key)
        else:
            lru.remove(key)
            model.pop(key, None)
        assert (len(lru), lru.bytes) == (len(model), sum(kept.size for kept in model.values()))
        assert lru.bytes <= LIMIT


def test_no_room_keeps_nothing():
    lru = ByteLRU(0)
    lru.put("a", entry(0))
    assert lru.get("a") is None and lru.bytes == 0
