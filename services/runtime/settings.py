"""One typed, frozen settings object a process, read once from `MAAS_…` variables and flags."""

import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, get_args

from pydantic import AfterValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.runtime import redaction
from services.runtime.identity.settings import IdentitySettings, readable
from services.runtime.telemetry.guard import token
from services.runtime.tls.settings import TlsSettings, is_loopback
from services.runtime.tracing.settings import TraceSettings

S = TypeVar("S", bound="ServerSettings")

METRICS_OFFSET = 4000


def _loads(path: str) -> str:
    redaction.load(path)
    return path


TokenPath = Annotated[Path | None, readable(token)]
RedactorPath = Annotated[str, AfterValidator(_loads)]


class ServerSettings(IdentitySettings, TlsSettings, TraceSettings):
    """What every server needs. Services add their own fields in their `settings.py`."""

    model_config = SettingsConfigDict(
        env_prefix="MAAS_", frozen=True, cli_kebab_case=True, cli_implicit_flags=True, cli_hide_none_type=True
    )

    # Whether gateways may send it short calls together; one gateway is never behind another.
    takes_envelopes: ClassVar[bool] = True

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(0, ge=0, le=65535, description="port to listen on; 0 = any free one")
    metrics_port: int | None = Field(
        None, ge=0, le=65535, description="Prometheus port; unset = port + 4000, 0 = off"
    )
    metrics_token_file: TokenPath = Field(
        None, description="file of the token that who asks for metrics must show as `authorization: Bearer`"
    )
    workers: int = Field(1, ge=1, le=64, description="processes that share the port")
    store: Path = Field(Path(".maas/store"), description="root of the model store")
    store_poll_s: float = Field(2.0, gt=0, description="how often the store is looked at for new versions")
    queue_limit: int = Field(512, ge=1, description="calls inside at once; more are refused")
    stream_idle_s: float = Field(900, gt=0, description="a stream whose caller sends nothing for this long ends")
    max_message_mib: int = Field(32, ge=1, le=1024, description="largest message, both ways, MiB")
    connections: int = Field(4096, ge=0, description="connections at once; 0 = as many as come")
    connections_of_one: int = Field(
        1024, ge=0, description="of them from one address, by the native transport; 0 = as many as come"
    )
    handshake_s: float = Field(10, gt=0, description="who connects and does not say hello by then is cut off")
    max_connection_age_s: float = Field(0, ge=0, description="close connections after this; 0 = never")
    lame_duck_s: float = Field(3.0, ge=0, description="seconds of accepting after NOT_SERVING on shutdown")
    drain_s: float = Field(25.0, ge=0, description="seconds that calls in progress have to end on shutdown")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level logged")
    access_log_per_s: int = Field(
        20, ge=0, description="answered calls that get a line in the log each second at most, and refused ones"
    )
    log_bodies: bool = Field(False, description="log the texts of requests, redacted, at most 2 KB of each")
    redact: bool = Field(True, description="personal data and secrets out of every text that is logged")
    redactor: RedactorPath = Field("", description="package.module:function, str → str, in place of the own one")
    transport: Literal["grpc", "native"] = Field(
        "native", description="HTTP/2 by grpc.aio, or by nghttp2 on the event loop"
    )
    uvloop: bool = Field(True, description="run on uvloop instead of the stock event loop")
    device: str = Field("cpu", description="torch device: cpu, cuda, cuda:1 …")
    threads: int = Field(1, ge=1, le=256, description="compute threads of this process")

    @model_validator(mode="after")
    def _nothing_in_clear(self) -> Self:
        if not (self.tls or self.plaintext or is_loopback(self.host)):
            raise ValueError(
                f"{self.host} would be served in clear: set MAAS_TLS_CERTIFICATE and MAAS_TLS_KEY, "
                "or MAAS_PLAINTEXT=true where something else encrypts"
            )
        return self

    @property
    def metrics_address(self) -> tuple[str, int] | None:
        """Where Prometheus may ask; None = nowhere."""
        if self.metrics_port == 0 or (self.metrics_port is None and not self.port):
            return None
        return self.host, self.metrics_port or self.port + METRICS_OFFSET

    @property
    def body_redactor(self) -> redaction.Redactor | None:
        """What the text of a request passes on its way to the log; None = it does not go there."""
        return redaction.load(self.redactor) if self.log_bodies else None

    @property
    def log_redactor(self) -> redaction.Redactor | None:
        """What every other text passes; None = nothing."""
        return redaction.load(self.redactor) if self.redact else None

    @property
    def max_message_bytes(self) -> int:
        return self.max_message_mib * 1024 * 1024


def load(cls: type[S], argv: Sequence[str], prog: str) -> S:
    """Settings from environment and `argv`; a bad value names key, value and wanted type and ends the process.

    A secret's value is never shown, and refused as a flag.
    """
    hidden = secrets_of(cls)
    _refuse_flags(hidden, argv, prog)
    try:
        return cls(_cli_parse_args=list(argv), _cli_prog_name=prog)
    except ValidationError as error:
        for problem in error.errors():
            if not problem["loc"]:
                # Of several settings together: what it was given is all of them, secrets too.
                print(f"{prog}: {problem['msg'].removeprefix('Value error, ')}", file=sys.stderr)
                continue
            key = "_".join(str(part) for part in problem["loc"])
            value = repr(problem["input"])
            # A bad URL does not tell where its password is; without a scheme it has none.
            secret = problem["loc"][0] in hidden or (key.endswith("_url") and re.search("@|//", value) is not None)
            shown = "(hidden)" if secret else redaction.redact(value)
            print(f"{prog}: {_variable(key)}={shown}: {problem['msg']}", file=sys.stderr)
        raise SystemExit(2) from None


def _refuse_flags(hidden: Iterable[str], argv: Sequence[str], prog: str) -> None:
    """Every user of a machine can read the flags of its processes. An abbreviated flag is one too."""
    words = [word.split("=")[0] for word in argv]
    for name in hidden:
        flag = f"--{name.replace('_', '-')}"
        if any(len(word) > 2 and flag.startswith(word) for word in words):
            print(f"{prog}: {flag} is no flag: others could read it; set {_variable(name)}", file=sys.stderr)
            raise SystemExit(2)


def secrets_of(cls: type[BaseSettings]) -> frozenset[str]:
    """The fields that hold a secret: they come from the environment alone."""
    return frozenset(name for name, field in cls.model_fields.items() if _is_secret(field.annotation))


def _is_secret(annotation: Any) -> bool:
    return annotation is SecretStr or any(map(_is_secret, get_args(annotation)))


def _variable(name: str) -> str:
    return f"MAAS_{name.upper()}"
