"""Texts, ids, words and series → rows of numbers ready to be batched. Knows no proto, no torch, no queue."""

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.runtime.errors import InvalidInput
from services.runtime.store.manifest import Manifest
from services.runtime.text.tokenizer import Tokenizer
from services.runtime.text.truncation import Truncation, truncate

Ids = NDArray[np.int64]
Floats = NDArray[np.float32]

# Of one call to a net that reads words: what a few seconds compute.
MOST_WORDS = 8192
MOST_LETTERS = 16 * MOST_WORDS
MAX_AMPLITUDE = 2.0  # resampling overshoots 1 a little; 16-bit integers as floats are far beyond


def max_tokens(manifest: Manifest) -> int:
    """Longest row of ids that the net can read, or was trained to read of a longer text."""
    most = manifest.limits.get("max_tokens", manifest.config.get("max_position_embeddings", 512))
    return int(manifest.preprocessing.get("cut_tokens", most))


def cuts(manifest: Manifest) -> bool:
    """Whether the model reads the beginning of a long text, as it did in training, instead of refusing it."""
    return "cut_tokens" in manifest.preprocessing


def texts_to_ids(tokenizer: Tokenizer, texts: Sequence[str], limit: int, cut: bool) -> list[Ids]:
    """One row of ids a text, special tokens included; blocking, so call it on a pool.

    Raises InvalidInput naming `texts.values[i]` for a text of more than `limit` tokens unless `cut`.
    """
    return [text_to_ids(tokenizer, text, limit, cut, f"texts.values[{i}]") for i, text in enumerate(texts)]


def text_to_ids(tokenizer: Tokenizer, text: str, limit: int, cut: bool, field: str) -> Ids:
    """The row of one text; InvalidInput names it by `field`."""
    ids = tokenizer.encode_ids(text)
    if cut and len(ids) > limit:
        ids = list(truncate(tokenizer.encode(text), Truncation(limit)).ids)
    return _fitting(np.array(ids, np.int64), limit, field)


def check_ids(ids: Ids, vocab_size: int, limit: int, cut: bool, field: str) -> Ids:
    """`ids` if the net can read them. InvalidInput names the first id outside of the vocabulary."""
    outside = np.flatnonzero(ids >= vocab_size)
    if outside.size:
        at = int(outside[0])
        raise InvalidInput(f"{field}.values[{at}]", f"id {ids[at]} is outside of the vocabulary of {vocab_size}")
    return _fitting(ids[:limit] if cut else ids, limit, field)


def _fitting(ids: Ids, limit: int, field: str) -> Ids:
    if not len(ids):
        raise InvalidInput(field, "gives no tokens; at least one is needed")
    if len(ids) > limit:
        raise InvalidInput(field, f"is {len(ids)} tokens; this model reads {limit}: shorten it or set truncate")
    return ids


def texts_to_words(texts: Sequence[str], config: Mapping[str, Any], limit: int, field: str) -> list[list[Ids]]:
    """Each text's words; blocking, so call it on a pool. InvalidInput names `field[i]`, also of too much text."""
    words = letters = 0
    for index, text in enumerate(texts):
        words, letters = words + len(text.split(maxsplit=MOST_WORDS)), letters + len(text)
        if words > MOST_WORDS or letters > MOST_LETTERS:
            most = f"at most {MOST_WORDS} words and {MOST_LETTERS} characters are read in a call"
            raise InvalidInput(f"{field}[{index}]", f"{most}, and with this text it has more; send fewer")
    return [text_to_words(text, config, limit, f"{field}[{index}]") for index, text in enumerate(texts)]


def text_to_words(text: str, config: Mapping[str, Any], limit: int, field: str) -> list[Ids]:
    """Grapheme ids of each word of `text`, end-of-word id included.

    Case and accents are dropped and words are split at blanks; InvalidInput names any other character that
    has no grapheme, and words of more than `limit` letters.
    """
    table = {letter: index for index, letter in enumerate(config["graphemes"])}
    words = _plain(text).split()
    if not words:
        raise InvalidInput(field, "holds no word; at least one letter is needed")
    return [_word(word, table, str(config["end_of_word"]), limit, field) for word in words]


def _word(word: str, table: Mapping[str, int], end: str, limit: int, field: str) -> Ids:
    unknown = next((letter for letter in word if letter not in table), None)
    if unknown is not None:
        raise InvalidInput(field, f"{unknown!r} in {word[:40]!r} is not a letter this model reads; spell it out")
    if len(word) > limit:
        raise InvalidInput(field, f"word {word[:40]!r}… has {len(word)} letters; at most {limit} are read")
    return np.array([*(table[letter] for letter in word), table[end]], np.int64)


def _plain(text: str) -> str:
    """Lower case without combining marks: `Café` → `cafe`."""
    marks = unicodedata.normalize("NFD", text)
    return "".join(c for c in marks if unicodedata.category(c) != "Mn").lower()


def symbols(ids: Ids, config: Mapping[str, Any]) -> list[str]:
    """Output ids up to the one that ends the word → symbols."""
    ended = np.flatnonzero(ids == int(config["stop_id"]))
    return [config["phonemes"][index] for index in ids[: ended[0] if ended.size else None].tolist()]


def check_rate(sample_rate_hz: int, manifest: Manifest, field: str) -> None:
    """InvalidInput when audio comes at another rate than the model's; 0 states none."""
    wanted = int(manifest.preprocessing.get("sample_rate_hz", 0))
    if sample_rate_hz and wanted and sample_rate_hz != wanted:
        raise InvalidInput(field, f"is {sample_rate_hz}; this model hears {wanted} Hz: resample the audio")


def check_amplitude(samples: Floats, field: str) -> Floats:
    """`samples` [N] if they lie in [-1, 1] or nearly; InvalidInput names the first that does not."""
    loud = np.flatnonzero(np.abs(samples) > MAX_AMPLITUDE)
    if loud.size:
        raise InvalidInput(
            f"{field}.values[{loud[0]}]",
            f"is {samples[loud[0]]:g}; samples lie in [-1, 1]: divide 16-bit samples by 32768",
        )
    return samples


def to_frames(values: Floats, width: int) -> Floats:
    """[N] values → [⌈N / width⌉, width]; the last frame is filled up with zeros."""
    count = -(-len(values) // width)
    return np.pad(values, (0, count * width - len(values))).reshape(count, width)


def is_audio(manifest: Manifest) -> bool:
    """Whether series are one channel of sound, cut into frames here."""
    return manifest.preprocessing.get("kind") == "audio"


def is_series(manifest: Manifest) -> bool:
    """Whether the net reads whole series of values in the unit they were measured in."""
    return manifest.preprocessing.get("kind") == "series"


def check_steps(values: Floats, manifest: Manifest, field: str) -> Floats:
    """`values` [T, F] if the net reads F values a step and no more than its limit of values."""
    width, most = manifest.inputs[0].shape[2], manifest.limits.get("max_values")
    if values.shape[1] != width:
        raise InvalidInput(f"{field}.features", f"is {values.shape[1]}; this model reads {width} values a step")
    if most is not None and values.size > most:
        raise InvalidInput(field, f"has {values.size} values; at most {most} are read: split it")
    return values


def pad(rows: Sequence[Ids], pad_id: int) -> tuple[Ids, Ids, Ids]:
    """Rows → right-padded [B, T], mask [B, T] of 0 and 1, lengths [B]."""
    lengths = np.array([len(row) for row in rows], np.int64)
    mask = np.arange(lengths.max()) < lengths[:, None]
    padded = np.full(mask.shape, pad_id, np.int64)
    padded[mask] = np.concatenate(rows)
    return padded, mask.astype(np.int64), lengths
