"""The doctor finds what is wrong with models, settings, files and servers, each really broken."""

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from typer.testing import CliRunner

from cli import runfile
from cli.__main__ import app
from cli.authority import Authority
from cli.doctor import certificates, files, models, native, redis, settings, suite
from cli.doctor.around import Around
from cli.doctor.finding import Finding, Findings
from cli.ports import any_free
from cli.program import PORTS
from services.runtime.compiled import NoCompiler
from services.runtime.errors import NotFound
from services.runtime.store.store import ModelStore
from tests.valkey import started, url


@pytest.fixture
def around(tmp_path: Path) -> Around:
    """A store with two versions of one classifier."""
    store = ModelStore(tmp_path / "store")
    for _ in range(2):
        with store.publish("net") as draft:
            (draft.directory / "weights").write_bytes(b"1234")
            draft.fields = {"tasks": ["vision.classify"], "runner": "none"}
    return Around(dict(os.environ), tmp_path / "home", store.root)


def only(findings: Findings) -> Finding:
    (found,) = findings
    return found


def test_an_empty_store(around: Around, tmp_path: Path) -> None:
    found = only(models.store(Around({}, around.home, tmp_path / "empty")))
    assert found.state == "bad" and "maas models pull --all" in found.fix
    assert only(models.store(around)).state == "ok"


def test_a_changed_file_is_named_unless_it_shall_be_quick(around: Around) -> None:
    assert only(models.versions(around)).state == "ok"
    (around.root / "net" / "1" / "weights").write_bytes(b"12345")
    broken, whole = models.versions(around)
    assert (broken.name, broken.state, whole.state) == ("net/1", "bad", "ok") and "sha256" in broken.found
    assert "maas models remove net 1" in broken.fix
    quick = Around({}, around.home, around.root, quick=True)
    assert only(models.versions(quick)).state == "ok"


def test_a_label_that_leads_nowhere(around: Around) -> None:
    ModelStore(around.root).set_label("net", "stable", 2)
    assert not list(models.labels(around))
    (around.root / "net" / "2").rename(around.root / "gone")
    found = only(models.labels(around))
    assert found.state == "bad" and "net@stable" in found.name and "of 1" in found.fix


def test_defaults_that_the_store_lacks(around: Around) -> None:
    assert models.default(around, "vision", "vision.classify", "net") is None
    pulled = models.default(around, "vision", "vision.classify", "mnist-cnn")
    trained = models.default(around, "sequence", "sequence.forecast", "rnn-forecast")
    other = models.default(around, "sequence", "sequence.embed", "net")
    assert pulled and trained and other
    assert [one.state for one in (pulled, trained, other)] == ["bad", "warn", "bad"]
    assert "maas models pull mnist-cnn" in pulled.fix and "maas train rnn-forecast" in trained.fix


def test_settings_that_a_program_refuses_beside_those_that_take_theirs(around: Around) -> None:
    environ = {**around.environ, "MAAS_BATCH_IMAGES": "many"}
    found = {one.name: one for one in settings.settings(Around(environ, around.home, around.root))}
    states = {name: found[f"settings of {name}"].state for name in PORTS}
    assert states == dict.fromkeys(PORTS, "ok") | {"vision": "bad"}
    assert "MAAS_BATCH_IMAGES" in found["settings of vision"].found
    assert "default of vision.classify" not in found and found["default of sequence.embed"].state == "bad"


def test_policy_and_keys(around: Around, tmp_path: Path) -> None:
    assert only(files.identity(around)).state == "ok"
    policy, keys = tmp_path / "policy.toml", tmp_path / "keys.toml"
    keys.write_text("")
    keys.chmod(0o666)
    policy.write_text('[[allow]]\nrole = ["x"]')
    environ = {"MAAS_POLICY_FILE": str(policy), "MAAS_API_KEYS_FILE": str(keys)}
    told = {one.name: one for one in files.identity(Around(environ, around.home, around.root))}
    assert told["MAAS_API_KEYS_FILE"].state == "bad" and "chmod" in told["MAAS_API_KEYS_FILE"].fix
    assert "'role' is not known" in told["MAAS_POLICY_FILE"].found
    policy.write_text('[[allow]]\nroles = ["x"]')
    assert files.judged("MAAS_POLICY_FILE", policy).state == "warn"
    policy.write_text('[[allow]]\nroles = ["x"]\nadministration = true')
    assert files.judged("MAAS_POLICY_FILE", policy).state == "ok"
    assert files.judged("MAAS_JWKS_FILE", tmp_path / "none").state == "bad"
    keys.chmod(0o600)
    alone = Around({"MAAS_API_KEYS_FILE": str(keys)}, around.home, around.root)
    assert [one.state for one in files.identity(alone)] == ["ok", "warn"]


def tls(folder: Path, name: str = "server") -> dict[str, str]:
    files = {"CERTIFICATE": f"{name}.pem", "KEY": f"{name}.key", "AUTHORITY": "authority.pem"}
    return {f"MAAS_TLS_{what}": str(folder / file) for what, file in files.items()}


def test_certificates(around: Around, tmp_path: Path) -> None:
    def judged(environ: dict[str, str], host: str = "127.0.0.1") -> dict[str, Finding]:
        found = certificates.certificates(Around(environ, around.home, around.root, host))
        return {one.name: one for one in found}

    assert judged({})["certificates"].state == "ok"
    mine, other = Authority(tmp_path / "mine"), Authority(tmp_path / "other")
    mine.issue("server", ["localhost", "127.0.0.1"], 90)
    good = tls(tmp_path / "mine")
    assert [one.state for one in judged(good).values()] == ["ok"] * 3
    assert "10.1.1.1 is none of" in judged(good, "10.1.1.1")["certificate's names"].found
    foreign = good | {"MAAS_TLS_AUTHORITY": tls(tmp_path / "other")["MAAS_TLS_AUTHORITY"]}
    assert judged(foreign)["certificate's chain"].state == "bad"
    other.issue("server", ["localhost"], 5)
    assert judged(tls(tmp_path / "other"))["certificate's dates"].state == "warn"
    mixed = good | {"MAAS_TLS_KEY": tls(tmp_path / "other")["MAAS_TLS_KEY"]}
    assert "is not the key of" in judged(mixed)["certificates"].found
    Path(good["MAAS_TLS_KEY"]).chmod(0o644)
    assert judged(good)["key of the certificate"].state == "bad"


def test_a_clock_before_or_after_a_certificate(tmp_path: Path) -> None:
    chain, _ = Authority(tmp_path).issue("server", ["localhost"], 90)
    leaf = x509.load_pem_x509_certificate(chain.read_bytes())
    early = certificates.dates(leaf, datetime.now(UTC) - timedelta(days=1))
    late = certificates.dates(leaf, datetime.now(UTC) + timedelta(days=91))
    assert (early.state, late.state) == ("bad", "bad") and "NTP" in early.fix and "maas certs server" in late.fix


def test_a_transport_that_cannot_be_built(around: Around, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        raise NoCompiler("no g++ is on the PATH")

    monkeypatch.setattr("services.runtime.h2.native.load", fails)
    found = only(native.transport(around))
    assert found.state == "warn" and "no g++" in found.found and "nghttp2" in found.fix
    asked = Around({"MAAS_TRANSPORT": "grpc"}, around.home, around.root)
    assert only(native.transport(asked)).state == "ok"
    secured = Around({"MAAS_TLS_CERTIFICATE": "server.pem"}, around.home, around.root)
    assert only(native.transport(secured)).state == "warn", "TLS is served by the same transport"


def test_kernels_that_cannot_be_built(around: Around, tmp_path: Path) -> None:
    # Another home has no kernels, another PATH no compiler.
    environ = {**around.environ, "HOME": str(tmp_path), "PATH": str(tmp_path)}
    found = list(native.kernels(Around(environ, around.home, around.root)))
    assert [(one.name, one.state) for one in found] == [("kernels", "warn"), ("words", "warn")]
    assert all("no g++ is on the PATH" in one.found for one in found)


@pytest.fixture(scope="module")
def valkey() -> Iterator[str]:
    with started() as server:
        yield url(server)


def test_redis(around: Around, valkey: str) -> None:
    def asked(address: str) -> dict[str, Finding]:
        told = redis.redis(Around({"MAAS_REDIS_URL": address}, around.home, around.root))
        return {one.name: one for one in told}

    found = asked(valkey)
    states = {name: one.state for name, one in found.items()}
    assert states == {"redis": "ok", "redis latency": "ok", "clock": "ok", "redis eviction": "warn"}
    assert "no maxmemory" in found["redis eviction"].found
    gone = asked(f"redis://127.0.0.1:{any_free('127.0.0.1')}")["redis"]
    assert gone.state == "bad" and "MAAS_REDIS_URL" in gone.fix
    assert asked("http://x")["redis"].state == "bad"


def test_an_embedded_redis_that_does_not_run(tmp_path: Path) -> None:
    assert redis.embedded(tmp_path / "none").state == "bad"
    assert redis.embedded().state == "ok"


def test_a_clock_that_is_off() -> None:
    assert redis.skew(0.3).state == "ok"
    assert redis.skew(-9).state == "bad" and "behind" in redis.skew(-9).found


def test_a_suite_whose_programs_do_not_answer(around: Around) -> None:
    assert only(suite.suite(around)).state == "ok"
    dead = runfile.Process(address=f"127.0.0.1:{any_free('127.0.0.1')}")
    run = runfile.Run(runfile.myself(), programs={"vision": dead})
    health, _ = suite.suite(Around(around.environ, around.home, around.root, run=run))
    assert (health.name, health.state) == ("vision", "bad") and "vision.log" in health.fix


def test_versions_that_do_not_agree() -> None:
    found = suite.agreement({"gateway": "0.1.0", "vision": "0.0.9"}, "0.1.0")
    assert found.state == "bad" and "vision 0.0.9" in found.found
    assert suite.agreement({"gateway": "0.1.0"}, "0.1.0").state == "ok"


def test_the_command_says_all_in_json_and_by_its_exit_code(around: Around, tmp_path: Path) -> None:
    def ran(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, ["doctor", *arguments], env={"COLUMNS": "200"})
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.stdout

    where = ("--store", str(around.root), "--home", str(around.home))
    code, told = ran("store", "versions", *where, "--json")
    assert code == 0 and [one["state"] for one in json.loads(told)] == ["ok", "ok"]
    (around.root / "net" / "1" / "weights").unlink()
    code, told = ran("versions", *where)
    assert code == 1 and "net/1" in told and "→" in told and "1 bad, 0 to look at, 1 well" in told
    with pytest.raises(NotFound, match=r"'stoer' not found; available: .*store"):
        ran("stoer")
