"""The shape of the source: who may import whom, what policy code must not know, how big things may grow."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import readme

ROOT = Path(__file__).parent.parent
ROOMS = ("services", "gateway", "cli", "training", "client")
AREAS = ("tokenization", "vision", "sequence", "generation")
# Policy: what decides, free of what computes and transports.
POLICY = (
    "services/runtime/batcher.py",
    "services/runtime/admission.py",
    "services/runtime/breaker.py",
    "services/runtime/errors.py",
    *(
        f"services/runtime/identity/{name}.py"
        for name in ("caller", "doorkeeper", "keys", "mesh", "policy", "tokens")
    ),
    "services/runtime/routes.py",
    "services/runtime/wish.py",
    "services/generation/engine/scheduler.py",
    "services/generation/engine/fairness.py",
    "services/generation/engine/plan.py",
    "services/generation/engine/deadlines.py",
    "services/generation/engine/estimate.py",
    "services/generation/engine/blocks.py",
    "services/generation/engine/request.py",
    "services/generation/engine/beams.py",
    "services/sequence/sessions.py",
    "gateway/affinity.py",
    "gateway/retry_budget.py",
    "gateway/split/cut.py",
    "gateway/split/join.py",
    "gateway/singleflight.py",
    "gateway/standing.py",
    "gateway/cache_key.py",
    "gateway/lru.py",
    "gateway/trial.py",
    "gateway/uptime.py",
    "gateway/xds/endpoints.py",
    *(
        f"gateway/overload/{n}.py"
        for n in ("bounds", "gate", "latency", "limit", "line", "priority", "race", "refusals", "rules")
    ),
    *(f"gateway/steps/{name}.py" for name in ("paths", "kinds", "values", "templates", "links", "check", "graph")),
)
# What evaluation sees of a service beside its nets: how it computes them in each precision.
MEASURED = ("services.generation.appraisal", "services.generation.figures")
FILE_CEILING, FUNCTION_CEILING = 300, 60


def sources() -> list[Path]:
    return [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(path: Path) -> str:
    """`services.vision`, `services.runtime`, `gateway`, `cli` or `training`."""
    parts = path.relative_to(ROOT).parts
    return ".".join(parts[:2]) if parts[0] == "services" and len(parts) > 2 else parts[0]


def allowed(room: str, module: str) -> bool:
    """stubs ← services.runtime ← each service, gateway, cli; training and cli also see the services' nets
    and what measures them, and cli runs training. The client stands alone."""
    if not re.match(r"(services|gateway|cli|training)(\.|$)", module):
        return True
    if room == "client":
        return False
    if module == "services" or module.startswith(("services.runtime", room + ".")) or module == room:
        return room != "services.runtime" or module.startswith("services")
    seen = module.startswith(MEASURED) or any(module.startswith(f"services.{area}.models") for area in AREAS)
    return (room in ("training", "cli") and seen) or (room == "cli" and module.startswith("training"))


def test_imports_follow_the_rule() -> None:
    broken = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in sources()
        for module in imports(path)
        if not allowed(room_of(path), module)
    ]
    assert not broken, "\n".join(broken)


@pytest.mark.parametrize("name", POLICY)
def test_policy_knows_no_torch_grpc_or_redis(name: str) -> None:
    heavy = {m for m in imports(ROOT / name) if m.split(".")[0] in ("torch", "grpc", "redis", "onnxruntime")}
    assert not heavy


@pytest.mark.parametrize("room", ["gateway", "services/tokenization"])
def test_rooms_without_torch(room: str) -> None:
    heavy = [
        f"{path.relative_to(ROOT)}: {module}"
        for path in (ROOT / room).rglob("*.py")
        for module in imports(path)
        if module.split(".")[0] in ("torch", "onnxruntime") or (room == "gateway" and module.startswith("numpy"))
    ]
    assert not heavy


def long_functions(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if (node.end_lineno or 0) - node.lineno >= FUNCTION_CEILING:
            yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"


def test_files_and_functions_stay_small() -> None:
    long = [f"{p.relative_to(ROOT)}" for p in sources() if len(p.read_text().splitlines()) > FILE_CEILING]
    long += [found for path in sources() for found in long_functions(path)]
    assert not long, "\n".join(long)


def test_every_module_says_what_it_is() -> None:
    silent = [
        str(path.relative_to(ROOT)) for path in sources() if not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert not silent, "\n".join(silent)


@pytest.mark.parametrize("area", AREAS)
def test_every_service_has_the_same_file_names(area: str) -> None:
    have = {path.name for path in (ROOT / "services" / area).glob("*.py")}
    assert {"__main__.py", "settings.py", "service.py", "convert.py"} <= have


def test_pages_are_current() -> None:
    """Trees, RPCs, settings and contracts are generated; what is committed must be what the source says."""
    made = readme.made()
    assert len(made) == 4 and all(f"<!-- {part} -->" in "".join(made.values()) for part in readme.PARTS)
    stale = [page.name for page, text in made.items() if page.read_text() != text]
    assert not stale, f"{stale}: run `make readme`"


def test_what_is_said_of_security_is_tested() -> None:
    """Each test that the threat model names is there."""
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", (ROOT / "deploy" / "SECURITY.md").read_text())
    assert len(named) > 30
    for path, name in named:
        assert re.search(rf"def {name or 'test_'}", (ROOT / path).read_text()), f"{path}::{name}"
