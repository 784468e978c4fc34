"""The block pool's accounts, over random use and by case."""

import random

import pytest

from services.generation.engine.blocks import NULL_BLOCK, BlockPool


def names(*labels: str) -> list[bytes]:
    return [label.encode() for label in labels]


def test_ten_thousand_random_operations_lose_no_block() -> None:
    draw, pool = random.Random(0), BlockPool(40, 4)
    tables: list[list[int]] = []
    shared_hits = 0
    for _ in range(10_000):
        move = draw.random()
        if move < 0.4 and pool.available:
            tables.append(pool.allocate(draw.randint(1, min(6, pool.available))))
        elif move < 0.6 and tables:
            table = draw.choice(tables)
            for place, block in enumerate(table):
                pool.publish(block, f"{draw.randrange(12)}/{place}".encode())
        elif move < 0.75:
            chain = draw.randrange(12)
            found = pool.match([f"{chain}/{place}".encode() for place in range(6)])
            pool.share(found)
            shared_hits += bool(found)
            tables += [found] if found else []
        elif move < 0.99 and tables:
            pool.release(tables.pop(draw.randrange(len(tables))))
        elif move > 0.998:
            pool.forget()
        pool.check_integrity(tables)
    assert shared_hits > 100
    for table in tables:
        pool.release(table)
    assert pool.available == pool.usable == 39


def test_the_null_block_is_never_handed_out() -> None:
    pool = BlockPool(5, 4)
    assert NULL_BLOCK not in pool.allocate(4)
    assert pool.available == 0


def test_released_blocks_are_found_again_until_they_are_needed() -> None:
    pool = BlockPool(4, 4)
    table = pool.allocate(2)
    for block, name in zip(table, names("a", "b"), strict=True):
        pool.publish(block, name)
    pool.release(table)
    assert pool.match(names("a", "b", "c")) == table
    pool.allocate(2)  # one blank block, then the end of the chain
    assert pool.match(names("a", "b")) == table[:1]


def test_a_shared_block_is_not_evicted() -> None:
    pool = BlockPool(3, 4)
    (first,) = pool.allocate(1)
    pool.publish(first, b"a")
    pool.release([first])
    pool.share(pool.match(names("a")))
    assert pool.allocate(1) != [first]
    assert pool.available == 0


def test_the_first_block_of_a_name_keeps_it() -> None:
    pool = BlockPool(4, 4)
    first, second = pool.allocate(2)
    pool.publish(first, b"a")
    pool.publish(second, b"a")
    assert pool.match(names("a")) == [first]


def test_what_releasing_tables_would_gain_is_what_it_gains() -> None:
    draw, pool = random.Random(1), BlockPool(40, 4)
    tables = [pool.allocate(draw.randint(1, 6)) for _ in range(6)]
    for table in list(tables):
        pool.share(common := draw.choice(tables)[:2])
        tables += [common]
        pool.publish(table[0], bytes(table))
    foretold = list(pool.gains(tables))
    found = [pool.available]
    for table in tables:
        pool.release(table)
        found.append(pool.available)
    assert found == foretold and found[-1] == pool.usable


def test_a_lost_block_is_noticed() -> None:
    pool = BlockPool(4, 4)
    pool.allocate(1)
    with pytest.raises(AssertionError):
        pool.check_integrity([])
