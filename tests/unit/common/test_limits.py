"""The limits hold the figures of the API that was asked for, and fit the wire's fields."""

from __future__ import annotations

import pytest

from roost.common import limits


@pytest.mark.parametrize(
    ("name", "figure"),
    [
        ("MAX_WEBSOCKETS_PER_OBJECT", 32_768),
        ("MAX_TAGS", 10),
        ("MAX_TAG_CHARS", 256),
        ("MAX_ATTACHMENT_BYTES", 2_048),
        ("MAX_ATTACHMENT_BYTES_SETTABLE", 16_384),
        ("MAX_AUTO_RESPONSE_CHARS", 2_048),
        ("MAX_EVENT_TIMEOUT_MS", 604_800_000),
        ("MAX_CLOSE_REASON_BYTES", 123),
        ("HIBERNATE_AFTER_S", 10.0),
        ("CLOSE_TIMEOUT_S", 10.0),
        ("SLOTS", 4_096),
    ],
)
def test_figures_that_users_were_promised(name: str, figure: float) -> None:
    assert getattr(limits, name) == figure


def test_lengths_fit_the_fields_that_carry_them() -> None:
    """Four bytes are the most that UTF-8 takes for a character; lengths travel as u16 or u32."""
    assert 4 * limits.MAX_TAG_CHARS < 1 << 16
    assert 4 * limits.MAX_AUTO_RESPONSE_CHARS < 1 << 16
    assert 4 * limits.MAX_NAME_CHARS < 1 << 16
    assert limits.MAX_TAGS < 1 << 8
    assert limits.MAX_ATTACHMENT_BYTES <= limits.MAX_ATTACHMENT_BYTES_SETTABLE < 0xFFFF
    assert limits.MAX_EVENT_TIMEOUT_MS < 1 << 32
    assert limits.MAX_BODY_BYTES < 1 << 32
    # A subprotocol or method travels as s16 and comes from a head.
    assert limits.MAX_HEAD_BYTES <= 1 << 16
    assert limits.SLOTS < 1 << 16


def test_bounds_nest() -> None:
    """One of the smaller things fits into the larger, or a single client could never be served."""
    assert limits.WINDOW_BYTES < limits.ROUTER_WINDOWS_BYTES
    assert limits.SEND_BUFFER_BYTES < limits.ROUTER_SEND_BUFFERS_BYTES
    # A window and a mailbox that are empty admit one message of any size.
    assert limits.MAX_MESSAGE_BYTES <= limits.LINK_UNCONFIRMED_BYTES
    assert limits.MAX_MESSAGE_BYTES <= limits.ROUTER_WINDOWS_BYTES // 8
    assert limits.MAX_BODY_BYTES <= limits.MAX_BODIES_IN_FLIGHT_BYTES
    assert limits.MAX_BATCH_BYTES < limits.LINK_UNCONFIRMED_BYTES


def test_every_limit_says_its_unit_and_source() -> None:
    """Each constant is followed by a sentence: the page of limits is made of them."""
    import ast
    import inspect

    body = ast.parse(inspect.getsource(limits)).body
    for statement, following in zip(body, [*body[1:], None], strict=True):
        if isinstance(statement, ast.Assign):
            name = ast.unparse(statement.targets[0])
            documented = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
            assert documented or name == "SLOT_BITS", f"{name} has no sentence"
