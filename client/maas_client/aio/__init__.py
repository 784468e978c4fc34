"""The client for asyncio, on grpc.aio."""
