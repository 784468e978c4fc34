"""Long sequences are decoded in parts, and somebody is asked for between them."""

import pytest

from maas.tokenization.v1 import tokenization_service_pb2 as service_pb
from services.tokenization import answers
from tests.unit.runtime.text.made import all_families


@pytest.mark.parametrize("family", sorted(all_families()))
@pytest.mark.parametrize("skip", [True, False])
def test_parts_join_to_the_whole_text(monkeypatch: pytest.MonkeyPatch, family: str, skip: bool) -> None:
    monkeypatch.setattr(answers, "DECODED_AT_ONCE", 3)
    words, asked = all_families()[family], []
    ids = words.encode_ids("héllo 日本語 🙂 the quick brown fox")
    request = service_pb.DetokenizeRequest(skip_special_tokens=skip)
    request.sequences.add(values=ids)
    reply = answers.texts(words, request, lambda: asked.append(1))
    assert list(reply.texts) == [words.decode(ids, skip)]
    assert len(asked) == 1 + -(-len(ids) // 3)
