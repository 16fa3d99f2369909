"""Reading ahead against reading in turn."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from features.prefetch import ahead


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "reader"]


def test_items_come_in_order_and_the_thread_ends() -> None:
    assert list(ahead(range(1000), waiting=3)) == list(range(1000))
    assert list(ahead([])) == []
    assert not readers()


def test_an_error_comes_after_all_items_before_it_and_says_where_it_was() -> None:
    def broken() -> Iterator[int]:
        yield from range(5)
        raise KeyError("here")

    seen: list[int] = []
    with pytest.raises(KeyError, match="here") as caught:
        seen.extend(ahead(broken(), waiting=2))
    assert seen == list(range(5))
    assert "broken" in {entry.name for entry in caught.traceback}
    assert not readers()


def test_a_source_that_cannot_be_begun_raises_too() -> None:
    with pytest.raises(TypeError, match="not iterable"):
        list(ahead(3))  # type: ignore[arg-type]


def test_no_more_is_made_than_may_wait_and_closing_closes_the_source_in_its_thread() -> None:
    made, closed_in, asked = [], [], threading.Semaphore(0)

    def source() -> Iterator[int]:
        try:
            for item in range(100):
                made.append(item)
                asked.release()
                yield item
        finally:
            closed_in.append(threading.current_thread().name)

    items = ahead(source(), waiting=2)
    assert made == []
    assert next(items) == 0
    for _ in range(4):  # the one that was taken, two that wait, and one that has no place yet
        assert asked.acquire(timeout=10)
    assert not asked.acquire(timeout=0.05)
    assert made == [0, 1, 2, 3]
    items.close()
    assert closed_in == ["reader"]
    assert len(made) <= 5
    assert not readers()


def test_what_closing_the_source_raises_is_not_lost() -> None:
    def source() -> Iterator[int]:
        try:
            yield from range(100)
        finally:
            raise OSError("disk")

    items = ahead(source(), waiting=1)
    next(items)
    with pytest.raises(OSError, match="disk"):
        items.close()
    assert not readers()


def test_a_consumer_that_fails_ends_the_reader() -> None:
    def consume() -> None:
        items = ahead(iter(range(100)), waiting=1)
        try:
            for _ in items:
                raise ZeroDivisionError
        finally:
            items.close()

    with pytest.raises(ZeroDivisionError):
        consume()
    assert not readers()


def test_nothing_may_wait_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="At least one"):
        ahead([1], waiting=0)
