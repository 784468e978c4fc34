"""Generated tokens a second of our service, over gRPC, against other engines on the same weights, in process."""
