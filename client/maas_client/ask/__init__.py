"""Every unary call as a value: `client.tokenize(…)` sends `ask.tokenize(…)`; fan-outs take several."""

from maas_client.ask.gateway import Step, fan_out, pipelines, run_pipeline, run_steps, status
from maas_client.ask.generation import generate, score
from maas_client.ask.models import model, models
from maas_client.ask.sequence import (
    classify_series,
    classify_texts,
    embed_series,
    embed_texts,
    explain_series,
    explain_text,
    forecast,
    transduce,
)
from maas_client.ask.tokenization import count_tokens, detokenize, render_chat, tokenize
from maas_client.ask.vision import classify_images, embed_images, explain_image

__all__ = [
    "Step",
    "classify_images",
    "classify_series",
    "classify_texts",
    "count_tokens",
    "detokenize",
    "embed_images",
    "embed_series",
    "embed_texts",
    "explain_image",
    "explain_series",
    "explain_text",
    "fan_out",
    "forecast",
    "generate",
    "model",
    "models",
    "pipelines",
    "render_chat",
    "run_pipeline",
    "run_steps",
    "score",
    "status",
    "tokenize",
    "transduce",
]
