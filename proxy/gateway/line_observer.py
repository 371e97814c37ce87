"""Observation of a stream of JSON lines, as the local server's own API sends them."""

from typing import Final

from proxy.gateway.stream_observer import MAX_EVENT_BYTES, MAX_EVENTS, StreamObserver
from proxy.protocol.endpoints import Endpoint

_LINE_END: Final = b"\n"


class LineObserver(StreamObserver):
    """Observes a stream of JSON lines, with the interface of `StreamObserver`.

    Lines pass unchanged, when they are complete. A line longer than `MAX_EVENT_BYTES` passes
    unseen; it may have been the last one.
    """

    __slots__ = ("_passes",)

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint, strip_usage=False)
        self._passes = False  # whether the rest of a line that is too long passes

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes; return those to send now."""
        buffer = self._tail + data if self._tail else data
        start, self.has_more = 0, False
        if self._passes:
            start = buffer.find(_LINE_END) + 1
            if not start:
                self._tail = b""
                return buffer
            self._passes = False
        for _ in range(MAX_EVENTS):
            end = buffer.find(_LINE_END, start) + 1
            if not end:
                break
            self._look(buffer[start:end])
            start = end
        else:
            self.has_more = buffer.find(_LINE_END, start) != -1
        if len(buffer) - start > MAX_EVENT_BYTES and not self.has_more:
            self.blind = self._passes = True
            start = len(buffer)
        self._tail = buffer[start:]
        return buffer[:start]

    def flush(self) -> bytes:
        """The buffered rest at the end: the last line may lack its line end."""
        parts = []
        while self.has_more:
            parts.append(self.feed(b""))
        tail, self._tail = self._tail, b""
        self._look(tail)
        if self.complete or self.failed:
            parts.append(tail)
        return b"".join(parts)

    def _look(self, event: bytes) -> bytes:
        """Observe one line. Returns it."""
        view = self._endpoint.view(event) if event.strip() else None
        if view is not None:
            self.spoke = self.spoke or view.speaks
            self._observe(view)
            if view.failed:
                self.error = event
        return event
