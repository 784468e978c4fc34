"""Settings of the tokenization service. Knows no tokenizer."""

from pathlib import Path

from pydantic import Field

from services.runtime.compiled import FOLDER
from services.runtime.settings import ServerSettings


class TokenizationSettings(ServerSettings):
    """`MAAS_…` variables and flags of `python -m services.tokenization`."""

    port: int = Field(50051, ge=0, le=65535, description="port to listen on; 0 = any free one")
    tokenize_model: str = Field("smollm2-135m-instruct", description="model used when a request names none")
    pool_threads: int = Field(2, ge=1, le=64, description="threads for requests too large for the event loop")
    kernels: Path = Field(FOLDER, description="where the native models of words are kept once they are built")
    word_memo_mib: int = Field(
        32, ge=0, le=4096, description="MiB of words that each model remembers with their ids; 0 = none"
    )
