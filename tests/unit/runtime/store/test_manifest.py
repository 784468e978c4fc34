"""A manifest's digest: made once, and never carried over to a copy that answers otherwise."""

from services.runtime.store.manifest import Manifest


def test_a_copy_with_another_runner_has_a_digest_of_its_own() -> None:
    manifest = Manifest(name="net", version=1, tasks=("vision.classify",), files={"model.onnx": "ab"})
    first = manifest.digest
    forced = manifest.model_copy(update={"runner": "onnxruntime"})
    assert forced.digest != first == manifest.digest
    assert forced.digest == Manifest(**forced.model_dump()).digest
    assert manifest.model_copy(update={"description": "told otherwise"}).digest == first


def test_the_digest_is_no_part_of_what_is_stored_or_compared() -> None:
    one, two = (Manifest(name="net", version=1, tasks=("vision.classify",)) for _ in range(2))
    assert one.digest and one == two
    assert "digest" not in one.model_dump()
