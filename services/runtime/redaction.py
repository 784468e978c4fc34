"""Personal data and secrets out of text: text → text. Knows no log, no request and no setting's name.

Every pattern takes bounded steps at a place, so the work grows with the text alone. Numbers count only when their
form or check digits say what they are: ids, digests, times and measures stay.
"""

import ipaddress
import re
from collections.abc import Callable
from importlib import import_module

Redactor = Callable[[str], str]
Rule = tuple[re.Pattern[str], Callable[[re.Match[str]], str]]

# A replacement can lay bare the edge of a neighbour; what is not at rest by then goes as a whole.
ROUNDS = 4
WITHHELD = "[REDACTED]"
LONGEST = 256

# Letters that an IBAN of each country has in all (SWIFT, IBAN Registry).
_IBAN_LENGTHS = dict(
    re.findall(
        r"([A-Z]{2})(\d\d)",
        "AD24AE23AL28AT20AZ28BA20BE16BG22BH22BI27BR29BY28CH21CR22CY28CZ24DE22DJ27DK18DO28EE20EG29ES24FI18FK18FO18"
        "FR27GB22GE22GI23GL18GR27GT28HN28HR21HU28IE22IL23IQ23IS26IT27JO30KW30KZ20LB28LC32LI21LT20LU20LV21LY25MC27"
        "MD24ME22MK19MN20MR27MT31MU30NI28NL18NO15OM23PK24PL28PS29PT25QA29RO24RS22RU33SA24SC31SD18SE24SI19SK24SM27"
        "SO23ST25SV28TL23TN24TR26UA29VA22VG24XK20YE30",
    )
)
# The letter of an escaped line break or tab, as in quoted text, belongs to no word.
_ESCAPE = r"(?<=\\[nrt])"
_WORD = rf"(?:\b|{_ESCAPE})"
# Neither within a word nor the decimals of a number.
_BEGIN, _END = rf"(?:(?<!\w)(?<!\d\.)|{_ESCAPE})", r"(?!\w)(?!\.\d)"
_GAP = "[ .\u00a0\u2010-\u2015-]"


def redact(text: str) -> str:
    """`text` with `[EMAIL]`, `[PHONE]`, `[CARD]`, `[IBAN]`, `[IP]`, `[ID]` and `[SECRET]` in place of such.

    Once redacted, a text stays as it is: redact(redact(x)) == redact(x).
    """
    for _ in range(ROUNDS):
        before, text = text, _once(text)
        if text == before:
            return text
    return WITHHELD


def clipped(redactor: Redactor, text: str, most: int) -> str:
    """At most `most` characters of the redacted text, at a cost that the length of a huge `text` does not change.

    The cut may halve an address that then looks like none, so as many characters as those have go as well.
    """
    if len(text) <= most:
        return redactor(text)
    return redactor(text[:most])[:-LONGEST].rstrip() + "…"


def _once(text: str) -> str:
    for pattern, replace in _WORDS:
        text = pattern.sub(replace, text)
    if _DIGITS.search(text) is None:
        return text
    for pattern, replace in _NUMBERS:
        text = pattern.sub(replace, text)
    return text


def load(path: str) -> Redactor:
    """The function at `package.module:name`; empty = `redact`. Raises ValueError for what is no text → text."""
    if not path:
        return redact
    module, _, name = path.partition(":")
    try:
        found = getattr(import_module(module), name)
        made = found("text")
    # Whatever an operator's module raises is why it cannot be used.
    except Exception as error:
        raise ValueError(f"{path!r} is not a usable package.module:function: {error!r}") from None
    if not isinstance(made, str):
        raise ValueError(f"{path!r} gave {type(made).__name__} for a text; a redactor takes and gives str")
    return guarded(found)


def guarded(redactor: Redactor) -> Redactor:
    """The same, but a text on which it fails is withheld whole: a log line is no place to raise or to leak."""

    def guard(text: str) -> str:
        try:
            return str(redactor(text))
        except Exception:
            return WITHHELD

    return guard


def _card(found: re.Match[str]) -> str:
    """ISO/IEC 7812-1: 13 to 19 digits of a payment network (first digit 2 to 6), the last by Luhn's formula."""
    digits = [int(letter) for letter in found[0] if letter.isdecimal()]
    doubled = [2 * digit - 9 * (digit > 4) for digit in digits[-2::-2]]
    is_card = 2 <= digits[0] <= 6 and (sum(doubled) + sum(digits[::-2])) % 10 == 0
    return "[CARD]" if is_card else found[0]


def _iban(found: re.Match[str]) -> str:
    """ISO 13616-1: as long as its country's, and ≡ 1 modulo 97 with letters as 10 to 35. What follows it stays."""
    text, kept = found[0], 0
    length = int(_IBAN_LENGTHS.get(text[:2].upper(), 0))
    ends = [place + 1 for place, letter in enumerate(text) if letter.isalnum()]
    if not 0 < length <= len(ends):
        return text
    end = ends[length - 1]
    letters = [letter for letter in text[:end] if letter.isalnum()]
    for letter in letters[4:] + letters[:4]:
        value = int(letter, 36)
        kept = (kept * (100 if value > 9 else 10) + value) % 97
    return "[IBAN]" + text[end:] if kept == 1 and not text[end : end + 1].isalnum() else text


def _address(found: re.Match[str]) -> str:
    """Loopback and unspecified addresses are nobody's; a colon after an address is none of it."""
    text = found[0]
    bare = text[:-1] if text.endswith(":") and not text.endswith("::") else text
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        return text
    return text if address.is_loopback or address.is_unspecified else "[IP]" + text[len(bare) :]


def _by(text: str) -> Callable[[re.Match[str]], str]:
    return lambda found: found.expand(text)


def _rule(pattern: str, replace: str | Callable[[re.Match[str]], str], flags: int = 0) -> Rule:
    return re.compile(pattern, flags), _by(replace) if isinstance(replace, str) else replace


# In this order: what may hold another comes first.
_WORDS: tuple[Rule, ...] = (
    _rule(
        r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----[^-]{0,16384}(?:-----END [A-Z ]{0,30}PRIVATE KEY-----)?",
        "[SECRET]",
    ),
    _rule(r"(?<=://)[^\s/@:\[\]]{0,64}:[^\s/@\[\]]{1,256}@", "[SECRET]@"),
    # After "basic" a word of small letters is English, no base64.
    _rule(
        rf"{_WORD}(bearer|basic(?! +(?-i:[a-z]+)[.,;:!?]?(?:\s|$))) {{1,3}}[\w.~+/=-]{{8,}}",
        r"\1 [SECRET]",
        re.I,
    ),
    _rule(
        rf"(?:(?<![^\W_])|{_ESCAPE})(api[_-]?key|passw(?:or)?d|secret(?:[_-](?:access[_-])?key)?|authorization"
        r"|(?:access|refresh|auth|id|api)[_-]token)"
        r"([\"']?\s{0,3}[:=]\s{0,3}[\"']?)(?!bearer\b|basic\b)[^\s\"',;&\[\]]{4,}",
        r"\1\2[SECRET]",
        re.I,
    ),
    _rule(
        rf"{_WORD}(?:sk-|gh[pousr]_|github_pat_|glpat-|hf_|xox[abprs]-|AKIA|ASIA|AIza)[\w-]{{16,}}"
        rf"|(?:(?<![\w-])|{_ESCAPE})eyJ[\w-]{{8,}}\.[\w-]{{8,}}(?:\.[\w-]+)?",
        "[SECRET]",
    ),
    _rule(r"[\w.%+-]{1,64}@(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}", "[EMAIL]"),
    _rule(
        rf"(?:(?<![\w:.])|{_ESCAPE})(?=[0-9a-f]{{0,4}}:[0-9a-f]{{0,4}}:)[0-9a-f:]{{2,39}}"
        r"(?:\d{0,3}(?:\.\d{1,3}){3})?(?!\w)",
        _address,
        re.I | re.A,
    ),
)
# Three digits nearly side by side: all of the following have them.
_DIGITS = re.compile(r"\d\D{0,3}\d\D{0,3}\d")
_NUMBERS: tuple[Rule, ...] = (
    _rule(rf"{_WORD}[A-Z]{{2}}\d{{2}}(?:[ -]?[A-Z0-9]){{11,40}}", _iban, re.I | re.A),
    _rule(rf"{_BEGIN}\d{{4}}({_GAP})\d{{4}}\1\d{{4}}\1\d{{4}}\1\d{{3}}{_END}", _card),
    _rule(rf"{_BEGIN}\d{{4}}({_GAP})(?:\d{{4}}\1\d{{4}}\1\d{{4}}|\d{{6}}\1\d{{4,5}}){_END}", _card),
    _rule(rf"{_BEGIN}\d{{13,19}}{_END}", _card),
    # US social security, UK national insurance, Italian tax code.
    _rule(
        rf"(?:(?<![\w-])|{_ESCAPE})(?!000|666|9)\d{{3}}([ -])(?!00)\d\d\1(?!0000)\d{{4}}(?![\w-])"
        rf"|{_WORD}[A-CEGHJ-PR-TW-Z]{{2}} ?\d\d ?\d\d ?\d\d ?[A-D]\b"
        rf"|{_WORD}[A-Z]{{6}}\d\d[A-Z]\d\d[A-Z]\d{{3}}[A-Z]\b",
        "[ID]",
    ),
    _rule(rf"(?:(?<![\w.])|{_ESCAPE})(?:\d{{1,3}}\.){{3}}\d{{1,3}}(?![\w-]|\.\w)", _address, re.A),
    # E.164 with its plus; North America's 3-3-4; others by their leading zero.
    _rule(rf"(?:(?<![\w+])|{_ESCAPE})\+[1-9](?:[ ()./\u00a0-]{{0,2}}\d){{6,14}}{_END}", "[PHONE]"),
    _rule(
        rf"{_BEGIN}(?<!\d-)(?:1[ .-])?(?:\([2-9]\d\d\) ?|[2-9]\d\d[ .-])[2-9]\d\d[ .-]\d{{4}}(?!-){_END}",
        "[PHONE]",
    ),
    _rule(
        rf"{_BEGIN}(?<!\d-)(?!\d\d[./-]\d\d[./-]\d{{4}})"
        rf"(?:\(0[1-9]\d{{0,4}}\)(?:[ ./-]{{0,2}}\d){{5,10}}|0[1-9](?:[ ./-]{{0,2}}\d){{7,10}})(?!-){_END}",
        "[PHONE]",
    ),
)
