"""What routers and shards can be told, each setting with its default, unit, bounds and a sentence. Read by the members
themselves, and by whoever starts them. Knows ``runtime.config``, which makes command lines of it."""
