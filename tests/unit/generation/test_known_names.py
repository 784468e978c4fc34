"""The page's table of names others use: it has every field of a request, and no field that is not there."""

import re
from pathlib import Path

from maas.generation.v1 import generation_service_pb2 as service_pb
from services.generation import capabilities

PAGE = Path(__file__).parents[3] / "docs" / "generation.md"


def test_the_table_names_every_field_and_no_other() -> None:
    table = PAGE.read_text().split("<!-- names -->")[1].split("<!-- /names -->")[0]
    rows = [line.split("|")[1] for line in table.strip().splitlines()[2:]]
    named = {name for row in rows for name in re.findall(r"`([a-z_.]+)`", row)}
    known = set(capabilities.names(service_pb.GenerateRequest.DESCRIPTOR))
    assert named == known - {"model", "version"}
