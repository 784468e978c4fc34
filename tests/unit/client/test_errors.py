"""Statuses of the suite as the client's exceptions."""

import grpc
import pytest

import maas_client
from maas_client.errors import of_status
from services.runtime import errors as ours
from services.runtime.status import to_status

KINDS = [
    (ours.InvalidInput("texts[3]", "too long"), maas_client.InvalidArgument),
    (ours.ModelNotFound("model", "absent", ["here"]), maas_client.NotFound),
    (ours.PreconditionFailed("of another tokenizer"), maas_client.FailedPrecondition),
    (ours.QuotaExceeded("acme", "5/second", 0.25), maas_client.ResourceExhausted),
    (ours.DeadlinePassed("late"), maas_client.DeadlineExceeded),
    (ours.Unavailable("loading", retry_after_s=1.5), maas_client.Unavailable),
    (ours.Unimplemented("adapter"), maas_client.Unimplemented),
    (ours.Denied("no"), maas_client.PermissionDenied),
    (ours.Unauthenticated("who"), maas_client.Unauthenticated),
    (ours.ServiceError("inside"), maas_client.Internal),
]


@pytest.mark.parametrize(("error", "kind"), KINDS, ids=lambda one: getattr(one, "__name__", ""))
def test_every_error_of_the_suite_has_its_class(
    error: ours.ServiceError, kind: type[maas_client.MaasError]
) -> None:
    found = of_status(to_status(error), "an-id")
    assert type(found) is kind
    assert found.code.value[0] == int(error.code) and found.message == error.message
    assert (found.reason, found.retry_after_s, found.request_id) == (error.reason, error.retry_after_s, "an-id")
    assert [(one.field, one.description) for one in found.violations] == [
        (one.field, one.description) for one in error.violations
    ]


def test_metadata_travels_and_an_unknown_code_is_an_error_too() -> None:
    told = to_status(ours.PreconditionFailed("x", reason="RECORD_ENDS", metadata={"last_sequence_number": "7"}))
    assert of_status(told).metadata == {"last_sequence_number": "7"}
    told.code = 15  # DATA_LOSS has no class of its own
    assert type(of_status(told)) is maas_client.MaasError and of_status(told).code is grpc.StatusCode.DATA_LOSS
