"""prefetch: results in order, a bounded number of items ahead, and waiting items cancelled when the consumer stops."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from ssd.runtime.prefetch import prefetch


def test_results_have_the_order_of_the_items():
    """Item 0 ends only after item 1 has started, so a second thread works while the consumer waits."""
    second_started = threading.Event()

    def square(item):
        if item == 0:
            assert second_started.wait(timeout=30)
        if item == 1:
            second_started.set()
        return item * item

    with ThreadPoolExecutor(2) as pool:
        assert list(prefetch(pool, square, range(20), ahead=3)) == [item * item for item in range(20)]


@pytest.mark.parametrize("ahead", [0, 1, 5])
def test_at_most_ahead_items_are_submitted_beyond_the_current_one(ahead):
    taken = []

    def items():
        for item in range(100):
            taken.append(item)
            yield item

    with ThreadPoolExecutor(2) as pool:
        results = prefetch(pool, abs, items(), ahead=ahead)
        assert taken == []
        for number in range(3):
            assert next(results) == number
            assert taken == list(range(number + ahead + 1))


def test_items_may_be_fewer_than_ahead():
    with ThreadPoolExecutor(2) as pool:
        assert list(prefetch(pool, abs, [-1, -2], ahead=10)) == [1, 2]
        assert list(prefetch(pool, abs, [], ahead=10)) == []


@pytest.mark.parametrize("first_fails", [False, True])
def test_waiting_items_are_cancelled_when_the_consumer_stops_or_an_item_fails(first_fails):
    started = []
    gate = threading.Event()

    def wait_except_first(item):
        started.append(item)
        if item == 0 and first_fails:
            raise ValueError("item 0")
        assert item == 0 or gate.wait(timeout=30)
        return item

    with ThreadPoolExecutor(1) as pool:
        results = prefetch(pool, wait_except_first, range(100), ahead=10)
        if first_fails:
            with pytest.raises(ValueError, match="item 0"):
                next(results)
        else:
            assert next(results) == 0
            results.close()
        gate.set()
    assert started in ([0], [0, 1])  # the only thread may have begun item 1 before the others were cancelled


def test_leaving_a_loop_cancels_waiting_items():
    """`break` closes the generator, because nothing else refers to it."""
    started = []
    gate = threading.Event()

    def wait_except_first(item):
        started.append(item)
        assert item == 0 or gate.wait(timeout=30)

    with ThreadPoolExecutor(1) as pool:
        for _ in prefetch(pool, wait_except_first, range(100), ahead=10):
            break
        gate.set()
    assert started in ([0], [0, 1])
