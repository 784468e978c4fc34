"""The compiled parts: which transport will serve, whether the kernels are there or can be built."""

import subprocess
import sys

from cli.doctor.around import Around
from cli.doctor.finding import Findings, ok, warn
from services.runtime.compiled import FOLDER, NoCompiler
from services.runtime.h2 import native

TIMEOUT_S = 400.0
BUILT = {
    "kernels": ("services.generation.kernels.build", "generation runs in fp32 on torch, several times slower"),
    "words": ("services.tokenization.native.library", "tokenization runs on the tokenizers library, slower"),
}
COMPILER = "install g++ (Debian: `apt-get install g++`), then start again"


def transport(around: Around) -> Findings:
    """Our own HTTP/2 or grpc.aio, and why."""
    if around.environ.get("MAAS_TRANSPORT", "native") == "grpc":
        return [ok("transport", "grpc.aio, as MAAS_TRANSPORT asks for")]
    try:
        native.load()
    except NoCompiler as error:
        fix = "install g++, Python's headers and nghttp2 (Debian: `apt-get install g++ python3-dev libnghttp2-14`)"
        why = str(error).strip().splitlines()[-1]
        return [warn("transport", f"grpc.aio, three to five times the CPU of a small call: {why}", fix)]
    return [ok("transport", "native (nghttp2)")]


def kernels(around: Around) -> Findings:
    """What generation and tokenization compile on first use: found, or built here and now."""
    for name, (module, otherwise) in BUILT.items():
        done = subprocess.run(
            [sys.executable, "-m", module],
            env=dict(around.environ),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )
        if done.returncode:
            why = (done.stderr.strip() or "no reason given").splitlines()[-1]
            yield warn(name, f"{why}; {otherwise}", f"{COMPILER}; they are kept in {FOLDER}")
        else:
            yield ok(name, done.stdout.strip())
