"""Byte-level BPE learnt from a text. Knows no model.

Sennrich et al. 2016 (arXiv:1508.07909); on bytes, Radford et al. 2019 (GPT-2).
"""

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from services.runtime.store.manifest import TokenizerSpec

END = "<|endoftext|>"


def learn(texts: Iterable[str], vocab_size: int) -> bytes:
    """A tokenizer.json of at most `vocab_size` tokens: END, the 256 bytes, and the most frequent merges.

    The same texts give the same bytes. Every text can be encoded, and decodes to itself.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer.to_str().encode()


def spec(context: int) -> TokenizerSpec:
    """How the manifest names what `learn` makes, for a model that sees `context` tokens."""
    return TokenizerSpec(eos_token=END, max_length_tokens=context)
