"""Which shard has an object's slot, and what waits for it: attaching and parking, requests, what kills shards, and
what shards say. Knows websocket, clients and formats."""
