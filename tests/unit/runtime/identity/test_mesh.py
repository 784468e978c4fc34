"""Whose word for a tenant is believed."""

import pytest

from services.runtime.errors import Unauthenticated
from services.runtime.identity import mesh
from services.runtime.identity.caller import Caller
from services.runtime.identity.mesh import Mesh

OLD, NEW = b"o" * 32, b"n" * 32


@pytest.mark.parametrize("tenant", ["", "acme", "Ümläut, Inc. %20", "a\x01b"])
def test_who_has_the_key_is_believed(tenant: str) -> None:
    told = dict(Mesh([NEW]).vouch(Caller("ann", tenant)).vouching)
    assert all(value.isascii() and (value == "" or value.isprintable()) for value in told.values())
    assert Mesh([NEW]).read(told).tenant == tenant


def test_no_proof_stands_for_another_tenant() -> None:
    told = dict(Mesh([NEW]).vouch(Caller(tenant="acme")).vouching)
    reader = Mesh([NEW])
    reader.read(told)
    for wrong in (
        told | {mesh.TENANT: "umbrella"},
        told | {mesh.TENANT: ""},
        told | {mesh.PROOF: ""},
        told | {mesh.PROOF: "é"},
        {mesh.TENANT: "acme"},
    ):
        with pytest.raises(Unauthenticated, match="MAAS_MESH_KEY"):
            reader.read(wrong)


def test_keys_rotate() -> None:
    before, meanwhile, after = Mesh([OLD]), Mesh([NEW, OLD]), Mesh([NEW])
    told = dict(before.vouch(Caller(tenant="acme")).vouching)
    assert meanwhile.read(told).tenant == "acme"
    with pytest.raises(Unauthenticated):
        after.read(told)
    assert after.read(dict(meanwhile.read(told).vouching)).tenant == "acme"


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mesh, "REMEMBERED", 4)
    reader = Mesh([NEW])
    for i in range(9):
        reader.read(dict(reader.vouch(Caller(tenant=f"t{i}")).vouching))
    assert len(reader._known) == 4
