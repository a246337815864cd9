"""Work done ahead: in order, bounded, and given up when nobody wants it."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from mitosight.pipeline import ahead


def test_in_order_whatever_is_done_first() -> None:
    first = threading.Event()

    def wait(number: int) -> int:
        if number == 0:
            assert first.wait(10)  # the second is done before the first
        if number == 1:
            first.set()
        return number * number

    with ThreadPoolExecutor(2) as pool:
        assert list(ahead(wait, range(6), pool, 3)) == [0, 1, 4, 9, 16, 25]
        assert list(ahead(wait, [], pool, 3)) == []


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_no_more_items_are_drawn_than_needed(depth: int) -> None:
    drawn: list[int] = []

    def items() -> object:
        for k in range(20):
            drawn.append(k)
            yield k

    with ThreadPoolExecutor(2) as pool:
        for k, result in enumerate(ahead(str, items(), pool, depth)):  # type: ignore[arg-type]
            assert result == str(k)
            assert len(drawn) == min(20, k + depth + 1)


def test_an_error_comes_in_its_turn_and_the_rest_is_given_up() -> None:
    begun: list[int] = []

    def fail(number: int) -> int:
        begun.append(number)
        if number == 2:
            raise ValueError("two")
        return number

    got = []
    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(ValueError, match="two"):
            got.extend(ahead(fail, range(100), pool, 3))  # extend takes what came before the error
        for result in ahead(fail, range(10, 110), pool, 2):
            assert result == 10
            break
    assert max(n for n in begun if n < 10) <= 5 and max(begun) <= 13
