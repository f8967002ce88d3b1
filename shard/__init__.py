"""The shard, and what a user's class imports."""

from ..common.errors import (
    AlreadyAccepted,
    ApiError,
    AttachmentTooLarge,
    AutoResponseTooLong,
    DataCloneError,
    EventTimeoutTooLong,
    InvalidCloseCode,
    InvalidCloseReason,
    InvalidObjectId,
    InvalidResponse,
    NotAccepted,
    ObjectGone,
    ObjectReset,
    OutboxFull,
    RoostError,
    SocketClosed,
    TagTooLong,
    TooManyTags,
    TooManyWebSockets,
    WrongThreadError,
)
from .activation import WebSocketProtocolError
from .context import DurableObjectState, WebSocketRequestResponsePair
from .durable_object import DurableObject
from .namespaces import DurableObjectId, DurableObjectNamespace, Env
from .request import Headers, Query, Request, Response
from .web_socket import CloseEvent, ErrorEvent, MessageEvent, WebSocket, WebSocketPair

__all__ = [
    "AlreadyAccepted",
    "ApiError",
    "AttachmentTooLarge",
    "AutoResponseTooLong",
    "CloseEvent",
    "DataCloneError",
    "DurableObject",
    "DurableObjectId",
    "DurableObjectNamespace",
    "DurableObjectState",
    "Env",
    "ErrorEvent",
    "EventTimeoutTooLong",
    "Headers",
    "InvalidCloseCode",
    "InvalidCloseReason",
    "InvalidObjectId",
    "InvalidResponse",
    "MessageEvent",
    "NotAccepted",
    "ObjectGone",
    "ObjectReset",
    "OutboxFull",
    "Query",
    "Request",
    "Response",
    "RoostError",
    "SocketClosed",
    "TagTooLong",
    "TooManyTags",
    "TooManyWebSockets",
    "WebSocket",
    "WebSocketPair",
    "WebSocketProtocolError",
    "WebSocketRequestResponsePair",
    "WrongThreadError",
]
