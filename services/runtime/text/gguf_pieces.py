"""The SentencePiece vocabulary of a GGUF file (`tokenizer.ggml.model` = `llama`) as BPE with byte fallback.

SentencePiece joins the two neighbours whose joint piece has the highest score; a list of merges in the order of
those scores does the same. Knows nothing of files.
"""

from collections.abc import Iterator, Mapping, Sequence

from tokenizers import Tokenizer, decoders, models, normalizers

SPACE = "▁"
NORMAL, UNKNOWN = 1, 2  # values of `tokenizer.ggml.token_type`


def from_pieces(
    pieces: Sequence[str], scores: Sequence[float], types: Sequence[int], *, prefix_space: bool
) -> Tokenizer:
    """Lists of one length, by id. `prefix_space`: a text begins as if a space stood before it."""
    vocab = {piece: index for index, piece in enumerate(pieces)}
    ordinary = [index for index, kind in enumerate(types) if kind == NORMAL]
    unknown = next((pieces[index] for index, kind in enumerate(types) if kind == UNKNOWN), None)
    ranked = sorted(ordinary, key=lambda index: -scores[index])
    merges = [pair for index in ranked for pair in _halves(pieces[index], vocab)]
    tokenizer = Tokenizer(
        models.BPE(vocab=vocab, merges=merges, unk_token=unknown, fuse_unk=True, byte_fallback=True)
    )
    first = [normalizers.Prepend(SPACE)] if prefix_space else []
    tokenizer.normalizer = normalizers.Sequence([*first, normalizers.Replace(" ", SPACE)])
    last = [decoders.Strip(" ", 1, 0)] if prefix_space else []
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *last]
    )
    return tokenizer


def _halves(piece: str, vocab: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """Every way to make the piece of two others."""
    cuts = ((piece[:at], piece[at:]) for at in range(1, len(piece)))
    return (pair for pair in cuts if pair[0] in vocab and pair[1] in vocab)
