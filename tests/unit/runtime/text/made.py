"""Small honest tokenizers of every family, trained here in a moment. Real libraries, real algorithms."""

import io
import json
from functools import cache

import sentencepiece
from tokenizers import Tokenizer as Library
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from services.runtime.store.manifest import Manifest, TokenizerSpec
from services.runtime.text import huggingface
from services.runtime.text import sentencepiece as pieces
from services.runtime.text.tokenizer import Tokenizer, tokenizer_digest

CORPUS = [
    "the quick brown fox jumps over the lazy dog",
    "don't stop: I'm here, it's 2024. Do not worry!",
    "héllo wörld, 日本語 テキスト, 🙂🧿",
    "a man is eating food , a man is eating a piece of bread .",
    "def f(x):\n    return x + 1\n\n",
]
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@cache
def byte_level() -> Library:
    """GPT-2 style BPE with ChatML's control tokens."""
    library = Library(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    library.train_from_iterator(CORPUS, trainer)
    return library


@cache
def word_piece() -> Library:
    """BERT: lower case, ## continuations, [CLS] A [SEP] B [SEP], cleanup on decode."""
    library = Library(models.WordPiece(unk_token="[UNK]"))
    library.normalizer = normalizers.BertNormalizer()
    library.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    library.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    trainer = trainers.WordPieceTrainer(vocab_size=120, special_tokens=special, show_progress=False)
    library.train_from_iterator(CORPUS, trainer)
    library.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    library.enable_truncation(8)
    library.enable_padding(pad_id=0, pad_token="[PAD]", length=8)
    return library


@cache
def llama_style() -> Library:
    """BPE with byte fallback: replace, fallback, fuse, strip on decode."""
    alphabet = [f"<0x{byte:02X}>" for byte in range(256)]
    library = Library(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    library.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    library.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=["<unk>", "<s>", "</s>", *alphabet], show_progress=False
    )
    library.train_from_iterator([line.replace(" ", "▁") for line in CORPUS[:2]], trainer)
    return without_special(library, alphabet)


@cache
def metaspace() -> Library:
    """T5 style: unigram pieces, the space as a character, one dropped in front."""
    library = Library(models.Unigram())
    library.pre_tokenizer = pre_tokenizers.Metaspace()
    library.decoder = decoders.Metaspace()
    special = ["<unk>", "</s>"]
    trainer = trainers.UnigramTrainer(
        vocab_size=90, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    library.train_from_iterator(CORPUS, trainer)
    return library


@cache
def plain_words() -> Library:
    """Whole words and no decoder: the library joins them with spaces."""
    library = Library(models.WordLevel(unk_token="[UNK]"))
    library.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.WordLevelTrainer(special_tokens=["[UNK]", "[PAD]"], show_progress=False)
    library.train_from_iterator(CORPUS, trainer)
    return library


def without_special(library: Library, tokens: list[str]) -> Library:
    """Byte tokens are plain vocabulary in real files, not added tokens."""
    document = json.loads(library.to_str())
    document["added_tokens"] = [t for t in document["added_tokens"] if t["content"] not in tokens]
    return Library.from_str(json.dumps(document))


@cache
def piece_model(kind: str = "bpe") -> bytes:
    """A SentencePiece model: `bpe` as Llama's (byte fallback), `unigram` with the trainer's defaults."""
    out = io.BytesIO()
    llama = {"byte_fallback": True, "remove_extra_whitespaces": False, "normalization_rule_name": "identity"}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS * 4),
        model_writer=out,
        model_type=kind,
        vocab_size=360 if kind == "bpe" else 80,
        minloglevel=9,
        hard_vocab_limit=False,
        **(llama if kind == "bpe" else {}),
    )
    return out.getvalue()


def from_library(library: Library, **spec: str) -> Tokenizer:
    """The library's tokenizer behind our protocol."""
    data = library.to_str().encode()
    chosen = TokenizerSpec(**spec)
    return huggingface.HuggingFaceTokenizer(data, chosen, tokenizer_digest(data, chosen))


def from_pieces(kind: str = "bpe") -> Tokenizer:
    """A SentencePiece model behind our protocol."""
    data = piece_model(kind)
    spec = TokenizerSpec(kind="sentencepiece", file="tokenizer.model")
    return pieces.SentencePieceTokenizer(data, spec, tokenizer_digest(data, spec))


@cache
def all_families() -> dict[str, Tokenizer]:
    """One tokenizer of each family."""
    return {
        "byte_level": from_library(byte_level(), eos_token="<|im_end|>", pad_token="<|im_end|>"),
        "word_piece": from_library(word_piece()),
        "metaspace": from_library(metaspace()),
        "plain_words": from_library(plain_words(), pad_token="[PAD]"),
        "llama_style": from_library(llama_style(), bos_token="<s>"),
        "pieces_bpe": from_pieces("bpe"),
        "pieces_unigram": from_pieces("unigram"),
    }


def manifest(spec: TokenizerSpec | None) -> Manifest:
    """A manifest around a tokenizer."""
    return Manifest(name="made", version=1, tasks=("tokenization.tokenize",), tokenizer=spec)
