"""Texts made to break a tokenizer's fast path: every kind of border next to every other."""

from hypothesis import strategies as st

WORDS = ["the", "Fox", "don't", "I'LL", "x2y", "2024", "3.14", "foo_bar(baz);", "naïve", "ﬁ", "ß", "İ", "ǅ"]
CONTRACTIONS = ["'s", "'t", "'re", "'", "''", "’s", "'S"]
MARKS = [".", "!?", "...", "—", "“", "”", "_", "$", "<", "|>", "[", "]", "`", "\u1fef", "\u037e", "§", "▁", "▁▁"]
SPACES = [
    " ",
    "  ",
    "   ",
    "\n",
    "\r\n",
    "\t",
    "\n\n",
    " \n",
    "\n ",
    "\u3000",
    "\xa0",
    "\u2028",
    "\u2003",
    "\u180e",
]
CONTROLS = ["\0", "\x0b", "\x0c", "\x1c", "\x1f", "\x7f", "\x85", "\u200b", "\u200d", "\ufeff", "\u2060", "\ufffd"]
ACCENTS = ["e\u0301", "\u0301", "\u0338", "\u20dd", "\u302e", "\u0903", "a\u0323\u0307", "가", "\u1112\u1161"]
NUMBERS = ["½", "²", "٣", "Ⅷ", "七", "1\u0301", "①"]
SCRIPTS = [
    "中文",
    "日本語",
    "カ\u3099",
    "🙂",
    "👩\u200d👧",
    "ไทย",
    "नमस्ते",
    "العربية",
    "𝔘",
    "\U0010ffff",
    "\ud7ff",
    "\ue000",
]
SPECIALS = ["<|im_end|>", "<|endoftext|>", "[SEP]", "[UNK]", "[sep]", "</s>", "<s>", "<unk>", "<0x41>", "##s"]
LONG = ["x" * 200, "ab" * 70, "9" * 120, "-" * 130, " " * 90, "é" * 110]

PIECES = [
    *WORDS, *CONTRACTIONS, *MARKS, *SPACES, *CONTROLS, *ACCENTS, *NUMBERS, *SCRIPTS, *SPECIALS, *LONG
]  # fmt: skip

fragments = st.one_of(st.sampled_from(PIECES), st.sampled_from(SPACES), st.text(max_size=4))
hostile_texts = st.lists(fragments, max_size=12).map("".join)
