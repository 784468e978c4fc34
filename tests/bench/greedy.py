"""A tenant that calls and calls, in a process of its own; its key comes by stdin, what it got goes to stdout.

Usage: python -m tests.bench.greedy ADDRESS RATE SECONDS
"""

import asyncio
import json
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator
from time import perf_counter

from grpc import StatusCode, aio

from maas.tokenization.v1 import tokenization_service_pb2 as pb
from services.runtime.channels import open_channel

COUNT_TOKENS = "/maas.tokenization.v1.TokenizationService/CountTokens"
NO_STORE = (("cache-control", "no-store"),)
NAMES = {StatusCode.OK: "answered", StatusCode.RESOURCE_EXHAUSTED: "refused"}


async def arrivals(rate: float, seconds: float, seed: int) -> AsyncIterator[None]:
    """The moments of a Poisson process, as they come."""
    gap, moment = random.Random(seed), perf_counter()
    end = moment + seconds
    while (moment := moment + gap.expovariate(rate)) < end:
        await asyncio.sleep(max(0.0, moment - perf_counter()))
        yield


async def flood(address: str, key: str, rate: float, seconds: float) -> Counter[str]:
    """How its calls ended."""
    ends: Counter[str] = Counter(dict.fromkeys(NAMES.values(), 0))
    body = pb.CountTokensRequest(texts=["more and more"]).SerializeToString()
    async with open_channel(address, retry=False) as channel:
        rpc = channel.unary_unary(COUNT_TOKENS)

        async def one() -> None:
            try:
                await rpc(body, metadata=(*NO_STORE, ("x-api-key", key)))
                ends["answered"] += 1
            except aio.AioRpcError as error:
                ends[NAMES.get(error.code(), str(error.code()))] += 1

        await one()
        print("begun", flush=True)
        tasks = [asyncio.create_task(one()) async for _ in arrivals(rate, seconds, 0)]
        await asyncio.gather(*tasks)
    return ends


def main() -> None:
    address, rate, seconds = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
    key = sys.stdin.readline().strip()
    print(json.dumps(asyncio.run(flood(address, key, rate, seconds))))


if __name__ == "__main__":
    main()
