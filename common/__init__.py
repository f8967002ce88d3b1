"""What routers and shards share: words, limits, errors and the wire between them.

Nothing here imports ``router``, ``shard`` or ``deploy``.
"""
