"""The router's own pages."""

from __future__ import annotations

import json

from roost.router.formats.page import health, home


def test_the_page_lists_the_namespaces() -> None:
    text = home(["chat-room", "counter"]).decode()
    assert text.count("<form") == 2
    assert 'data-base="chat-room/"' in text, "relative: a proxy may serve the page below a path of its own"
    assert "/chat-room/&lt;name&gt;" in text
    assert "src=" not in text
    assert "http://" not in text


def test_the_page_cannot_be_broken_by_a_name() -> None:
    assert b"<script>alert" not in home(["<script>alert(1)</script>"])


def test_every_field_and_button_says_what_it_is() -> None:
    text = home(["chat-room"]).decode()
    for element in ("<input", "<button"):
        _, _, rest = text.partition(element)
        assert "aria-label=" in rest.partition(">")[0]
    assert 'lang="en"' in text


def test_many_namespaces_stand_in_columns() -> None:
    assert b'class="namespaces"' in home(["a", "b", "c"])
    assert b'class="namespaces many"' in home([f"game-{number}" for number in range(40)])


def test_the_page_without_namespaces_says_so() -> None:
    assert b"still starting" in home([], starting=True)
    assert b"location.reload()" in home([], starting=True)
    assert b"No namespace is public here" in home([])
    for page in (home([]), home(["chat-room"])):
        assert b"location.reload()" not in page


def test_health() -> None:
    assert [health(slots_attached=n, slots=2, draining=d)[0] for n, d in ((2, False), (1, False), (2, True))] == [
        200,
        503,
        503,
    ]
    status, body = health(slots_attached=1, slots=2, draining=False)
    assert json.loads(body) == {"status": "starting", "slots_attached": 1, "slots": 2}
    assert status == 503
