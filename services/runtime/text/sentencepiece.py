"""A SentencePiece model behind the Tokenizer protocol. Knows no proto and no neural model."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import sentencepiece as library
from sentencepiece.sentencepiece_model_pb2 import ModelProto, TrainerSpec  # type: ignore[attr-defined]

from services.runtime.store.manifest import TokenizerSpec
from services.runtime.text import cuts, pieces
from services.runtime.text.cuts import Cut
from services.runtime.text.encoded import Encoded, Input, concatenate
from services.runtime.text.folds import Fold, Piece, PieceFold
from services.runtime.text.special import SpecialToken, SpecialTokens, named_id

NOTHING = Piece()
MANY = 16  # texts from which on the library's own threads pay


class SentencePieceTokenizer:
    """Ids, pieces and text as the sentencepiece library gives them, with three additions.

    Special tokens are BOS before each text (as Llama and Mistral want it) when the model has one; control
    pieces spelt in a text become control ids under `parse_special` (the library alone never does that);
    `decode(…, skip_special_tokens=False)` spells control pieces out (the library drops them).
    """

    kind = "sentencepiece"

    def __init__(self, data: bytes, spec: TokenizerSpec, digest: str) -> None:
        """`data` is the serialised ModelProto (tokenizer.model)."""
        self._library = library.SentencePieceProcessor(model_proto=data)
        model = ModelProto.FromString(data)
        self._opening = _opening(model)
        self._unknown = Piece(model.trainer_spec.unk_surface)
        self.digest = digest
        self.vocab_size: int = self._library.vocab_size()
        self._special = SpecialTokens(self._control_pieces())
        self.special_ids = frozenset(self._special.by_text.values())
        self.cuts = _cuts(model, self._special.by_text)
        self.bos_id = named_id(self.token_id, "bos", spec.bos_token or self._piece(self._library.bos_id()))
        self.eos_id = named_id(self.token_id, "eos", spec.eos_token or self._piece(self._library.eos_id()))
        self.pad_id = named_id(self.token_id, "pad", spec.pad_token or self._piece(self._library.pad_id()))
        self.unk_id = named_id(self.token_id, "unk", spec.unk_token or self._piece(self._library.unk_id()))

    @property
    def special_tokens(self) -> Mapping[str, int]:
        return self._special.by_text

    def encode(
        self,
        text: str,
        pair: str | None = None,
        *,
        add_special_tokens: bool = True,
        parse_special: bool = True,
    ) -> Encoded:
        texts = [text] if pair is None else [text, pair]
        parts = [self._encode_one(each, add_special_tokens, parse_special) for each in texts]
        return parts[0] if pair is None else concatenate([parts[0], parts[1].as_second()])

    def encode_batch(
        self, inputs: Sequence[Input], *, add_special_tokens: bool = True, parse_special: bool = True
    ) -> list[Encoded]:
        pairs = [(each, None) if isinstance(each, str) else each for each in inputs]
        return [
            self.encode(text, pair, add_special_tokens=add_special_tokens, parse_special=parse_special)
            for text, pair in pairs
        ]

    def encode_ids(self, text: str, *, add_special_tokens: bool = True, parse_special: bool = True) -> list[int]:
        return self.encode_ids_batch([text], add_special_tokens=add_special_tokens, parse_special=parse_special)[0]

    def encode_ids_batch(
        self, inputs: Sequence[Input], *, add_special_tokens: bool = True, parse_special: bool = True
    ) -> list[list[int]]:
        bos = [self.bos_id] if add_special_tokens and self.bos_id is not None else []
        rows: list[list[str | int]] = []
        for each in inputs:
            texts = (each,) if isinstance(each, str) else each
            split = [self.split_special(text) if parse_special else [text] for text in texts]
            rows.append([part for parts in split for part in [*bos, *parts]])
        ids = iter(self._ids([part for row in rows for part in row if isinstance(part, str)]))
        answers = ([[part] if isinstance(part, int) else next(ids) for part in row] for row in rows)
        return [list(itertools.chain.from_iterable(answer)) for answer in answers]

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """The library's decode, spelt as a fold so that whole and streamed text cannot differ."""
        fold = self.fold(skip_special_tokens)
        return "".join([fold.push(token_id) for token_id in ids]) + fold.flush()

    def fold(self, skip_special_tokens: bool = True) -> Fold:
        """A skipped control piece still ends a run of bytes, as in the library."""
        return PieceFold(self._text_piece if skip_special_tokens else self._surface, self._opening)

    def split_special(self, text: str) -> list[str | int]:
        return self._special.split(text)

    def document(self) -> Mapping[str, Any]:
        return {}

    def token(self, token_id: int) -> str:
        return self._piece(token_id) or ""

    def token_bytes(self, token_id: int) -> bytes:
        piece = self._surface(token_id)
        return piece.text.encode() if piece.byte is None else bytes([piece.byte])

    def token_id(self, token: str) -> int | None:
        found: int = self._library.piece_to_id(token)
        return found if self._piece(found) == token else None

    def _ids(self, texts: list[str]) -> list[list[int]]:
        if len(texts) < MANY:
            return [self._library.encode(text) for text in texts]
        return self._library.encode(texts)  # type: ignore[no-any-return]

    def _piece(self, token_id: int) -> str | None:
        return str(self._library.id_to_piece(token_id)) if 0 <= token_id < self.vocab_size else None

    def _surface(self, token_id: int) -> Piece:
        piece = self.token(token_id)
        if not piece or self._library.is_control(token_id):
            return Piece(piece)
        if self._library.is_byte(token_id):
            return Piece(byte=int(piece[3:5], 16))
        if self._library.is_unknown(token_id):
            return self._unknown
        return Piece(piece.replace(pieces.SPACE, " "), droppable=True)

    def _text_piece(self, token_id: int) -> Piece:
        return NOTHING if token_id in self.special_ids else self._surface(token_id)

    def _control_pieces(self) -> list[SpecialToken]:
        controls = [i for i in range(self.vocab_size) if self._library.is_control(i)]
        return [SpecialToken(self.token(i), i) for i in controls]

    def _encode_one(self, text: str, add_special_tokens: bool, parse_special: bool) -> Encoded:
        parts = self.split_special(text) if parse_special else [text]
        lengths = [len(self.token(part)) if isinstance(part, int) else len(part) for part in parts]
        starts = list(itertools.accumulate(lengths, initial=0))[:-1]
        encoded = pieces.joined([self._part(part) for part in parts], starts)
        if not add_special_tokens or self.bos_id is None:
            return encoded
        return concatenate([pieces.added(self.token(self.bos_id), self.bos_id), encoded])

    def _part(self, part: str | int) -> Encoded:
        if isinstance(part, int):
            return pieces.control(self.token(part), part, len(self.token(part)))
        mapping = self._library.encode(part, return_type="offset_mapping", return_bytes=False)
        return pieces.plain(mapping, self._library.unk_id(), self.token(self._library.unk_id()))


def _opening(model: ModelProto) -> Literal["once", "empty", "never"]:
    """What decoding does with the space that encoding put in front (library: DecodeSentencePiece)."""
    if model.normalizer_spec.remove_extra_whitespaces:
        return "empty"
    return "once" if model.normalizer_spec.add_dummy_prefix else "never"


def _cuts(model: ModelProto, controls: Iterable[str]) -> tuple[Cut, ...]:
    """BPE without user-defined pieces, over a text that only has its spaces spelt and one put in front."""
    rule, training = model.normalizer_spec, model.trainer_spec
    kept = not rule.precompiled_charsmap and not rule.remove_extra_whitespaces
    spaced = rule.escape_whitespaces and rule.add_dummy_prefix and not training.treat_whitespace_as_suffix
    own = any(piece.type == ModelProto.SentencePiece.USER_DEFINED for piece in model.pieces)
    if training.model_type != TrainerSpec.BPE or own or not (kept and spaced):
        return ()
    return cuts.of_pieces([piece.piece for piece in model.pieces], controls)
