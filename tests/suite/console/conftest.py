"""The console before the live suite, and a tab of a real Chromium that hears a sentence."""

import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.needs import needs
from tests.speech import RATE, say
from tests.suite.browser import Page, chromium
from tests.suite.conftest import Suite
from tests.suite.console.process import Console, serving


@pytest.fixture(scope="package")
def console(suite: Suite) -> Iterator[Console]:
    with serving(suite.home) as found:
        yield found


@pytest.fixture(scope="package")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second of silence, a sentence, and silence again."""
    silence = np.zeros(RATE, np.float32)
    samples = np.concatenate([silence, say("The quick brown fox jumps over the lazy dog."), silence])
    path = tmp_path_factory.mktemp("sound") / "fox.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((samples * 32000).astype("<i2").tobytes())
    return path


@pytest.fixture(scope="package")
def tab(console: Console, sound: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A tab whose microphone hears the sound file."""
    needs("chromium")
    heard = ("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream")
    with chromium(
        tmp_path_factory.mktemp("chromium"), *heard, f"--use-file-for-fake-audio-capture={sound}"
    ) as browser:
        yield browser.page()


@pytest.fixture
def page(tab: Page, console: Console) -> Iterator[Page]:
    """The tab at its start; nothing may have gone wrong in it that the test did not take out of `complaints`."""
    tab.size(1200, 800)
    tab.dark(False)
    tab.complaints.clear()
    yield tab
    assert tab.complaints == []
