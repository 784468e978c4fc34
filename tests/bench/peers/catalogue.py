"""Which other engines there are, in which precisions, and what each needs. Installs and runs none."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Peer:
    """`tests.bench.peers.<module>` plays bursts in the environment `<module>`, made of `<module>.txt`.

    `<module>_export`, run in the environment of that name if there is a list of requirements for it, makes the
    engine's own format for each precision; in those of `as_is` the engine reads the checkpoint as it is.
    home: the package it is, of those in this project's own environment, which it runs in.
    """

    module: str
    precisions: tuple[str, ...]
    as_is: tuple[str, ...] = ()
    home: str = ""

    @property
    def program(self) -> str:
        return f"tests.bench.peers.{self.module}"

    @property
    def exporter(self) -> str:
        return f"{self.module}_export"


PEERS: Mapping[str, Peer] = {
    "openvino": Peer("openvino", ("int8", "int4")),
    "onnxruntime": Peer("onnxruntime", ("int4",)),
    "llama.cpp": Peer("llama_cpp", ("q8_0", "q4_0")),
    "vllm": Peer("vllm", ("w8a8", "fp32"), as_is=("fp32",)),
    "transformers": Peer("transformers", ("fp32",), as_is=("fp32",), home="transformers"),
    "transformers-batching": Peer("transformers_batching", ("fp32",), as_is=("fp32",), home="transformers"),
}
