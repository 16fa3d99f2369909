"""Read ahead of whoever consumes, in a thread: reading and encoding overlap with computing."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from queue import Empty, Queue
from threading import Event, Thread
from typing import Generic, TypeVar

T = TypeVar("T")

#: Seconds between two looks at a reader that was told to stop.
_LOOK = 0.02


def ahead(source: Iterable[T], *, waiting: int = 4) -> Generator[T, None, None]:
    """The items of ``source`` in their order, at most ``waiting`` of them made before they are asked for.

    What the source raises is raised where its item would have come, after all items before it. Whoever stops
    early closes this generator: the reader then ends after the item at hand, its source is closed in the
    reader's thread, and what closing raises is raised here. What an item that nobody asks for would have
    raised is not: read in turn, it would not have been made.

    Args:
        source: is iterated in another thread.
        waiting: items that may wait, at least one; the reader holds one more.

    Raises:
        ValueError: nothing may wait.
    """
    if waiting < 1:
        raise ValueError(f"At least one item must be allowed to wait, got {waiting}.")
    return _consumed(_Reader(source, waiting))


class _Reader(Generic[T]):
    """Iterates in a thread of its own."""

    def __init__(self, source: Iterable[T], waiting: int) -> None:
        self.queue: Queue[tuple[T] | None] = Queue(waiting)
        self.error: BaseException | None = None
        self.failed_to_close: BaseException | None = None
        self._source, self._stop = source, Event()
        self._thread = Thread(target=self._read, name="reader", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _read(self) -> None:
        try:
            items = iter(self._source)
            try:
                self._pass_on(items)
            finally:
                self._close(items)
        except BaseException as error:  # it is raised in the other thread, whatever it is
            self.error = error
        self.queue.put(None)

    def _pass_on(self, items: Iterator[T]) -> None:
        for item in items:
            self.queue.put((item,))
            if self._stop.is_set():
                return

    def _close(self, items: Iterator[T]) -> None:
        try:
            if isinstance(items, Generator):
                items.close()
        except BaseException as error:
            self.failed_to_close = error

    def stop(self) -> None:
        """Returns when the thread has ended; it may be waiting for a place in the queue."""
        self._stop.set()
        while self._thread.is_alive():
            try:
                self.queue.get(timeout=_LOOK)
            except Empty:
                continue
        self._thread.join()


def _consumed(reader: _Reader[T]) -> Generator[T, None, None]:
    reader.start()
    try:
        while (passed := reader.queue.get()) is not None:
            yield passed[0]
        if reader.error is not None:
            raise reader.error
    finally:
        reader.stop()
        if reader.failed_to_close is not None:
            raise reader.failed_to_close
