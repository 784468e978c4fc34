"""Views of a photograph: it itself first, then others of it; the seed decides them all."""

from pathlib import Path

import numpy as np

from services.runtime.pictures.preprocess import ImagePreprocessing
from services.runtime.pictures.views import views_of
from tests.unit.vision.pictures import encode, quarters

STEPS = ImagePreprocessing(size=16, crop=16, mean=(0.0,) * 3, std=(1.0,) * 3)


def test_each_photograph_comes_whole_and_then_otherwise(tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("b.png", "a.png")}
    files["a.png"].write_bytes(encode(quarters(80, 40), "PNG"))
    files["b.png"].write_bytes(encode(quarters(40, 80), "PNG"))
    views = views_of(files, STEPS, 5, seed=3)
    assert views.shape == (10, 3, 16, 16) and views.dtype == np.float32
    for first, size in ((0, (80, 40)), (5, (40, 80))):
        np.testing.assert_array_equal(views[first], STEPS.apply(quarters(*size)))
    assert len({view.tobytes() for view in views}) == 10
    np.testing.assert_array_equal(views, views_of(files, STEPS, 5, seed=3))
    assert not np.array_equal(views, views_of(files, STEPS, 5, seed=4))
