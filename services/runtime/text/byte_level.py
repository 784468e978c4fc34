"""The reversible byte ↔ character table of byte-level BPE. Knows nothing of vocabularies."""


def byte_to_char() -> dict[int, str]:
    """Printable Latin-1 bytes stand for themselves; the other 68 move to U+0100 onwards.

    Source: Radford et al. 2019 (GPT-2), whose vocabulary files are written in this alphabet.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    moved = [byte for byte in range(0x100) if byte not in printable]
    table = {byte: chr(byte) for byte in printable}
    return table | {byte: chr(0x100 + index) for index, byte in enumerate(moved)}


BYTE_TO_CHAR = byte_to_char()
CHAR_TO_BYTE = {char: byte for byte, char in BYTE_TO_CHAR.items()}


def to_bytes(token: str) -> bytes:
    """The bytes a vocabulary entry stands for; a token outside the alphabet stands for its own UTF-8."""
    try:
        return bytes(CHAR_TO_BYTE[char] for char in token)
    except KeyError:
        return token.encode()


def to_token(data: bytes) -> str:
    """How `data` is spelt in a byte-level vocabulary."""
    return "".join(BYTE_TO_CHAR[byte] for byte in data)
