"""Grammars are compiled once, on their own thread, for whoever still wants them."""

import asyncio
import json
import threading
from collections.abc import Callable

import numpy as np
import pytest

from services.generation import lark
from services.generation.engine.constraint import Constraint
from services.generation.grammars import Asked, Grammars
from services.runtime.errors import InvalidInput
from services.runtime.text.tokenizer import Tokenizer
from tests.unit.runtime.text.made import byte_level, from_library, llama_style

NUMBER = Asked("regex", "[0-9]+")


def grammars(words: Tokenizer, kept: int = 8) -> Grammars:
    return Grammars(
        words, [words.token_bytes(token) for token in range(words.vocab_size)], words.special_ids, kept
    )


class Gate:
    """Counts compilations and holds them up."""

    def __init__(self, compile_: Callable[..., str]) -> None:
        self.compile, self.asked, self.open = compile_, list[str](), threading.Event()
        self.threads = set[str]()

    def __call__(self, kind: str, text: str, after_space: bool) -> str:
        self.asked.append(text)
        self.threads.add(threading.current_thread().name)
        assert self.open.wait(10)
        return self.compile(kind, text, after_space)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    made = Gate(lark.grammar)
    monkeypatch.setattr(lark, "grammar", made)
    return made


async def test_equal_ones_are_compiled_once_and_off_the_loop(gate: Gate) -> None:
    made = grammars(from_library(byte_level()))
    waiting = [asyncio.create_task(made.compiled(NUMBER)) for _ in range(9)]
    await asyncio.sleep(0)
    gate.open.set()
    found = await asyncio.gather(*waiting)
    assert len({id(one) for one in found}) == 1 and await made.compiled(NUMBER) is found[0]
    assert gate.asked == [NUMBER.text] and threading.current_thread().name not in gate.threads
    made.close()


async def test_what_nobody_waits_for_is_not_begun(gate: Gate) -> None:
    made = grammars(from_library(byte_level()))
    tasks = [asyncio.create_task(made.compiled(Asked("regex", text))) for text in ("a", "b", "b", "c")]
    async with asyncio.timeout(10):
        while not gate.asked:
            await asyncio.sleep(0.001)
    for task in tasks[:3]:
        task.cancel()
    await asyncio.wait(tasks[:3])
    gate.open.set()
    await tasks[3]
    assert gate.asked == ["a", "c"]
    await made.compiled(Asked("regex", "b"))
    assert gate.asked == ["a", "c", "b"]
    made.close()


async def test_the_least_recent_goes_and_failures_are_not_kept(gate: Gate) -> None:
    gate.open.set()
    made = grammars(from_library(byte_level()), kept=2)
    for text in ("a", "b", "a", "c", "a", "b"):
        await made.compiled(Asked("regex", text))
    assert gate.asked == ["a", "b", "c", "b"]
    for _ in range(2):
        with pytest.raises(InvalidInput, match=r"^constraint\.regex: .*unclosed"):
            await made.compiled(Asked("regex", "["))
    assert gate.asked[-2:] == ["[", "["]
    made.close()


async def test_one_whose_lexer_is_worn_is_compiled_anew(gate: Gate) -> None:
    gate.open.set()
    made = grammars(from_library(byte_level()))
    found = await made.compiled(NUMBER)
    found.worn = True
    assert await made.compiled(NUMBER) is not found
    made.close()


async def test_a_space_that_the_decoder_drops_is_put_in_front() -> None:
    words = from_library(llama_style())
    made = grammars(words)
    one, ids = Constraint(await made.compiled(Asked("choice", '[" the dog"]'))), list[int]()
    while not one.finished:
        token = int(np.flatnonzero(one.mask() == 0)[-1])
        one.take(token)
        ids.append(token)
    assert words.decode(ids) == " the dog"
    made.close()


@pytest.mark.parametrize("text", ["a\x7f", "\x00", 'a"\\', "\u2028", "\ud7ff", "%{|}/"])
async def test_any_string_may_be_a_choice(text: str) -> None:
    words = from_library(byte_level())
    made = grammars(words)
    constraint = Constraint(await made.compiled(Asked("choice", json.dumps([text, text + "x"]))))
    for token in words.encode_ids(text):
        assert constraint.allows(token)
        constraint.take(token)
    made.close()
