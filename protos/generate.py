"""Writes the stubs under `gen/` and the descriptor set `maas.binpb` from the protos; `--check` fails when what is
committed differs.

Usage: python protos/generate.py [--check | --image FILE]
"""

import argparse
import filecmp
import sys
import tempfile
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from google.rpc import status_pb2
from grpc_tools import protoc

ROOT = Path(__file__).parent
GEN = ROOT / "gen"
# For what reads contracts without the protos: Envoy, code generators, grpcurl -protoset. Error details are in it.
DESCRIPTORS = ROOT / "maas.binpb"
DETAILS = "google/rpc/error_details.proto"


def sources() -> list[str]:
    """Every proto of the suite, relative to the proto root."""
    return sorted(str(path.relative_to(ROOT)) for path in (ROOT / "maas").rglob("*.proto"))


def run_protoc(*arguments: str) -> None:
    """Runs the pinned protoc; exits with its code on failure."""
    wellknown = str(files("grpc_tools") / "_proto")
    google_rpc = str(Path(str(status_pb2.__file__)).parents[2])
    code = protoc.main(["protoc", f"-I{ROOT}", f"-I{wellknown}", f"-I{google_rpc}", *arguments, *sources()])
    if code:
        sys.exit(code)


def generate(out: Path) -> None:
    """Messages, services and their types for every proto; packages made importable."""
    scripts = Path(sys.executable).parent
    plugins = [f"--plugin=protoc-gen-{name}={scripts / f'protoc-gen-{name}'}" for name in ("mypy", "mypy_grpc")]
    outputs = [f"--{kind}_out={out}" for kind in ("python", "grpc_python")]
    outputs += [f"--{kind}_out=quiet:{out}" for kind in ("mypy", "mypy_grpc")]
    run_protoc(*plugins, *outputs)
    for folder in [out / "maas", *(p for p in (out / "maas").rglob("*") if p.is_dir())]:
        (folder / "__init__.py").touch()
    (out / "maas" / "py.typed").touch()


def describe(out: Path) -> None:
    run_protoc("--include_imports", f"--descriptor_set_out={out}", DETAILS)


def relative_files(root: Path) -> set[Path]:
    return {p.relative_to(root) for p in root.rglob("*") if p.is_file() and "__pycache__" not in p.parts}


def drift(fresh: Path) -> Iterator[str]:
    """Files that differ between a fresh generation and the committed one."""
    new, old = relative_files(fresh), relative_files(GEN)
    yield from (f"missing or stale: {path}" for path in sorted(new ^ old))
    yield from (f"differs: {p}" for p in sorted(new & old) if not filecmp.cmp(fresh / p, GEN / p, shallow=False))


def check() -> int:
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        found = list(drift(Path(folder)))
        describe(fresh := Path(folder) / DESCRIPTORS.name)
        if not DESCRIPTORS.is_file() or not filecmp.cmp(fresh, DESCRIPTORS, shallow=False):
            found.append(f"differs: {DESCRIPTORS.name}")
    print("\n".join(found) or "stubs and descriptors match the protos")
    return 1 if found else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail if the committed stubs differ")
    parser.add_argument("--image", help="write a descriptor image (the breaking-change baseline) and stop")
    options = parser.parse_args()
    if options.check:
        return check()
    if options.image:
        run_protoc("--include_imports", "--include_source_info", f"--descriptor_set_out={options.image}")
        return 0
    GEN.mkdir(exist_ok=True)
    generate(GEN)
    describe(DESCRIPTORS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
