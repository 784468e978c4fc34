"""The contracts as `protos/image.binpb` describes them, with their comments. Knows of no page."""

import re
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet, ServiceDescriptorProto

IMAGE = Path(__file__).parent.parent / "protos" / "image.binpb"
HIDDEN = ("maas/internal/", "maas/reflection/")
# Numbers of fields in descriptor.proto, by which comments are found.
PACKAGE, SERVICE = 2, 6

Place = tuple[int, ...]


class Comments:
    """What stands before or beside each thing of a file."""

    def __init__(self, file: FileDescriptorProto) -> None:
        places = file.source_code_info.location
        self._told = {tuple(place.path): place.leading_comments or place.trailing_comments for place in places}

    def at(self, *place: int) -> str:
        return " ".join(self._told.get(place, "").split())


def first_sentence(text: str) -> str:
    """Up to the first full stop that ends a sentence."""
    return re.split(r"(?<=[.?])\s", " ".join(text.split()), maxsplit=1)[0]


def described(prefix: str = "") -> list[FileDescriptorProto]:
    """The files that callers may read, in the order of the image."""
    image = FileDescriptorSet.FromString(IMAGE.read_bytes())
    return [file for file in image.file if file.name.startswith(prefix) and not file.name.startswith(HIDDEN)]


def services() -> Iterator[tuple[FileDescriptorProto, ServiceDescriptorProto, str]]:
    """Every service with its file and what is said of it, or of its package where it has no comment of its own."""
    for file in described():
        comments = Comments(file)
        for at, service in enumerate(file.service):
            yield file, service, comments.at(SERVICE, at) or comments.at(PACKAGE)
