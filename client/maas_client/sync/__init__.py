"""The client for threads and notebooks, on gRPC's own blocking calls: no event loop, no thread of ours."""
