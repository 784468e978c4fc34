"""`python -m services.tokenization`: settings → tokenizers → service → serve. Never imports torch."""

from functools import partial

from maas.tokenization.v1.tokenization_service_pb2_grpc import add_TokenizationServiceServicer_to_server
from services.runtime.floor import Floor
from services.runtime.server import main
from services.tokenization.model import TASK, files, load
from services.tokenization.pool import Pool
from services.tokenization.service import TokenizationService
from services.tokenization.settings import TokenizationSettings


async def build(floor: Floor[TokenizationSettings]) -> None:
    """Adds the service, its models and its threads to a server floor."""
    pool = Pool(floor.settings.pool_threads)
    remembering = partial(load, floor.settings.word_memo_mib << 20, floor.settings.kernels)
    host = floor.host("tokenization", remembering, {TASK: floor.settings.tokenize_model}, reads=files)
    floor.add(add_TokenizationServiceServicer_to_server, TokenizationService(host, pool))
    floor.on_close(pool.close)


if __name__ == "__main__":
    main(TokenizationSettings, build, "tokenization")
