"""What routers and shards say to each other: records, the session that loses nothing, links over ZeroMQ, large
payloads in pieces. Knows the runtime and the machine."""
