"""Callers of several tenants for tests: a file of their keys, and what each sends."""

from pathlib import Path

import tomli_w

from services.runtime.identity import keys

MESH_KEY = "ab" * 32


class Tenants:
    """`whose[name]`: the metadata of a caller of tenant `name`."""

    def __init__(self, folder: Path, *names: str) -> None:
        self.file = folder / "keys.toml"
        self._keys = {name: keys.new(name, name, [], None) for name in names}
        self.file.write_text(tomli_w.dumps({"keys": [entry for _, entry in self._keys.values()]}))

    def __getitem__(self, name: str) -> tuple[tuple[str, str], ...]:
        return (("x-api-key", self._keys[name][0]),)
