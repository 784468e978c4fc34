"""What stands at the door of a server: who lets calls in, counts, judges and notes them."""

from dataclasses import dataclass
from typing import Any

from services.runtime import context as calls
from services.runtime.admission import Admission
from services.runtime.identity.doorkeeper import Doorkeeper
from services.runtime.metrics import Metrics
from services.runtime.named_model import models_in
from services.runtime.redaction import Redactor
from services.runtime.telemetry.access import AccessLog
from services.runtime.telemetry.orca import LoadReport
from services.runtime.toll import Toll
from services.runtime.tracing.tracer import Tracer


@dataclass(slots=True)
class Door:
    """What every call passes."""

    admission: Admission
    metrics: Metrics
    stream_idle_s: float
    doorkeeper: Doorkeeper
    access: AccessLog
    load: LoadReport
    # The texts of requests are logged through it; None = they are not logged at all.
    body_redactor: Redactor | None = None
    # Who counts calls; None = nobody.
    toll: Toll | None = None
    # Whether a unary reply takes its initial metadata along by itself: see ahead.py.
    joins: bool = False
    # Who begins the spans of calls; None = no call is traced.
    tracer: Tracer | None = None


def authorise(method: str, request: Any) -> None:
    """Raises Denied unless the caller of now may ask every model that `request` names by `method`."""
    rights = calls.current().rights
    if rights.looks_at_models(method):
        for model in models_in(method, request):
            rights.check_model(method, model)
