"""The byte layout of the records.

A *group* is the records of one flush, back to back; a link carries it in one batch, or in several when it is large
(``session``). All numbers are little-endian. Connections appear as the 32-bit counter of their router: the other half
of their id is the link's. ``s16`` is a u16 length and that many bytes, ``s32`` the same with a u32; text is UTF-8.

Router to shard (*events*)::

    0x01 MESSAGE      u8 binary · u8 deliveries · u32 connection · u64 seq · s32 payload
    0x02 CLOSED       u8 clean · u8 deliveries · u32 connection · u64 seq · u16 code · s16 reason
    0x03 FAILED       u8 0 · u8 deliveries · u32 connection · u64 seq · u16 code · s16 description
    0x04 REQUEST      u32 request · u32 connection (0: plain HTTP) · id[32] · s16 namespace · s16 name · s16 method
                      · s32 url · headers · body
    0x06 RESTORE      u32 connection · u8 flags (1 hibernatable, 2 closed by the object, 4 has an auto-response time)
                      · u64 ordinal · u64 next_seq · f64 auto_response_time · id[32] · s16 namespace · s16 name
                      · s32 url · s16 protocol · tags · s16 attachment
    0x07 RESTORED     u32 map_version · u16 n · u16 slot[n]
    0x08 ROOM         u8 0 · u32 connection · u32 bytes: output for it that may be sent now, at least one message of any
                      size; 0: none, until the next ROOM
    0x09 MESSAGE_AHEAD u8 binary · u8 deliveries · u32 connection · u64 seq · u32 stream: a MESSAGE whose payload has
                      gone ahead
    0x0A BEHIND       u8 behind · id[32]; much output of the object waits to be written at the router: it wants no more
                      of it (or does again), as far as it is not on its way

Shard to router (*output*)::

    0x41 SEND         u8 binary · u32 n · s32 payload, then u32 connection[n]; the payload gets the group's next index
    0x42 SEND_AGAIN   u32 payload index · u32 n, then u32 connection[n]
    0x43 ACK          u32 n · u32 connection[n] · u64 first_seq[n] · u64 last_seq[n]
    0x44 CLOSE        u8 final · u32 connection · u16 code · s16 reason; 1005: a Close without a code,
                      1006: end the connection without a Close; final: no event of it is wanted any more
    0x45 ATTACHMENT   u32 connection · s16 attachment
    0x46 RESPONSE     u32 request · u16 status · u8 mode (0 plain, 1 hibernatable, 2 accept(), 3 not accepted)
                      · headers · body · if mode ≠ 0: u64 ordinal · tags · s16 attachment
    0x47 HOLD         u8 held · id[32]
    0x48 RELEASED     u32 map_version · u16 n · u16 slot[n] · u32 m · u32 connection[m] · u64 seq[m]; the events whose
                      handlers were cancelled by it
    0x49 OWED         u8 owed · u32 connection; 1: output for it waits at the shard, which wants to hear of ROOM;
                      0: none waits any more
    0x4A CUT          u8 0 · u32 connection; the shard holds too much for its clients, and for this one most
    0x4B SEND_AHEAD   u8 binary · u32 n · u32 stream, then u32 connection[n]: a SEND whose payload has gone ahead

Either way::

    0x60 OBJECT_STATE id[32] · u64 revision · u32 event_timeout_ms (0: none) · u8 has_pair · s16 request · s16 response
    0x61 AUTO_TIMES   u32 n · u32 connection[n] · f64 unix_time[n]
    0x62 PART         u32 stream · u8 form · u32 chars · s32 bytes: more of a payload that goes ahead as that stream; no
                      bytes: it does not come, and what has come of it is forgotten. form 0: bytes; else all of it is
                      a text of so many characters, the widest of them of 1 ASCII, 2 Latin-1, 3 two bytes, 4 more

A payload of some size goes **ahead** of the record that it belongs to (``shipping``): in PARTs of a batch each, between
which others' records travel. The record names its stream, and is one like any other: it takes effect when it comes, and
the stream is free again. A ``body`` is an s32, or u32 0xFFFFFFFF · u32 stream.

``headers`` is a u16 count of ``s16 name · s32 value``; ``tags`` a u8 count of ``s16``; an attachment of length 0xFFFF
was never set. ``deliveries`` counts the times that an event has been sent before. Record types 0x70 to 0x7F are kept
for calls between objects.
"""

from __future__ import annotations

import struct
import sys

MESSAGE, CLOSED, FAILED, REQUEST, RESTORE, RESTORED = 0x01, 0x02, 0x03, 0x04, 0x06, 0x07
ROOM, MESSAGE_AHEAD, BEHIND = 0x08, 0x09, 0x0A
SEND, SEND_AGAIN, ACK, CLOSE, ATTACHMENT, RESPONSE = 0x41, 0x42, 0x43, 0x44, 0x45, 0x46
HOLD, RELEASED, OWED, CUT, SEND_AHEAD = 0x47, 0x48, 0x49, 0x4A, 0x4B
OBJECT_STATE, AUTO_TIMES, PART = 0x60, 0x61, 0x62

MESSAGE_HEAD = struct.Struct("<BBBIQI")
END_HEAD = struct.Struct("<BBBIQHH")
SEND_HEAD = struct.Struct("<BBII")
SEND_AGAIN_HEAD = struct.Struct("<BII")
COUNT_HEAD = struct.Struct("<BI")
ONE_ACK = struct.Struct("<BIIQQ")
"""A whole ACK of one range, as those of a router with little to do are."""
CLOSE_HEAD = struct.Struct("<BBIHH")
ATTACHMENT_HEAD = struct.Struct("<BIH")
ROOM_HEAD = struct.Struct("<BBII")
OWED_HEAD = struct.Struct("<BBI")
RESTORE_HEAD = struct.Struct("<BIBQQd")
REQUEST_HEAD = struct.Struct("<BII")
RESPONSE_HEAD = struct.Struct("<BIHB")
SLOTS_HEAD = struct.Struct("<BIH")
STATE_HEAD = struct.Struct("<B32sQIB")
PART_HEAD = struct.Struct("<BIBII")
U16 = struct.Struct("<H")
U32 = struct.Struct("<I")
U64 = struct.Struct("<Q")

NO_ATTACHMENT = 0xFFFF
"""The length that says "never set": no attachment can be that long."""

AHEAD = 0xFFFFFFFF
"""The length that says "it has gone ahead": no payload can be that long."""

BIG_ENDIAN = sys.byteorder == "big"
"""Whether packed arrays of this machine have to be turned round."""
