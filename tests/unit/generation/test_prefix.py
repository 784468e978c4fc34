"""Block names: equal contexts have equal names, nothing else does."""

from services.generation.engine import prefix


def named(tokens: list[int], salt: bytes = b"", size: int = 4) -> list[bytes]:
    hashes: list[bytes] = []
    prefix.extend(hashes, salt, tokens, size, len(tokens) // size)
    return hashes


def test_common_beginnings_share_names_and_nothing_after() -> None:
    left, right = named([1, 2, 3, 4, 5, 6, 7, 8, 9]), named([1, 2, 3, 4, 5, 6, 7, 9, 9])
    assert left[0] == right[0] and left[1] != right[1]


def test_the_same_block_elsewhere_has_another_name() -> None:
    assert len(set(named([1, 2, 3, 4] * 3))) == 3


def test_salt_separates() -> None:
    assert not set(named([1, 2, 3, 4])) & set(named([1, 2, 3, 4], salt=b"tenant"))


def test_growing_equals_starting_over() -> None:
    tokens = list(range(17))
    hashes: list[bytes] = []
    for blocks in range(5):
        prefix.extend(hashes, b"", tokens, 4, blocks)
        assert len(hashes) == blocks
    assert hashes == named(tokens)


def test_asking_for_fewer_keeps_what_is_known() -> None:
    hashes = named(list(range(16)))
    prefix.extend(hashes, b"", list(range(16)), 4, 2)
    assert len(hashes) == 4
