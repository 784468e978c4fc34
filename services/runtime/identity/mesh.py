"""How the gateway tells services whose call it passes on, so that nobody else can. Knows no gRPC.

The proof is a keyed hash of the tenant: who holds the key made it. It is the same for all calls of a tenant, so
who reads the wire between gateway and services could repeat it: for that, as for the requests, TLS is the answer.
"""

import hmac
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from urllib.parse import quote, unquote

from services.runtime.errors import Unauthenticated
from services.runtime.identity.caller import Caller

TENANT, PROOF = "x-maas-tenant", "x-maas-mesh"
PROOF_BYTES = 24
REMEMBERED = 4096


class Mesh:
    """Of one key or two: the first proves, all are believed."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = tuple(keys)
        # Proofs that held.
        self._known: OrderedDict[tuple[str, str], Caller] = OrderedDict()

    def vouch(self, caller: Caller) -> Caller:
        """The same caller with what the next service believes."""
        tenant = quote(caller.tenant)
        return replace(caller, vouching=((TENANT, tenant), (PROOF, _proof(self._keys[0], tenant))))

    def read(self, metadata: Mapping[str, str]) -> Caller:
        """Whose call the metadata say it is. Raises Unauthenticated unless the proof holds."""
        given = metadata[TENANT], metadata.get(PROOF, "")
        caller = self._known.get(given)
        if caller is None:
            caller = self._known[given] = self._proven(*given)
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return caller

    def _proven(self, tenant: str, proof: str) -> Caller:
        if not any(hmac.compare_digest(_proof(key, tenant).encode(), proof.encode()) for key in self._keys):
            raise not_believed("gateway and services must have the same MAAS_MESH_KEY")
        return self.vouch(Caller(tenant=unquote(tenant), vouched=True))


def not_believed(way_out: str) -> Unauthenticated:
    return Unauthenticated(f"{TENANT} is taken from the gateway alone; {way_out}", reason="TENANT_NOT_PROVEN")


def _proof(key: bytes, tenant: str) -> str:
    return blake2b(tenant.encode(), key=key, digest_size=PROOF_BYTES, person=b"maas-mesh").hexdigest()
