"""The real voice detector explained: complete, and pointing at the voice."""

import numpy as np
import pytest
import torch

from services.runtime.device import DeviceThread
from services.runtime.runners.open import open_runner
from services.runtime.store.store import ModelStore
from services.sequence.explain import Explainer, Question, Steps
from services.sequence.models import registry
from services.sequence.models.net import Net
from services.sequence.settings import SequenceSettings
from tests.models.signals import mixed

pytestmark = pytest.mark.models

FRAMES = mixed().reshape(-1, 512)


async def test_the_voice_makes_it_speech(model_store: ModelStore) -> None:
    torch.set_num_threads(1)
    settings, device = SequenceSettings(threads=1), DeviceThread("explain")
    manifest = model_store.resolve("silero-vad")
    directory = model_store.directory(manifest)
    net = Net(open_runner(manifest, directory, registry.load, settings.runners), manifest)
    part = Steps(np.concatenate([np.zeros_like(FRAMES[:4]), FRAMES[18:30]]), "series")
    outcome = await Explainer(net, directory, device, settings).explain(part, Question(1, 50), None)
    device.close()
    found = outcome.value
    assert found.score > 0.5 and found.attributions[:4].tolist() == [0] * 4
    assert found.attributions[4:].sum() > 0.4
    assert found.delta < 0.05
