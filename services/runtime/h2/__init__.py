"""HTTP/2 by nghttp2 on the event loop, under gRPC's own handlers."""
