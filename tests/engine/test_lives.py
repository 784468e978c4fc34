"""The engine under everything that can happen to it, in random order: no block lost, one end each."""

import random

import torch

from services.generation.engine.kv_cache import KVCache
from services.generation.engine.row import Row
from services.generation.engine.runner import ModelRunner, Runner
from services.generation.engine.scheduler import Limits
from services.generation.models.causal_lm import CausalLM
from tests.engine.lives import Ledger, Lives
from tests.engine.tiny import VOCAB, Int8


def test_ten_thousand_operations_on_twenty_blocks() -> None:
    torch.set_num_threads(1)
    rows: dict[int, Row] = {}
    lives = Lives(
        make=lambda num_blocks: Ledger(num_blocks, 4, 8, rows),
        num_blocks=21,
        block_size=4,
        limits=Limits(max_batch_tokens=20, max_sequences=5),
        vocab=8,
        longest=40,
        draw=random.Random(0),
    )
    lives.run(10_000)
    lives.check_texts()
    assert lives.happened == {"finished", "aborted", "preempted", "RuntimeError", "DeadlinePassed"}
    assert len(lives.ended) > 1000 and lives.engine.accepted > 1000


def test_a_few_hundred_operations_on_real_nets(model: CausalLM | Int8) -> None:
    def make(num_blocks: int) -> Runner:
        if isinstance(model, Int8):
            return model.runner(num_blocks)
        return ModelRunner(model, KVCache(model.config, num_blocks, 16))

    limits = Limits(max_batch_tokens=50, max_sequences=6)
    lives = Lives(make, 15, 16, limits, VOCAB, longest=90, draw=random.Random(5))
    lives.run(300)
    lives.check_texts()
    assert {"finished", "aborted", "preempted", "RuntimeError"} <= lives.happened
