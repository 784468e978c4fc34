"""The fields of a request that vLLM honours as the contract means them. Knows no vLLM.

Left out: typical_p, which it does not have; bad_words, of which it forbids one way of cutting into tokens only;
constraints, for which it wants a tokenizer of its own, whose one end token it allows; adapters, which it reads
from folders of its own.
"""

from services.generation.capabilities import EVERYTHING

SAMPLING = (
    *("temperature", "top_k", "top_p", "min_p", "logit_bias", "allowed_token_ids", "seed", "n", "best_of"),
    *("repetition_penalty", "frequency_penalty", "presence_penalty"),
)
ENVELOPE = (
    *("model", "version", "text", "token_ids", "chat", "truncate_prompt_tokens"),
    *("priority", "cache_salt"),
)
HONOURED = frozenset(
    {
        *ENVELOPE,
        *(f"sampling.{name}" for name in SAMPLING),
        *(name for name in EVERYTHING if name.startswith(("stopping.", "output."))),
    }
)
