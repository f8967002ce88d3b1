"""What ``web_socket_error`` gets."""

from __future__ import annotations


class WebSocketProtocolError(Exception):
    """What ``DurableObject.web_socket_error`` gets: the client broke the protocol, and was closed for it.

    Attributes:
        code: The close code that the client was sent: 1002 against the protocol, 1007 text that is not UTF-8, 1009 a
            message that is too large.
        description: What was wrong.
    """

    def __init__(self, code: int, description: str) -> None:
        self.code: int = code
        self.description: str = description
        super().__init__(f"WebSocket protocol error {code}: {description}")
