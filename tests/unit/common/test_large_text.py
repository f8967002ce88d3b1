"""A large text that is put together from pieces: the same as if it had been decoded at once, whatever is in it."""

from __future__ import annotations

import sys

import pytest

from roost.common.errors import WireError
from roost.common.wire.records import Form, Wholes, texts
from roost.common.wire.records.texts import LargeText
from roost.router.clients.gathering import AHEAD_BYTES, Gathering, form_of

TEXTS = {
    Form.ASCII: "plain " * 100_000,
    Form.LATIN: "plain " * 90_000 + "grüße" + "plain" * 1000,
    Form.WIDE: "“" + "x" * 500_000 + "中文",
    Form.WIDEST: "x" * 700_000 + "\U0001f600" + "é" * 3000 + "中",
}


def put_together(text: str, form: Form, chars: int, step: int) -> str:
    data = memoryview(text.encode())
    large = LargeText(chars, form)
    for at in range(0, len(data), step):
        large.add(data[at : at + step])
    return large.take()


@pytest.fixture(params=[True, False], ids=["filled", "joined"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if not request.param:
        monkeypatch.setattr(texts, "_INTERFACE", None)
    else:
        assert texts._INTERFACE is not None, "CPython has it"


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("form", TEXTS)
@pytest.mark.parametrize("step", [999, 262_130])
def test_it_is_the_text(form: Form, step: int) -> None:
    text = TEXTS[form]
    assert form_of(text) is form
    made = put_together(text, form, len(text), step)
    assert made == text
    assert hash(made) == hash(text)
    assert text.startswith(made[:100])
    assert sys.getsizeof(made) <= sys.getsizeof(text) + 16, "as narrow as it can be"
    assert {made: 1}[text] == 1


@pytest.mark.parametrize("text", ["", "a", "é", "中", "\U0001f600", "aé", "xy" * 70, "\xff" * 127, "\xff" * 128])
def test_texts_of_any_length_have_a_form(text: str) -> None:
    widest = max(map(ord, text), default=0)
    wanted = (
        Form.ASCII if widest < 128 else Form.LATIN if widest < 256 else Form.WIDE if widest < 65536 else Form.WIDEST
    )
    assert form_of(text) is wanted
    if text:
        assert put_together(text, form_of(text), len(text), 1) == text


@pytest.mark.usefixtures("way")
def test_what_is_not_what_was_said_is_an_error() -> None:
    with pytest.raises(WireError, match="3 characters has 2 only"):
        put_together("ab", Form.ASCII, 3, 2)
    with pytest.raises(WireError, match="2 characters has 3"):
        put_together("abc", Form.ASCII, 2, 3)
    large = LargeText(3, Form.LATIN)
    with pytest.raises(WireError, match=r"no UTF-8"):
        large.add(memoryview(b"a\xff\xff"))
    large = LargeText(3, Form.LATIN)
    large.add(memoryview(b"ab\xc3"))
    with pytest.raises(WireError, match=r"no UTF-8"):
        large.take()


def test_a_character_wider_than_was_said_is_an_error() -> None:
    with pytest.raises(WireError, match="wider than was said"):
        put_together("ab\U0001f600", Form.LATIN, 3, 100)


@pytest.mark.parametrize("form", TEXTS)
@pytest.mark.parametrize("step", [7, 1000, 250_000])
def test_a_router_knows_the_form_of_what_it_gathers(form: Form, step: int) -> None:
    """As ``ClientFrames`` does: pieces are told as far as their characters are complete."""
    text = TEXTS[form][:300_000] if step == 7 else TEXTS[form]
    form, data = form_of(text), text.encode()
    watched: list[memoryview] = []
    gathering = Gathering(watched.append)
    done = 0
    for at in range(0, len(data), step):
        gathering.add(data[at : at + step])
        decoded = data[done : at + step].decode(errors="ignore")
        done += len(decoded.encode())
        gathering.add_text(len(decoded), form_of(decoded))
    whole = gathering.whole()
    if len(data) < AHEAD_BYTES:
        assert whole == data
        return
    assert not isinstance(whole, bytes)
    assert (whole.join(), whole.size, whole.form, whole.chars) == (data, len(data), form, len(text))
    assert [id(part) for part in whole.parts] == [id(part) for part in watched]
    parts = Wholes()
    for part in whole.parts:
        parts.add(5, part, whole.form, whole.chars)
    assert (len(parts), parts.size) == (1, len(data))
    assert parts.take(5).text() == text
    assert (len(parts), parts.size) == (0, 0)


def test_bytes_are_put_together_without_a_copy() -> None:
    parts = Wholes()
    for number in range(8):
        parts.add(1, memoryview(bytes([number]) * 300_000))
    whole = parts.take(1)
    made = whole.join()
    assert made == b"".join(bytes([number]) * 300_000 for number in range(8))
    assert whole.join() is made, "the buffer itself"


def test_what_does_not_come_is_forgotten() -> None:
    parts = Wholes()
    parts.add(1, memoryview(b"abc"), Form.ASCII, 100)
    parts.add(2, memoryview(b"abc"))
    parts.add(1, memoryview(b""))
    parts.add(9, memoryview(b""))
    assert (len(parts), parts.size) == (1, 3)
    with pytest.raises(WireError, match="stream 1"):
        parts.take(1)
