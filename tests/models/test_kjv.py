"""The packed Bible as Debian ships it: every verse is there, and held-out chapters are not trained on."""

import pytest

from services.runtime.store.sources.fetcher import Fetcher
from training.data import kjv

pytestmark = pytest.mark.models


def test_the_whole_text_comes_out(fetcher: Fetcher) -> None:
    corpus = kjv.load(fetcher)
    parts = (corpus.train, corpus.validation, corpus.test)
    assert [len(part) for part in parts] == [1071, 59, 59]
    verses = [{line for document in part for line in document.text.split("\n")} for part in parts]
    assert sum(document.text.count("\n") + 1 for part in parts for document in part) == 31_102 - 121
    assert len(corpus.dropped["lines equal to a held-out one"]) == 121
    assert not verses[0] & (verses[1] | verses[2])
    assert "Jesus wept." in set.union(*verses)
    groups = [document.group for part in parts for document in part]
    assert (groups.count("old"), groups.count("new")) == (929, 260)
