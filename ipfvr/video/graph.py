"""A chain of FFmpeg filters on decoded frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import av

Chain = Sequence[tuple[str, str]]  # names of filters and their options, as FFmpeg writes them


class Filtered:
    """A chain of filters, set up by the first frame it is given.

    Args:
        chain: the filters.
    """

    def __init__(self, chain: Chain) -> None:
        self._chain, self._graph = chain, None

    def push(self, frame: av.VideoFrame) -> Iterator[av.VideoFrame]:
        """Push a frame; yield what the chain returns, which can be nothing yet, or earlier frames."""
        if self._graph is None:
            self._graph = self._set_up(frame)
        self._graph.push(frame)
        return self._there()

    def end(self) -> Iterator[av.VideoFrame]:
        """Yield the remaining frames after the last push."""
        if self._graph is not None:
            self._graph.push(None)
            yield from self._there()

    def _set_up(self, frame: av.VideoFrame) -> av.filter.Graph:
        graph = av.filter.Graph()
        last = graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or av.time_base
        )
        for name, options in [*self._chain, ("buffersink", "")]:
            following = graph.add(name, options)
            last.link_to(following)
            last = following
        graph.configure()
        return graph

    def _there(self) -> Iterator[av.VideoFrame]:
        while True:
            try:
                yield self._graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
