"""Byte offsets against slicing the encoded text."""

from hypothesis import given
from hypothesis import strategies as st

from services.tokenization.offsets import byte_positions


@given(text=st.text(max_size=50))
def test_positions_cut_the_utf8_where_code_points_begin(text: str) -> None:
    positions = byte_positions(text)
    assert [positions[i] for i in range(len(text) + 1)] == [len(text[:i].encode()) for i in range(len(text) + 1)]
