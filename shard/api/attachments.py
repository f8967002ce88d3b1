"""Attachments: the one value that a socket carries through hibernation, moves and crashes, as a structured clone."""

from __future__ import annotations

from typing import Any

from ...common.errors import AttachmentTooLarge
from . import structured_clone


def serialize(value: Any, limit: int) -> bytes:
    """Copy *value* into bytes.

    Args:
        value: What a structured clone carries: ``deploy/docs/attachments.md`` has the table.
        limit: Bytes that the result may have.

    Raises:
        DataCloneError: Something in *value* cannot be carried.
        AttachmentTooLarge: The result is longer than *limit*.
    """
    try:
        return structured_clone.serialize(value, limit)
    except structured_clone.CloneTooLarge as error:
        raise AttachmentTooLarge(error.size, error.limit) from None


def deserialize(data: bytes | None) -> Any:
    """A fresh copy of what was attached; ``None`` if nothing was.

    Raises:
        DataCloneError: *data* was not made by ``serialize``, or by one that knew more types.
    """
    return None if data is None else structured_clone.deserialize(data)
