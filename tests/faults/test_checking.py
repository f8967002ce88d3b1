"""The checker of the fault suite finds what it is there to find."""

from __future__ import annotations

import pytest

from tests.faults.checking import Answer, Findings, Sequence


def judged(*answers: str) -> tuple[Findings, Sequence]:
    """What a sequence of ``number previous again life`` shows."""
    findings = Findings()
    sequence = Sequence(findings, receiver=1)
    for text in answers:
        number, previous, again, life = text.split()
        sequence.take(Answer(1, int(number), int(previous), again == "again", life, "1"))
    return findings, sequence


def test_answers_in_order_prove_nothing_wrong() -> None:
    findings, sequence = judged("1 0 - a", "2 1 - a", "3 2 - b", "4 3 - b")
    assert not findings.violations
    assert (findings.handled, findings.redelivered, sequence.answered) == (4, 0, 4)


def test_a_crash_may_answer_again_in_order_if_it_says_so() -> None:
    # The crash lost the acknowledgement of 2 and 3, and the answer to 3 with its attachment.
    findings, sequence = judged("1 0 - a", "2 1 - a", "2 2 again b", "3 2 again b", "4 3 - b")
    assert not findings.violations
    assert (findings.handled, findings.redelivered, sequence.answered) == (4, 2, 4)


@pytest.mark.parametrize(
    ("kind", "answers"),
    [
        ("doubled", ["1 0 - a", "2 1 - a", "2 2 - b"]),
        ("doubled", ["1 0 - a", "2 1 - a", "2 2 - a"]),
        ("doubled", ["1 0 - a", "2 1 - a", "2 2 again a"]),
        ("doubled", ["1 0 - a", "2 2 - b"]),
        ("reordered", ["1 0 - a", "3 1 - a", "2 3 - a"]),
        ("reordered", ["1 0 - a", "3 1 - a", "2 3 - b"]),
        ("reordered", ["1 0 - a", "2 1 - a", "3 2 - a", "3 3 again b", "2 3 again b"]),
        ("stale", ["1 0 - a", "2 1 - b", "3 2 - a"]),
        ("forgotten", ["1 0 - a", "2 1 - a", "3 0 - b"]),
        ("forgotten", ["1 0 - a", "2 1 - a", "2 0 again b"]),
    ],
)
def test_a_violation_is_counted_once_under_its_name(kind: str, answers: list[str]) -> None:
    findings, _ = judged(*answers)
    assert findings.violations == {kind: 1}
    assert findings.examples[0].startswith(f"{kind}: connection 1 got ")


def test_what_was_never_answered_is_missing() -> None:
    findings, sequence = judged("1 0 - a", "4 1 - a")
    assert sequence.missing == {2, 3}
    assert (sequence.answered, findings.handled) == (2, 2)
    assert not findings.violations, "until it comes after all, it is lost and nothing else"
