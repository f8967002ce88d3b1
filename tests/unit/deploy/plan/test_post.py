"""What becomes of a post whose process dies: restarts with growing delays, and starts that end everything."""

from __future__ import annotations

import signal

import pytest

from roost.common.cluster.cluster_map import MemberKind
from roost.common.errors import AppError, ConfigError, DataFolderInUse, PortTaken, StartupError
from roost.common.ids import Incarnation
from roost.deploy.plan.post import Abort, Done, GiveUp, Post, PostState, Restart, Verdict, how_it_ended


def serving(now: float = 0.0) -> Post:
    post = Post("shard-1", MemberKind.SHARD)
    post.started(100, now)
    post.ready(Incarnation(7), now)
    return post


def die(post: Post, now: float, code: int = -signal.SIGKILL) -> Verdict:
    return post.ended(code, "", now)


def test_a_post_tells_of_its_process() -> None:
    post = Post("shard-1", MemberKind.SHARD)
    assert (post.state, post.restarts) == (PostState.WAITING, -1)
    post.started(100, 5.0)
    assert (post.state, post.pid, post.since, post.restarts) == (PostState.STARTING, 100, 5.0, 0)
    post.ready(Incarnation(7), 6.0)
    assert (post.state, post.incarnation) == (PostState.READY, 7)
    die(post, 7.0)
    assert (post.pid, post.incarnation, post.error) == (0, 0, "shard-1 was ended by SIGKILL")
    post.started(101, 8.0)
    assert post.error == "shard-1 was ended by SIGKILL"
    post.ready(Incarnation(8), 9.0)
    assert (post.restarts, post.error) == (1, "")


def test_deaths_in_a_row_wait_longer_each_time() -> None:
    post, delays = serving(), []
    for at in range(7):
        verdict = die(post, float(at))
        assert isinstance(verdict, Restart)
        delays.append(verdict.delay_s)
        post.started(101 + at, float(at))
        post.ready(Incarnation(8 + at), float(at))
    assert delays == [0.0, 0.1, 0.5, 1.0, 2.0, 2.0, 2.0]


def test_a_process_that_dies_while_it_starts_again_counts_in_the_row() -> None:
    post = serving()
    die(post, 1.0)
    post.started(101, 1.0)
    assert die(post, 2.0, 1) == Restart(0.1, "shard-1 ended with exit code 1 before it was ready")


def test_steady_service_begins_a_new_row() -> None:
    post = serving()
    for at, delay in ((1.0, 0.0), (10.9, 0.1), (21.0, 0.0)):
        assert die(post, at) == Restart(delay, "shard-1 was ended by SIGKILL")
        post.started(101, at)
        post.ready(Incarnation(8), at)


def test_a_member_that_ends_by_itself_is_missed() -> None:
    assert die(serving(), 1.0, 0) == Restart(0.0, "shard-1 ended with exit code 0")


@pytest.mark.parametrize(
    ("code", "error", "verdict"),
    [
        (AppError.exit_code, "no class in x.py", Abort("shard-1: no class in x.py", AppError.exit_code)),
        (PortTaken.exit_code, "", Abort("shard-1 ended with exit code 73 before it was ready", PortTaken.exit_code)),
        (-9, "", Abort("shard-1 was ended by SIGKILL before it was ready", StartupError.exit_code)),
        (1, "disk full", Abort("shard-1: disk full", StartupError.exit_code)),
    ],
)
def test_whatever_fails_in_the_first_start_ends_it_all(code: int, error: str, verdict: Abort) -> None:
    post = Post("shard-1", MemberKind.SHARD)
    post.started(100, 0.0)
    assert post.ended(code, error, 1.0) == verdict
    assert post.state is PostState.ENDED


def test_a_later_start_that_cannot_work_is_given_up() -> None:
    post = serving()
    die(post, 1.0)
    post.started(101, 1.0)
    assert post.ended(AppError.exit_code, "bad app", 2.0) == GiveUp("shard-1: bad app", AppError.exit_code)
    assert (post.state, post.error) == (PostState.FAILED, "shard-1: bad app")
    assert not post.ask_to_end()


def test_a_name_that_a_grandchild_still_holds_is_tried_again() -> None:
    post = serving()
    die(post, 1.0)
    post.started(101, 1.0)
    assert isinstance(post.ended(DataFolderInUse.exit_code, "running already", 2.0), Restart)


@pytest.mark.parametrize("ready", [True, False])
def test_a_member_that_was_told_to_end_is_not_missed(ready: bool) -> None:
    post = Post("shard-1", MemberKind.SHARD)
    post.started(100, 0.0)
    if ready:
        post.ready(Incarnation(7), 0.0)
    assert post.ask_to_end()
    post.ready(Incarnation(7), 0.5)  # its report was on its way
    assert post.state == "ending"
    assert post.ended(-signal.SIGTERM, "", 1.0) == Done()
    assert post.state == "ended"


def test_a_post_without_a_process_ends_at_once() -> None:
    post = serving()
    die(post, 1.0)
    assert not post.ask_to_end()
    assert post.state is PostState.ENDED


def test_exit_codes_in_words() -> None:
    assert how_it_ended(3) == "ended with exit code 3"
    assert how_it_ended(-signal.SIGSEGV) == "was ended by SIGSEGV"
    assert how_it_ended(-63) == "was ended by signal 63"


def test_a_post_that_leaves_is_not_staffed_again() -> None:
    post = serving()
    post.leaving = True
    assert not post.is_given_up(100.0, 10.0), "it may still have slots"
    assert die(post, 1.0) == Done()
    assert post.state is PostState.ENDED
    assert post.is_given_up(1.0, 10.0), "nobody waits for its next process"


def test_a_lost_shard_has_its_grace() -> None:
    post = serving()
    assert not post.is_given_up(1000.0, 10.0)
    die(post, 1.0)
    post.started(101, 1.0)
    die(post, 5.0)
    assert (post.is_given_up(10.9, 10.0), post.is_given_up(11.0, 10.0)) == (False, True), "from the first death on"
    post.started(102, 12.0)
    assert post.is_given_up(12.0, 10.0), "it is not back yet"
    post.ready(Incarnation(9), 13.0)
    assert not post.is_given_up(1000.0, 10.0)
    die(post, 1000.0)
    assert not post.is_given_up(1009.0, 10.0), "another death, another grace"


def test_a_post_that_has_failed_is_not_waited_for() -> None:
    post = serving()
    die(post, 1.0)
    post.started(101, 1.0)
    post.ended(AppError.exit_code, "bad app", 2.0)
    assert post.is_given_up(2.0, 10.0)


def test_a_router_retires_and_then_has_to_end() -> None:
    post = Post("router-1", MemberKind.ROUTER)
    post.adopted(100, Incarnation(7), 5.0, since=1.0)
    assert (post.state, post.pid, post.incarnation, post.since, post.restarts) == ("ready", 100, 7, 1.0, 0)
    post.retire(20.0)
    assert (post.state, post.deadline) == ("retiring", 20.0)
    assert post.ask_to_end(30.0)
    assert (post.state, post.deadline) == ("ending", 30.0)
    assert post.ended(None, "", 21.0) == Done()


def test_one_that_has_failed_may_be_tried_again() -> None:
    post = Post("router-1", MemberKind.ROUTER)
    post.adopted(100, Incarnation(7), 5.0, since=1.0)
    post.ended(None, "", 6.0)
    post.started(101, 6.0)
    assert isinstance(post.ended(ConfigError.exit_code, "no such setting", 7.0), GiveUp)
    post.try_again(9.0)
    assert (post.state, post.due_at) == ("waiting", 9.0)
    post.started(102, 9.0)
    post.ready(Incarnation(8), 9.5)
    assert (post.serves, post.error) == (True, "")


def test_an_adopted_process_that_ends_is_missed() -> None:
    post = Post("shard-1", MemberKind.SHARD)
    post.adopted(100, Incarnation(7), 5.0, since=1.0)
    assert post.ended(None, "", 6.0) == Restart(0.0, "shard-1 ended")
    assert post.due_at == 6.0


def test_a_process_that_died_unwatched_is_started_again_and_not_for_the_first_time() -> None:
    post = Post("shard-1", MemberKind.SHARD)
    post.missed(5.0)
    assert post.is_given_up(15.0, 10.0)
    post.started(101, 5.0, 60.0)
    assert (post.restarts, post.deadline) == (1, 65.0)
    assert isinstance(post.ended(1, "", 6.0), Restart)
