"""`python -m tests.deploy.image SERVICE STORE [FLAG…]`, in a mount namespace of its own: takes the steps of
deploy/Dockerfile over this machine as the base image, then starts the entry point as a container would.

The base is an overlay of this Debian, so every step runs, as root in it, and nothing of the machine changes. What
an engine does besides is done by unshare and setpriv: a process 1, a read-only root, the user, no capabilities.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.deploy.dockerfile import FILE, ROOT, Stage, Step, environment, stages

BASE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# As the machine reaches its package index; not the image's.
PASSED = ("PIP_", "SSL_", "REQUESTS_", "http", "HTTP", "no_proxy", "NO_PROXY")


def mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True)


class Container:
    """An overlay over `/` in which the steps of one stage are taken."""

    def __init__(self, folder: Path, argument: Mapping[str, str], earlier: Mapping[str, "Container"]) -> None:
        self._argument, self._earlier = argument, earlier
        self.env = {"PATH": BASE_PATH}
        self.folder, self.entry, self.user = "/", [""], "0:0"
        layers = {name: folder / name for name in ("upper", "work", "root")}
        for layer in layers.values():
            layer.mkdir(parents=True)
        options = f"lowerdir=/,upperdir={layers['upper']},workdir={layers['work']}"
        mount("-t", "overlay", "overlay", "-o", options, layers["root"])
        self.root = layers["root"]
        for name in ("proc", "dev"):
            mount("--rbind", f"/{name}", self.root / name)
        mount("-t", "tmpfs", "tmpfs", "-o", "mode=1777", self.root / "tmp")
        self._is_the_base()

    def _is_the_base(self) -> None:
        """An official image of Python has it as `python`; what this machine has there is no part of one."""
        (self.root / "usr/local/bin/python").unlink(missing_ok=True)
        (self.root / "usr/local/bin/python").symlink_to("/usr/bin/python3")

    def take(self, step: Step) -> None:
        match step.kind:
            case "ENV":
                self.env |= environment(step, self.env)
            case "RUN":
                self._run(step.text)
            case "COPY":
                self._copy(step.words)
            case "WORKDIR":
                self.folder = step.text
                self.within(step.text).mkdir(parents=True, exist_ok=True)
            case "USER":
                self.user = step.text
            case "ENTRYPOINT":
                self.entry = step.words
            case "ARG":
                pass
            case unknown:
                raise ValueError(f"no {unknown} is known here")

    def within(self, path: str) -> Path:
        return self.root / os.path.join(self.folder, path).lstrip("/")  # noqa: PTH118

    def _run(self, command: str) -> None:
        passed = {name: value for name, value in os.environ.items() if name.startswith(PASSED)}
        inside = ["chroot", self.root, "sh", "-c", f"cd {self.folder} && {command}"]
        subprocess.run(inside, env={**passed, **self._argument, **self.env}, check=True, stdout=sys.stderr)

    def _copy(self, words: list[str]) -> None:
        *sources, target = [word for word in words if not word.startswith("--")]
        origin = next((word.removeprefix("--from=") for word in words if word.startswith("--from=")), "")
        for source in sources:
            found = self._earlier[origin].within(source) if origin else ROOT / source
            to = self.within(target)
            if found.is_dir():
                clean = None if origin else shutil.ignore_patterns("__pycache__")
                shutil.copytree(found, to, symlinks=True, ignore=clean, dirs_exist_ok=True)
            else:
                to = to / found.name if target.endswith("/") else to
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(found, to)

    def start(self, store: Path, flags: list[str]) -> None:
        """In the place of this process, as process 1 of a namespace; only /tmp can be written."""
        shelf = self.within(self.env["MAAS_STORE"])
        shelf.mkdir(parents=True, exist_ok=True)
        mount("--bind", "-o", "rw" if self._argument["SERVICE"] == "suite" else "ro", store, shelf)
        mount("-o", "remount,ro", self.root)
        user, group = self.user.split(":")
        jail = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc=/proc"]
        inside = [f"--root={self.root}", f"--wd={self.folder}"]
        rights = ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", "--no-new-privs"]
        command = [*jail, *inside, *rights, "--bounding-set=-all", *self.entry, *flags]
        os.execvpe(command[0], command, self.env | {"MAAS_PLAINTEXT": "true"})


def built(stage: Stage, folder: Path, argument: Mapping[str, str], earlier: Mapping[str, Container]) -> Container:
    container = Container(folder, argument, earlier)
    for step in stage.steps:
        container.take(step)
    return container


def main(service: str, store: Path, flags: list[str]) -> None:
    folder = Path("/mnt")
    mount("-t", "tmpfs", "tmpfs", folder)
    done: dict[str, Container] = {}
    for number, stage in enumerate(stages(FILE.read_text())):
        done[stage.name] = built(stage, folder / str(number), {"SERVICE": service}, done)
    print("built", file=sys.stderr, flush=True)
    done[""].start(store, flags)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]).resolve(), sys.argv[3:])
