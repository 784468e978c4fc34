"""From a peer's name to its command: environment, checkpoint, own format. Each is made once and kept."""

import json
import shutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from services.runtime.store.manifest import Manifest
from services.runtime.store.store import ModelStore
from tests.bench.peers import environments
from tests.bench.peers.catalogue import PEERS, Peer
from tests.bench.peers.environments import NotInstalled

EXPORT_S = 900.0
SPECIAL = {"bos_token", "eos_token", "pad_token", "unk_token"}


@dataclass(frozen=True, slots=True)
class Ready:
    """An engine that can be started: `python -m module model threads`. `release`: its package and version."""

    name: str
    release: str
    python: Path
    module: str
    model: Path


@dataclass(frozen=True, slots=True)
class Missing:
    """A peer that is not measured, and why."""

    name: str
    reason: str


async def prepare(
    asked: Iterable[str] | None, store: ModelStore, model: str, root: Path, tell: Callable[[str], None]
) -> tuple[list[Ready], list[Missing]]:
    """Engines of the peers `asked` for, each made if need be; None = those that are installed under `root`."""
    manifest = store.resolve(model)
    shop = Workshop(root, checkpoint(manifest, store.directory(manifest), root / "checkpoints"), _short(manifest))
    ready, missing = list[Ready](), list[Missing]()
    wish = PEERS.keys() if asked is None else set(asked)
    for name, peer in PEERS.items():
        if name not in wish:
            missing.append(Missing(name, "not asked for"))
        elif asked is None and not shop.has(peer):
            missing.append(Missing(name, f"not installed; `--peers {name}` does it"))
        else:
            tell(f"preparing {name}")
            try:
                ready += await shop.make(name, peer)
            except NotInstalled as reason:
                missing.append(Missing(name, f"not installed: {reason}"))
    return ready, missing


@dataclass(frozen=True, slots=True)
class Workshop:
    """Makes what is missing under `root`, an absolute path; `short` names the weights."""

    root: Path
    checkpoint: Path
    short: str

    def has(self, peer: Peer) -> bool:
        return bool(peer.home) or environments.made(self.root, peer.module)

    async def make(self, name: str, peer: Peer) -> list[Ready]:
        """The peer in each of its precisions. NotInstalled if any step fails."""
        log = self._log(peer)
        if not peer.home:
            await environments.make(self.root, peer.module, log)
        python = Path(sys.executable) if peer.home else environments.python(self.root, peer.module)
        release = f"{peer.home} {version(peer.home)}" if peer.home else environments.release(peer.module)
        return [
            Ready(f"{name} {precision}", release, python, peer.program, await self._model(peer, precision, log))
            for precision in peer.precisions
        ]

    async def _model(self, peer: Peer, precision: str, log: Path) -> Path:
        """The checkpoint, or the engine's own format of it, which is moved to its place when it is whole."""
        if precision in peer.as_is:
            return self.checkpoint
        place, half = self._places(peer, precision)
        if half is None:
            return place
        own = environments.wanted(peer.exporter).is_file()
        environment = peer.exporter if own else peer.module
        await environments.make(self.root, environment, log)
        python = str(environments.python(self.root, environment))
        arguments = (str(self.checkpoint), str(half), precision)
        await environments.call(log, EXPORT_S, python, "-m", f"{peer.program}_export", *arguments)
        return half.rename(place)

    def _places(self, peer: Peer, precision: str) -> tuple[Path, Path | None]:
        """Where the format belongs, and where to make it: None if it is there."""
        place = self.root / "exports" / f"{peer.module}-{precision}-{self.short}"
        if place.exists():
            return place, None
        place.parent.mkdir(parents=True, exist_ok=True)
        half = place.with_name(f"{place.name}.half")
        shutil.rmtree(half, ignore_errors=True)
        half.unlink(missing_ok=True)
        return place, half

    def _log(self, peer: Peer) -> Path:
        log = self.root / f"{peer.module}.log"
        log.write_bytes(b"")
        return log


def checkpoint(manifest: Manifest, version: Path, root: Path) -> Path:
    """The version as a folder that converters read: config.json, and links to weights and tokenizer."""
    folder = root / _short(manifest)
    folder.mkdir(parents=True, exist_ok=True)
    architecture = {"architectures": [manifest.architecture], "torch_dtype": "float32"}
    (folder / "config.json").write_text(json.dumps({**manifest.config, **architecture}, indent=1))
    words = manifest.tokenizer.model_dump(include=SPECIAL, exclude_none=True) if manifest.tokenizer else {}
    words["tokenizer_class"] = "PreTrainedTokenizerFast"
    (folder / "tokenizer_config.json").write_text(json.dumps(words, indent=1))
    for name in ("model.safetensors", "tokenizer.json"):
        link = folder / name
        link.unlink(missing_ok=True)
        link.symlink_to(version.absolute() / name)
    return folder


def _short(manifest: Manifest) -> str:
    """The digest, as a name for a folder."""
    return manifest.digest.removeprefix("sha256:")[:12]
