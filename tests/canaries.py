"""Every secret that a server can be given, as a text that can be found again wherever it should not be.

What is a secret is read from the types of the settings, so that a new one is covered by itself.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError

from cli.certs import ensure
from services.runtime.identity import keys
from services.runtime.logs import JsonFormatter
from services.runtime.settings import ServerSettings, secrets_of

Settings = type[ServerSettings]


def secret_fields(cls: Settings) -> list[str]:
    """Those that hold a secret, and URLs, which can have a password in them."""
    return sorted({*secrets_of(cls), *(name for name in cls.model_fields if name.endswith("_url"))})


@dataclass
class Canaries:
    """`texts`: what must not be found, by what it is; `settings`: what brings it into a server of any kind."""

    texts: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    def of(self, cls: Settings) -> dict[str, Any]:
        """The settings that `cls` knows."""
        return {name: value for name, value in self.settings.items() if name in cls.model_fields}

    def found(self, places: Mapping[str, str]) -> list[str]:
        """Which of them is where."""
        return [
            f"{name} in {place}: …{text[max(0, at - 60) : at]}"
            for place, text in places.items()
            for name, canary in self.texts.items()
            if (at := text.find(canary)) >= 0
        ]


def canaries(classes: Iterable[Settings], folder: Path, redis: str) -> Canaries:
    """Of all secrets that these settings have, in files and out of them; `redis`: HOST:PORT of the URLs."""
    made = Canaries()
    for cls in classes:
        for name in secret_fields(cls):
            canary = made.texts[name] = sha256(name.encode()).hexdigest()
            made.settings[name] = formed(cls, name, canary, redis)
    for name, path in ensure(folder / "certs").items():
        made.settings[name.removeprefix("MAAS_").lower()] = path
    made.texts["tls_key"] = Path(made.settings["tls_key"]).read_text().splitlines()[1]
    made.texts["metrics_token"] = sha256(b"metrics").hexdigest()
    made.settings["metrics_token_file"] = folder / "token"
    (folder / "token").write_text(made.texts["metrics_token"])
    return made


def formed(cls: Settings, name: str, canary: str, redis: str = "127.0.0.1:1") -> str:
    """The canary in the form that the setting takes; ValidationError where none of these is its form."""
    about = cls.model_fields[name]
    for form in (canary, f"x-canary={canary}", f"redis://:{canary}@{redis}/0"):
        try:
            TypeAdapter(Annotated[(about.annotation, name, *about.metadata)]).validate_python(form)  # type: ignore[misc]
        except ValidationError as error:
            last = error
        else:
            return form
    raise last


def listed_key(folder: Path, made: Canaries, *roles: str) -> tuple[str, str]:
    """An API key of the file of keys, and one that looks like it and is not listed."""
    key, table = keys.new("acme", "canary", roles, None)
    lines = [f"{name} = {value!r}" for name, value in table.items()]
    (folder / "keys.toml").write_text("\n".join(["[[keys]]", *lines]).replace("'", '"'))
    made.settings["api_keys_file"] = str(folder / "keys.toml")
    forged = key[:-8] + "AAAAAAAA"
    made.texts |= {"the API key": key[-43:], "a forged API key": forged[-43:]}
    return key, forged


class Everything(logging.Handler):
    """All records of all loggers at all levels, as lines of the log without any redaction."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(JsonFormatter("canary", None, bodies=True))
        self.lines: list[str] = []
        self._levels: dict[logging.Logger, int] = {}

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{self.format(record)} {record.args}")

    def __enter__(self) -> "Everything":
        every = [one for one in logging.root.manager.loggerDict.values() if isinstance(one, logging.Logger)]
        for logger in (logging.root, *every):
            self._levels[logger] = logger.level
            logger.setLevel(logging.DEBUG)
        logging.root.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.root.removeHandler(self)
        for logger, level in self._levels.items():
            logger.setLevel(level)
