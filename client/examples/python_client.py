"""What maas_client is like: `python python_client.py ADDRESS PICTURE` with the suite up."""

import asyncio
import sys

import numpy as np

from maas_client import AsyncClient, Client, InvalidArgument, ask


def threads(address: str, picture: str) -> None:
    """The synchronous client: the same methods, without `await`."""
    with Client(address, timeout_s=30) as client:
        print("ids", client.tokenize("Hello world!")[0].ids.tolist())
        print("picture", client.classify_images(picture, top_k=1)[0].best)
        print("vectors", client.embed_texts(["a cat", "a kitten"]).vectors.shape)
        try:
            client.generate("hi", temperature=-1)
        except InvalidArgument as error:
            print("refused", error.violations[0].field, error.violations[0].description)
        calls = {"sound": ask.transduce("computer"), "count": ask.count_tokens("How many?")}
        for outcome in client.fan_out(calls):
            print(outcome.id, outcome.get()[0])


async def one_loop(address: str) -> None:
    """The asynchronous client: a chat as it is written, and a session that remembers."""
    async with AsyncClient(address) as client:
        chat = client.chat(max_tokens=32)
        async for piece in chat.stream("What is the capital of France?"):
            print(piece, end="", flush=True)
        print()
        silence = np.zeros((20, 512))
        async with client.session(sample_rate_hz=16_000) as session:
            scores = [output.scores[0] async for output in session.steps(silence)]
        print("speech", max(scores) > 0.5)


if __name__ == "__main__":
    threads(*sys.argv[1:3])
    asyncio.run(one_loop(sys.argv[1]))
