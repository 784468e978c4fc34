"""What is asked of vision, and how its answers are read."""

from collections.abc import Sequence
from typing import Any, Literal, Unpack

from maas.vision.v1 import vision_pb2
from maas.vision.v1 import vision_service_pb2 as pb
from maas_client import arrays
from maas_client.ask.words import classifications, embeddings, label
from maas_client.call import Ask, CallInfo, Which, how, which
from maas_client.pictures import Picture, image, images
from maas_client.results import Batch, Classification, Embeddings, Explanation

SERVICE = "maas.vision.v1.VisionService"
METHODS = {
    "integrated_gradients": vision_pb2.EXPLAIN_METHOD_INTEGRATED_GRADIENTS,
    "grad_cam": vision_pb2.EXPLAIN_METHOD_GRAD_CAM,
}


def classify_images(
    pictures: Picture | Sequence[Picture], *, top_k: int | None = None, **options: Unpack[Which]
) -> Ask[Batch[Classification]]:
    """The `top_k` (5 unless set) labels of each picture: a path, bytes, an array or an image of PIL."""
    request = pb.ClassifyRequest(**which(options), images=images(pictures), top_k=top_k)
    return Ask(f"{SERVICE}/Classify", request, pb.ClassifyResponse, classifications, how(options))


def embed_images(
    pictures: Picture | Sequence[Picture], *, normalize: bool = False, **options: Unpack[Which]
) -> Ask[Embeddings]:
    """float32 [pictures, dimensions]; `normalize` makes each of length 1."""
    request = pb.EmbedRequest(**which(options), images=images(pictures), normalize=normalize)
    return Ask(f"{SERVICE}/Embed", request, pb.EmbedResponse, embeddings, how(options))


def explain_image(
    picture: Picture,
    *,
    target_index: int | None = None,
    method: Literal["integrated_gradients", "grad_cam"] = "integrated_gradients",
    steps: int | None = None,
    overlay: bool = False,
    **options: Unpack[Which],
) -> Ask[Explanation]:
    """Which pixels decided for the best class, or for `target_index`."""
    request = pb.ExplainRequest(
        **which(options),
        image=image(picture),
        target_index=target_index,
        method=METHODS[method],
        steps=steps,
        overlay=overlay,
    )
    return Ask(f"{SERVICE}/Explain", request, pb.ExplainResponse, explanation, how(options))


def explanation(reply: Any, info: CallInfo) -> Explanation:
    return Explanation(
        label(reply.target),
        arrays.floats(reply.attributions),
        reply.convergence_delta,
        info,
        overlay_png=reply.overlay_png,
    )
