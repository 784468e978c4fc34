"""The manifests: valid for Kubernetes, and in agreement with each other and with the code they start."""

import json

import kubernetes_validate
import pytest

from services.runtime.health import PROCESS, model_service
from services.runtime.settings import METRICS_OFFSET, secrets_of
from tests.deploy.manifests import (
    OVERLAYS,
    SETTINGS,
    documents,
    of_kind,
    own,
    pods,
    selectors,
    selects,
    server,
    settings_of,
    shared,
)

VERSION = "1.37"
# Of kinds that are a mesh's own: no schema of them is at hand.
UNKNOWN = {"PeerAuthentication", "AuthorizationPolicy"}
PROBES = ("startupProbe", "livenessProbe", "readinessProbe")

overlays = pytest.mark.parametrize("overlay", OVERLAYS)


def test_kubernetes_takes_every_document() -> None:
    every = [found for overlay in OVERLAYS for found in documents(overlay)]
    assert all(found["metadata"].get("namespace", "maas") == "maas" for found in every)
    for told in {json.dumps(found) for found in every if found["kind"] not in UNKNOWN}:
        kubernetes_validate.validate(json.loads(told), VERSION, strict=True)


@overlays
def test_every_variable_is_a_setting_and_every_value_is_taken(overlay: str) -> None:
    known = {f"MAAS_{name.upper()}" for cls in SETTINGS.values() for name in cls.model_fields}
    assert shared(overlay).keys() <= known
    assert pods(overlay).keys() == SETTINGS.keys()
    for service, pod in pods(overlay).items():
        assert own(pod).keys() <= {f"MAAS_{name.upper()}" for name in SETTINGS[service].model_fields}
        settings_of(overlay, service)


@overlays
def test_secrets_come_out_of_secrets(overlay: str) -> None:
    """The URL of Redis holds a password, as a rule."""
    hidden = {f"MAAS_{name.upper()}" for cls in SETTINGS.values() for name in secrets_of(cls)} | {"MAAS_REDIS_URL"}
    assert not hidden & shared(overlay).keys()
    for pod in pods(overlay).values():
        assert all(value is None for name, value in own(pod).items() if name in hidden)
    for service in ("gateway", "sequence", "generation"):
        assert {"MAAS_REDIS_URL", "MAAS_CACHE_KEY", "MAAS_MESH_KEY"} <= own(pods(overlay)[service]).keys()


@overlays
def test_either_tls_or_something_else_encrypts(overlay: str) -> None:
    told = shared(overlay)
    assert ("MAAS_PLAINTEXT" in told) != ("MAAS_TLS_CERTIFICATE" in told)
    folder = "/etc/maas/tls"
    for pod in pods(overlay).values():
        mounted = {mount["mountPath"] for mount in server(pod)["volumeMounts"]}
        assert (folder in mounted) == ("MAAS_TLS_CERTIFICATE" in told)


@overlays
def test_ports_are_the_same_everywhere(overlay: str) -> None:
    for service, pod in pods(overlay).items():
        port = SETTINGS[service].model_fields["port"].default
        assert own(pod)["MAAS_PORT"] == str(port)
        ports = {one["name"]: one["containerPort"] for one in server(pod)["ports"]}
        assert ports == {"grpc": port, "metrics": port + METRICS_OFFSET}
        assert pod["metadata"]["annotations"]["prometheus.io/port"] == str(port + METRICS_OFFSET)
        offered = of_kind(overlay, "Service")[service]["spec"]
        assert offered["clusterIP"] == "None"
        assert [(one["port"], one["targetPort"]) for one in offered["ports"]] == [(port, "grpc")]
        if service != "gateway":
            assert shared(overlay)[f"MAAS_{service.upper()}_ADDRESS"] == f"{service}:{port}"


@overlays
def test_there_is_time_to_stop(overlay: str) -> None:
    for service, pod in pods(overlay).items():
        settings = settings_of(overlay, service)
        assert pod["spec"]["terminationGracePeriodSeconds"] > settings.lame_duck_s + settings.drain_s + 5


@overlays
def test_probes_ask_what_servers_know(overlay: str) -> None:
    """In clear by gRPC itself; Kubernetes' probe speaks no TLS."""
    for service, pod in pods(overlay).items():
        probes = [server(pod)[name] for name in PROBES]
        if "MAAS_TLS_CERTIFICATE" in shared(overlay):
            asked = [probe["exec"]["command"][-1] for probe in probes]
            assert not any("grpc" in probe for probe in probes)
            ask = 'exec python -m services.runtime.probe "127.0.0.1:$MAAS_PORT"'
            assert asked == [f"{ask} {PROCESS}", f"{ask} {PROCESS}", ask]
            continue
        assert {probe["grpc"]["port"] for probe in probes} == {SETTINGS[service].model_fields["port"].default}
        start, live, ready = (probe["grpc"].get("service", "") for probe in probes)
        assert start == live == PROCESS
        default = SETTINGS[service].model_fields.get("generate_model")
        assert ready == (model_service(default.default) if default else "")


@overlays
def test_whoever_selects_pods_finds_some(overlay: str) -> None:
    jobs = [job["spec"]["template"] for job in of_kind(overlay, "Job").values()]
    labels = [pod["metadata"]["labels"] for pod in (*pods(overlay).values(), *jobs)]
    for name, selector in selectors(overlay):
        chosen = [one for one in labels if selects(selector, one)]
        assert chosen, name
        if name.startswith(("Service", "PodDisruptionBudget", "Deployment")):
            assert [one["app.kubernetes.io/name"] for one in chosen] == [name.partition("/")[2]]
    assert of_kind(overlay, "PodDisruptionBudget").keys() == SETTINGS.keys()


@overlays
def test_nothing_passes_but_what_is_named(overlay: str) -> None:
    policies = of_kind(overlay, "NetworkPolicy")
    assert policies["nothing-else"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    (rule,) = policies["gateway-to-services"]["spec"]["egress"]
    ports = {port for one in rule["ports"] for port in range(one["port"], one["endPort"] + 1)}
    assert ports == {cls.model_fields["port"].default for name, cls in SETTINGS.items() if name != "gateway"}


@overlays
def test_pods_are_restricted_and_write_to_tmp_alone(overlay: str) -> None:
    jobs = [job["spec"]["template"] for job in of_kind(overlay, "Job").values()]
    for pod in (*pods(overlay).values(), *jobs):
        spec, container = pod["spec"], server(pod)
        assert spec["securityContext"]["runAsNonRoot"]
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not spec["automountServiceAccountToken"]
        # Else the service `x` would set X_PORT and more in every pod.
        assert not spec["enableServiceLinks"]
        limits = container["securityContext"]
        assert limits["readOnlyRootFilesystem"]
        assert not limits["allowPrivilegeEscalation"]
        assert limits["capabilities"] == {"drop": ["ALL"]}
    for pod in pods(overlay).values():
        written = [one["mountPath"] for one in server(pod)["volumeMounts"] if not one.get("readOnly")]
        assert written == ["/tmp"]


@overlays
def test_volumes_and_images_are_there(overlay: str) -> None:
    for service, pod in pods(overlay).items():
        assert server(pod)["image"].partition(":")[0] == f"maas-{service}"
        volumes = {one["name"]: one for one in pod["spec"]["volumes"]}
        assert volumes.keys() == {one["name"] for one in server(pod)["volumeMounts"]}
        claims = {
            one["persistentVolumeClaim"]["claimName"] for one in volumes.values() if "persistentVolumeClaim" in one
        }
        assert claims == (set() if service == "gateway" else {"store"})
    assert of_kind(overlay, "PersistentVolumeClaim").keys() == {"store"}
