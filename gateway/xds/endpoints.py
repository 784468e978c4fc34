"""A control plane's answer → the addresses of each cluster's processes. Pure: knows no stream."""

from collections.abc import Mapping

from google.protobuf.message import DecodeError

from maas.internal.v1 import xds_pb2

TYPE_URL = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
_USABLE = frozenset(
    {xds_pb2.ENDPOINT_HEALTH_UNSPECIFIED, xds_pb2.ENDPOINT_HEALTH_HEALTHY, xds_pb2.ENDPOINT_HEALTH_DEGRADED}
)


def clusters(reply: xds_pb2.DiscoveryResponse) -> Mapping[str, tuple[str, ...]]:
    """Addresses by cluster, sorted. Raises ValueError for what is no list of endpoints."""
    found: dict[str, tuple[str, ...]] = {}
    for resource in reply.resources:
        if resource.type_url != TYPE_URL:
            raise ValueError(f"{resource.type_url!r} is not {TYPE_URL}")
        try:
            one = xds_pb2.ClusterLoadAssignment.FromString(resource.value)
        except DecodeError as error:
            raise ValueError(f"a ClusterLoadAssignment does not parse: {error}") from None
        found[one.cluster_name] = addresses(one)
    return found


def addresses(assignment: xds_pb2.ClusterLoadAssignment) -> tuple[str, ...]:
    """host:port of the usable endpoints of the first priority that has any. Raises ValueError for one without."""
    by_priority: dict[int, set[str]] = {}
    for locality in assignment.endpoints:
        for one in locality.lb_endpoints:
            if one.health_status in _USABLE:
                by_priority.setdefault(locality.priority, set()).add(_address(one.endpoint.address.socket_address))
    return tuple(sorted(by_priority[min(by_priority)])) if by_priority else ()


def _address(place: xds_pb2.SocketAddress) -> str:
    if not place.address or not 0 < place.port_value < 1 << 16:
        raise ValueError(f"an endpoint at {place.address!r}, port {place.port_value}: host and port are needed")
    return (
        f"[{place.address}]:{place.port_value}" if ":" in place.address else f"{place.address}:{place.port_value}"
    )
