"""What objects have said, on its way to the routers: outboxes, what is held back for connections that are full, large
payloads, acknowledgements, and the flush at the end of a turn. Knows routers by their links, and no other folder."""
