"""Messages that a caller packed, in any of gRPC's encodings. Knows no call."""

import asyncio
import zlib

from services.runtime.errors import Code

# zlib's own form or gzip's, by its first bytes.
EITHER = 32 + zlib.MAX_WBITS
# Bytes that unpack to a thousand times as much at the most: a millisecond, for which no thread is worth asking.
FEW = 1024


class Unreadable(Exception):
    """Says why, and with which status the call ends."""

    def __init__(self, code: Code, why: str) -> None:
        super().__init__(why)
        self.code = code


async def opened(message: bytes, encoding: str, most: int) -> bytes:
    """`unpacked`, in a thread where it may take long: a small message can be a large one packed."""
    if not encoding or len(message) <= FEW:
        return unpacked(message, encoding, most)
    return await asyncio.get_running_loop().run_in_executor(None, unpacked, message, encoding, most)


def unpacked(message: bytes, encoding: str, most: int) -> bytes:
    """`encoding`: "" for a message as it is. Raises Unreadable for one that is damaged or over `most` bytes."""
    if not encoding:
        return message
    if encoding == "identity":
        raise Unreadable(Code.INTERNAL, "a message is marked as compressed, and grpc-encoding is identity")
    try:
        reader = zlib.decompressobj(EITHER)
        found = reader.decompress(message, most + 1)
    except zlib.error as error:
        raise Unreadable(Code.INTERNAL, f"a message does not unpack as {encoding}: {error}") from None
    if len(found) > most:
        raise Unreadable(Code.RESOURCE_EXHAUSTED, f"a message of over {most} bytes came, the limit")
    if not reader.eof:
        raise Unreadable(Code.INTERNAL, f"a message does not unpack as {encoding}: it is cut off")
    return found
