"""One object, awake or asleep: its class, its lives, its work, its sockets, its mailbox, and what it asks of its shard
(``runtime``). Knows running, api and outgoing."""
