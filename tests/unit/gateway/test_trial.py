"""Which share of the requests tries a canary, and that each always decides the same."""

from hashlib import blake2b

import pytest

from gateway.trial import tries

CONTENTS = [blake2b(str(number).encode(), digest_size=32).digest() for number in range(4000)]


@pytest.mark.parametrize("percent", [0, 0.5, 5, 50, 99.5, 100])
def test_the_share_is_what_was_asked_for(percent: float):
    found = sum(tries(content, percent) for content in CONTENTS) / len(CONTENTS) * 100
    assert abs(found - percent) <= 3 * (percent * (100 - percent) / len(CONTENTS)) ** 0.5


def test_a_larger_share_keeps_those_who_tried_before():
    assert all(tries(content, 60) for content in CONTENTS if tries(content, 20))
