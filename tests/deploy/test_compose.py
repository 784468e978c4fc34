"""deploy/compose.yaml: valid, closed, and in agreement with the code that it starts."""

import re
from typing import Any

import yaml
from compose_spec import PyOptions

from services.runtime.health import model_service
from services.runtime.settings import secrets_of
from tests.deploy.dockerfile import ROOT
from tests.deploy.manifests import SETTINGS, server
from tests.deploy.manifests import pods as kubernetes_pods

FILE = ROOT / "deploy" / "compose.yaml"
SUITE: dict[str, Any] = yaml.safe_load(FILE.read_text())
SERVERS: dict[str, Any] = {name: SUITE["services"][name] for name in SETTINGS}
KEY = "0" * 64
VARIABLES = {"MAAS_MESH_KEY": KEY, "MAAS_CACHE_KEY": KEY, "MAAS_REDIS_PASSWORD": "secret"}


def environment(service: str) -> dict[str, str]:
    """As compose would give it, with some keys."""
    told = SERVERS[service]["environment"]
    return {name: re.sub(r"\$\{(\w+)[^}]*\}", lambda found: VARIABLES[found[1]], told[name]) for name in told}


def seconds(text: str) -> int:
    return int(text.removesuffix("s"))


def test_it_is_a_compose_file() -> None:
    options = PyOptions(apply_merge=True)
    options.from_yaml(FILE.read_text()).validate()


def test_every_variable_is_a_setting_and_every_value_is_taken() -> None:
    for service, cls in SETTINGS.items():
        fields = {name.removeprefix("MAAS_").lower(): value for name, value in environment(service).items()}
        assert fields.keys() <= cls.model_fields.keys()
        chosen = cls(host="0.0.0.0", **fields)
        assert seconds(SERVERS[service]["stop_grace_period"]) > chosen.lame_duck_s + chosen.drain_s + 5
        for name in ("threads", "lanes"):
            if name in fields:
                assert fields[name] == SERVERS[service]["deploy"]["resources"]["limits"]["cpus"]


def test_no_secret_is_written_down() -> None:
    for service, cls in SETTINGS.items():
        for name, value in SERVERS[service]["environment"].items():
            if name.removeprefix("MAAS_").lower() in {*secrets_of(cls), "redis_url"}:
                assert re.search(r"\$\{\w+:\?", value), name


def test_ports_are_those_of_the_servers() -> None:
    ports = {name: cls.model_fields["port"].default for name, cls in SETTINGS.items()}
    for service, port in ports.items():
        program, *asked = SERVERS[service]["healthcheck"]["test"][3:]
        assert (program, asked[0]) == ("services.runtime.probe", f"127.0.0.1:{port}")
        if service != "gateway":
            assert environment("gateway")[f"MAAS_{service.upper()}_ADDRESS"] == f"{service}:{port}"
    default = SETTINGS["generation"].model_fields["generate_model"].default
    assert SERVERS["generation"]["healthcheck"]["test"][-1] == model_service(default)


def test_only_the_gateway_is_seen_and_only_from_here() -> None:
    seen = {name: service["ports"] for name, service in SUITE["services"].items() if "ports" in service}
    assert seen == {"gateway": ["127.0.0.1:50050:50050"]}
    assert SUITE["networks"]["inside"] == {"internal": True}
    outside = {name for name, service in SUITE["services"].items() if service["networks"] != ["inside"]}
    # What fetches models has to reach them, and reaches no server.
    assert outside == {"gateway", "models"}
    assert SUITE["services"]["models"]["networks"] == ["outside"]


def test_everything_is_confined() -> None:
    for name, service in SUITE["services"].items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory", "pids"}
        stores = [one for one in service["volumes"] if one.startswith("store:")]
        assert all(one.endswith(":ro") for one in stores) or name == "models"
    assert {volume.partition(":")[0] for s in SUITE["services"].values() for volume in s["volumes"]} == {
        *SUITE["volumes"]
    }


def test_it_builds_the_images_of_kubernetes() -> None:
    images = {server(pod)["image"].partition(":")[0] for pod in kubernetes_pods("single-node").values()}
    assert {SERVERS[name]["image"] for name in SERVERS} == images
    for name, service in SERVERS.items():
        assert service["build"]["args"] == {"SERVICE": name}
        assert (FILE.parent / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
