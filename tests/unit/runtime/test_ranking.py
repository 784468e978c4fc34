"""Written labels are those that the library would have written, in the order of a stable sort."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maas.sequence.v1 import sequence_service_pb2
from maas.vision.v1 import vision_service_pb2
from services.runtime.ranking import FEW, Ranking, best

Reply = vision_service_pb2.ClassifyResponse | sequence_service_pb2.ClassifyResponse


@given(st.data(), st.integers(1, 4), st.sampled_from([1, 2, 5, FEW, FEW + 1, 90]))
def test_best_is_the_head_of_a_stable_sort(data: st.DataObject, rows: int, classes: int) -> None:
    count = data.draw(st.integers(1, classes))
    values = st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.5]), min_size=classes, max_size=classes)
    scores = [data.draw(values) for _ in range(rows)]
    right = [sorted(range(classes), key=lambda index: (-row[index], index))[:count] for row in scores]
    assert best(np.array(scores, np.float32), count).tolist() == right


@pytest.mark.parametrize("reply", [vision_service_pb2.ClassifyResponse, sequence_service_pb2.ClassifyResponse])
@pytest.mark.parametrize("count", [1, 3, 200])
def test_results_read_as_the_labels_that_were_written(reply: type[Reply], count: int) -> None:
    names = [f"{index}:" + "ä" * (index % 90) for index in range(200)]
    scores = np.random.default_rng(0).random((3, 200), np.float32)
    got = reply()
    got.MergeFromString(Ranking(names).results(scores, count))
    right = best(scores, count).tolist()
    told = [[(label.index, label.name, label.score) for label in result.labels] for result in got.results]
    assert told == [
        [(index, names[index], row[index].item()) for index in order]
        for row, order in zip(scores, right, strict=True)
    ]
