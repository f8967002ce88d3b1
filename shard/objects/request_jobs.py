"""Requests, on their way through ``fetch``: each gets one answer, whatever becomes of its handler."""

from __future__ import annotations

from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any

from ...common.close_codes import ABNORMAL
from ...common.wire.records import HttpRequest, HttpResponse
from ..api.request import Headers, Request
from ..running.unrun import unrun
from .jobs import Job
from .misuse import SLOW_FETCH_S, Mistake
from .responses import Answer, answer_of, refusal

if TYPE_CHECKING:
    from .activation import Activation
    from .runtime import Hosted
    from .sockets import RouterPeer

TOO_MUCH_OUTPUT = "too many large responses wait at this object's process to be sent; try again later"
"""Why an answer is another than the object's."""


class RequestJob(Job):
    """A request, or a handshake.

    Args:
        owner: The object.
        peer: The router that has sent it.
        request: It.
        size: Bytes that it counts with.
    """

    __slots__ = ("request", "size")

    handler = "fetch"
    wants_answer = True

    def __init__(self, owner: Hosted, peer: RouterPeer, request: HttpRequest, size: int) -> None:
        super().__init__(owner, peer)
        self.request = request
        self.size = size

    @property
    def event(self) -> int:
        peer = self.peer
        assert peer is not None
        return peer.incarnation << 32 | self.request.connection

    @property
    def source(self) -> object:
        return self

    @property
    def url(self) -> str:
        return self.request.url

    def call(self, life: Activation) -> Any:
        handler = life.on_fetch
        if handler is None:
            return None
        request_job.set(self)  # in the handler's own context, which the tasks that it starts inherit
        request = self.request
        pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers]
        body = request.body
        assert isinstance(body, bytes)  # as it comes over a link
        return handler(Request(request.url, method=request.method, headers=Headers(pairs), body=body))

    def waits(self) -> None:
        super().waits()
        runtime = self.owner.runtime
        late = partial(runtime.misuse.note, self.owner, Mistake.SLOW_FETCH)
        self.timer = runtime.loop.call_later(SLOW_FETCH_S, late)

    def finish(self, result: Any, error: BaseException | None) -> None:
        if result is not None and error is None:
            error = unrun(result)
        if self.task is not None and not self._has_waited():
            return
        self.has_ended = True
        life = self.activation
        assert life is not None
        if life.over is not None:
            # Also when it has caught the error that should have ended it: its answer would come afterwards.
            if error is not None and not self._was_made_to_end(error):
                self.owner.runtime.errors.note(self.label, error)
            self._fail(life.why_reset)
            self.owner.runtime.closings.look_at(life)
        elif error is not None:
            if self.cancelled_for is not None and self._was_made_to_end(error):
                self._fail(self.cancelled_for.value)
            else:
                self._fail_for("the object failed while it handled the request", error)
        elif life.on_fetch is None:
            self._say_that_nobody_answers()
        else:
            self._answer(result)
        self.owner.finished(self)

    def _end_without(self, sentence: str, *, comes_again: bool) -> None:
        self._fail(sentence)  # a request that was begun never comes again

    # --- the answer ---

    def _answer(self, result: Any) -> None:
        """``fetch`` has returned *result*."""
        owner = self.owner
        try:
            answer = answer_of(owner, self.request, result)
        except BaseException as wrong:  # a Response may be of a class of the user's
            self._fail_for("the object's answer to the request is not a valid one", wrong)
            return
        mistake = answer.mistake
        if mistake is None and owner.has_unreturned(self, answer.socket):
            mistake = Mistake.NOT_RETURNED
        sentence = "" if mistake is None else owner.runtime.misuse.note(owner, mistake)
        if sentence and owner.runtime.config.development and answer.socket is None:
            self._fail(sentence)
        else:
            self._carry_out(answer)

    def _carry_out(self, answer: Answer) -> None:
        owner, peer, socket, request = self.owner, self.peer, answer.socket, self.request
        assert peer is not None
        if socket is None:
            self._respond(answer.response)
            if answer.broken:
                owner.outbox.record(peer, lambda writer: writer.close(request.connection, ABNORMAL, "", True))
        elif not peer.closed:  # else it stays among those that nobody has returned
            socket.url, socket.protocol = request.url, answer.protocol
            owner.opened(socket, peer, request.connection)
            self._respond(answer.response)
            held, socket.held = socket.held, None
            if held is not None:
                held.bind(peer, request.connection)

    def _say_that_nobody_answers(self) -> None:
        """The class has no ``fetch``."""
        runtime = self.owner.runtime
        sentence = runtime.misuse.note(self.owner, Mistake.NO_FETCH)
        if not runtime.config.development:
            sentence = f"{self.request.namespace} does not handle requests (no fetch)"
        self._fail(sentence, 501)

    def _fail_for(self, sentence: str, error: BaseException) -> None:
        """The answer is *sentence*, and the log has *error*."""
        self._fail(self.owner.runtime.errors.failed(sentence, self.label, error).text)

    def _fail(self, sentence: str, status: int = 500) -> None:
        self._respond(refusal(self.request, status, sentence))

    def _respond(self, response: HttpResponse) -> None:
        peer, outbox, runtime = self.peer, self.owner.outbox, self.owner.runtime
        responses = runtime.flow.responses
        if peer is None or peer.closed:
            return
        if not responses.takes(response):
            outbox.respond(peer, response)
        elif not responses.put(outbox, peer, response):
            runtime.counters.responses_refused += 1
            outbox.respond(peer, refusal(self.request, 503, TOO_MUCH_OUTPUT))


request_job: ContextVar[RequestJob | None] = ContextVar("roost_request", default=None)
"""The request being handled, ``None`` in other events."""
