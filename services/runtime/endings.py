"""How a call ends that was not answered, and what the audit log keeps of calls."""

import logging
from typing import Any

import grpc
from grpc import aio

from services.runtime import context as calls
from services.runtime.errors import Code, ServiceError
from services.runtime.identity.policy import ADMINISTRATIVE
from services.runtime.status import grpc_code, trailers

audit = logging.getLogger("maas.audit")
# Kept in the audit log whatever the method.
REFUSED = frozenset({Code.PERMISSION_DENIED.name, Code.UNAUTHENTICATED.name})


def audited(request: calls.RequestContext, status: str) -> None:
    """Who wanted what: of calls that change what is served, and of those that were turned away."""
    if request.method not in ADMINISTRATIVE and status not in REFUSED:
        return
    who = {"caller": request.caller.name, "tenant": request.caller.tenant, "roles": sorted(request.caller.roles)}
    audit.info(
        status, extra={"method": request.method, "peer": request.peer, "vouched": request.caller.vouched, **who}
    )


def internal(request_id: str) -> ServiceError:
    """What a caller sees of a fault of ours: by the id, the log has the rest."""
    return ServiceError(
        f"internal error; quote request id {request_id} to the operators", metadata={"request_id": request_id}
    )


async def abort(context: aio.ServicerContext, request: calls.RequestContext, error: ServiceError) -> None:
    """Ends the call by `error`, with its details and the request's id in the trailers. Never returns."""
    metadata = (*trailers(error), *request.trailing, (calls.REQUEST_ID, request.request_id))
    await context.abort(grpc_code(error.code), error.message, metadata)


def number(code: Any) -> int:
    """As grpc.aio has it, or as our own transport does."""
    return int(code.value[0] if isinstance(code, grpc.StatusCode) else code)
