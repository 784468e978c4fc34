"""The little of protobuf's wire form that is written and read here by hand. Knows no message."""


def varint(number: int) -> bytes:
    """A length, seven bits a byte, least first (protobuf encoding, "Base 128 Varints")."""
    if number < 0x80:
        return bytes((number,))
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*found, number))


def framed(tag: bytes, content: bytes) -> bytes:
    """A field that carries its length: a message, a string, bytes or packed numbers."""
    return tag + varint(len(content)) + content
