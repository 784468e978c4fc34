"""Settings of the tokenization service. Knows no tokenizer."""

from pydantic import Field

from services.runtime.settings import ServerSettings


class TokenizationSettings(ServerSettings):
    """`MAAS_…` variables and flags of `python -m services.tokenization`."""

    port: int = Field(50051, ge=0, le=65535, description="port to listen on; 0 = any free one")
    tokenize_model: str = Field("smollm2-135m-instruct", description="model used when a request names none")
    pool_threads: int = Field(2, ge=1, le=64, description="threads for requests too large for the event loop")
