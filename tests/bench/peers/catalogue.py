"""Which other engines there are, in which precisions, and what each needs. Installs and runs none."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Peer:
    """`tests.bench.peers.<module>` plays bursts in the environment `<module>`, made of `<module>.txt`.

    exported: `<module>_export`, run in the environment of that name if there is a list of requirements for it,
    makes the engine's own format for each precision; otherwise the engine reads the checkpoint as it is.
    home: it runs in this project's own environment, which has what it needs.
    """

    module: str
    precisions: tuple[str, ...]
    exported: bool = True
    home: bool = False

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
    "vllm": Peer("vllm", ("fp32",), exported=False),
    "transformers": Peer("transformers", ("fp32",), exported=False, home=True),
}
