"""Certificates of TLS: key, chain, names, dates. Opens no connection."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from cli.doctor.around import Around
from cli.doctor.finding import Finding, Findings, bad, ok, warn
from services.runtime.errors import InvalidInput
from services.runtime.tls import material

SOON = timedelta(days=14)
RENEW = "`maas certs server` makes one; running servers take it within seconds"


def certificates(around: Around) -> Findings:
    """Those of `MAAS_TLS_…`, or of the running suite."""
    paths = [Path(around.tls[name]) if name in around.tls else None for name in _VARIABLES]
    certificate, key, authority = paths
    if certificate is None and authority is None:
        return [ok("certificates", "none is named: ports serve in clear, on loopback alone")]
    try:
        material.read(certificate, key, authority)
    except (InvalidInput, OSError) as error:
        return [bad("certificates", str(error), RENEW)]
    if certificate is None or key is None:
        return [ok("certificates", f"an authority alone, {authority}")]
    return list(_judged(around, certificate, key, authority))


_VARIABLES = ("MAAS_TLS_CERTIFICATE", "MAAS_TLS_KEY", "MAAS_TLS_AUTHORITY")


def _judged(around: Around, certificate: Path, key: Path, authority: Path | None) -> Findings:
    chain = x509.load_pem_x509_certificates(certificate.read_bytes())
    yield dates(chain[0], datetime.now(UTC))
    yield names(chain[0], "127.0.0.1" if around.host in ("0.0.0.0", "::", "") else around.host)
    if authority is not None:
        yield signed(chain, x509.load_pem_x509_certificates(authority.read_bytes()))
    if key.stat().st_mode & 0o077:
        yield bad("key of the certificate", f"others may read {key}", f"`chmod 600 {key}`")


def dates(leaf: x509.Certificate, now: datetime) -> Finding:
    """Good now, and for a while."""
    if now < leaf.not_valid_before_utc:
        told = f"good from {leaf.not_valid_before_utc:%Y-%m-%d %H:%M} UTC, here it is {now:%Y-%m-%d %H:%M}"
        return bad("certificate's dates", told, "set the clock (NTP); or the certificate is for later")
    left = leaf.not_valid_after_utc - now
    told = f"good until {leaf.not_valid_after_utc:%Y-%m-%d} ({left.days} days)"
    if left <= timedelta():
        return bad("certificate's dates", told, RENEW)
    return warn("certificate's dates", told, RENEW) if left < SOON else ok("certificate's dates", told)


def names(leaf: x509.Certificate, host: str) -> Finding:
    """Whether a caller who addresses `host` finds it in the certificate."""
    try:
        alternative = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return bad("certificate's names", "it has no subject alternative name, which clients ask for", RENEW)
    found = [*alternative.get_values_for_type(x509.DNSName)]
    found += [str(address) for address in alternative.get_values_for_type(x509.IPAddress)]
    if not any(_fits(name, host) for name in found):
        fix = f"`maas certs server --host {host}`, or MAAS_TLS_SERVER_NAME at callers"
        return bad("certificate's names", f"{host} is none of {', '.join(found) or 'none'}", fix)
    return ok("certificate's names", ", ".join(found))


def _fits(name: str, host: str) -> bool:
    return name == host or (name.startswith("*.") and host.partition(".")[2] == name[2:])


def signed(chain: Sequence[x509.Certificate], authorities: Sequence[x509.Certificate]) -> Finding:
    """Each by the next, the last by one of the authorities."""
    for at, one in enumerate(chain):
        above = authorities if at == len(chain) - 1 else chain[at + 1 : at + 2]
        if not any(_by(one, issuer) for issuer in above):
            who = "an authority" if above is authorities else "the next of its chain"
            told = f"{one.subject.rfc4514_string()} is not signed by {who}"
            return bad(
                "certificate's chain", told, "put the whole chain into the file; or it is another authority's"
            )
    return ok("certificate's chain", f"leads to {chain[-1].issuer.rfc4514_string()}")


def _by(one: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        one.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
