"""The tiny net on each runner: what must hold of one must hold of the other."""

import pytest
import torch

from services.generation.models.causal_lm import CausalLM
from tests.engine.tiny import Int8, tiny_model


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Where others compute as well, threads that wait for each other cost minutes."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module", params=["fp32", "int8"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> CausalLM | Int8:
    torch.set_num_threads(1)
    net = tiny_model()
    return net if request.param == "fp32" else Int8.of(net, tmp_path_factory.mktemp("packed"))
