"""One client's WebSocket: its states as a table, the window of its events, its frames, its handshake. Knows clients
and formats."""
