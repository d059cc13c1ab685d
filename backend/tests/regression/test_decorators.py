"""One test per defect that the first decorators had; each fails on them."""

import asyncio
import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from cache_decorator import cached_result, cached_result_sync
from cache_manager import LRUCache, deep_size


@pytest.fixture
def cache():
    return LRUCache()


@pytest.fixture
def cached(cache):
    return cached_result_sync(cache=cache)


def test_b1_two_functions_do_not_share_a_key(cached):
    @cached
    def double(n):
        return 2 * n

    @cached
    def triple(n):
        return 3 * n

    assert (double(1), triple(1)) == (2, 3)


def test_b2_types_tell_arguments_apart(cached):
    kind = cached(lambda a: type(a).__name__)
    assert [kind(value) for value in (1, "1", True, 1.0, b"1")] == ["int", "str", "bool", "float", "bytes"]


def test_b3_separators_in_arguments_mean_nothing(cached):
    count = cached(lambda *parts, **more: len(parts) + 10 * len(more))
    assert (count("a|b"), count("a", "b"), count("a", b="1"), count("a", "b=1")) == (1, 2, 11, 2)


def test_b4_large_arrays_count_by_content(cached):
    middle = cached(lambda array: int(array[50_000]))
    one = np.zeros(100_000, dtype=np.int64)
    other = one.copy()
    other[50_000] = 1
    assert str(one) == str(other)
    assert (middle(one), middle(other)) == (0, 1)


def test_b4_a_recycled_address_means_nothing(cached, cache):
    class Thing:
        def __init__(self, n):
            self.n = n

    number = cached(lambda thing: thing.n)
    assert [number(Thing(n)) for n in range(50)] == list(range(50))
    assert len(cache) == 0


def test_b5_spellings_of_one_call_agree(cached):
    runs = []

    @cached
    def shape(quality=7, seed=0):
        runs.append(1)

    shape(), shape(7), shape(quality=7), shape(seed=0, quality=7), shape(7, 0)
    assert len(runs) == 1


def test_b6_keys_are_whole_digests(cached):
    function = cached(lambda a: a)
    assert len(function.cache_key(1).removeprefix(function.key_prefix)) == 64


def test_b8_an_unhashable_key_does_not_fail_the_call(cache):
    function = cached_result_sync(lambda a: [a], cache=cache)(lambda a: a + 1)
    assert function(1) == function(1) == 2
    assert cache.stats["hits"] == 1


def test_b9_sizes_are_deep(cached, cache):
    cached(lambda: [bytes(1_000_000) for _ in range(64)])()
    assert 64.0 <= cache.stats["current_memory_mb"] < 64.01


def test_b10_small_values_count_small(cached, cache):
    function = cached(lambda n: n)
    for n in range(1000):
        function(n)
    assert cache.stats["current_memory_mb"] < 0.1


def test_b11_identical_calls_run_once(cached):
    runs, begun, go = [], threading.Event(), threading.Event()

    @cached
    def slow():
        runs.append(1)
        begun.set()
        assert go.wait(10)

    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(slow) for _ in range(8)]
        assert begun.wait(10)
        go.set()
        [call.result(10) for call in calls]
    assert len(runs) == 1


def test_b11_identical_coroutines_run_once(cache):
    runs = []

    @cached_result(cache=cache)
    async def slow():
        runs.append(1)
        await asyncio.sleep(0)

    async def main():
        await asyncio.gather(*(slow() for _ in range(8)))

    asyncio.run(main())
    assert len(runs) == 1


def test_b12_the_plain_decorator_refuses_a_coroutine_function(cached):
    with pytest.raises(TypeError, match="async def"):

        @cached
        async def function():
            pass


def test_b13_what_was_begun_before_a_clear_is_not_stored_after(cached, cache):
    begun, go = threading.Event(), threading.Event()

    @cached
    def slow():
        begun.set()
        assert go.wait(10)
        return "old"

    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(slow)
        assert begun.wait(10)
        cache.clear()
        go.set()
        assert call.result(10) == "old"
    assert len(cache) == 0


def test_b14_enabled_may_change(cache):
    enabled, runs = [False], []
    function = cached_result_sync(enabled=lambda: enabled[0], cache=cache)(lambda: runs.append(1))
    function(), function()
    enabled[0] = True
    function(), function()
    assert len(runs) == 3


def test_b15_the_stored_object_is_returned_and_this_is_said(cached):
    function = cached(lambda: [1])
    assert function() is function()
    assert "copy" in LRUCache.__doc__


def test_sizes_of_what_is_really_held():
    class Slotted:
        __slots__ = ("data",)

        def __init__(self, data):
            self.data = data

    block, array = bytes(1_000_000), np.zeros(1_000_000, dtype=np.uint8)
    around = [block]
    around.append(around)
    tensor = torch.zeros(1_000_000, dtype=torch.uint8)

    class Mangled:
        __slots__ = ("__data",)

        def __init__(self, data):
            self.__data = data

    for value in (
        Mangled(block),
        tensor,
        tensor[:10],
        [tensor[:10], tensor[10:]],
        block,
        [block, block],
        {"a": block},
        Slotted(block),
        around,
        array,
        array[:10],
        memoryview(block),
        (array,),
    ):
        assert 1_000_000 <= deep_size(value) < 1_001_000, type(value)
    objects = np.array([block, block], dtype=object)
    assert 1_000_000 <= deep_size(objects) < 1_001_000
    assert deep_size(LRUCache) == deep_size(np) == 0


class TestResultsThatServeOnce:
    """A function that gave a generator gave an empty one the second time."""

    @pytest.mark.parametrize(
        "make", [lambda n: (i for i in range(n)), lambda n: map(str, range(n)), lambda n: iter([n])]
    )
    def test_an_iterator_is_not_stored_and_every_caller_gets_a_whole_one(self, make, caplog):
        cache = LRUCache()
        counting = cached_result_sync(cache=cache)(make)
        assert [len(list(counting(1))) for _ in range(3)] == [1, 1, 1]
        assert len(cache) == 0
        assert sum("serves once" in record.message for record in caplog.records) == 1

    def test_callers_at_once_get_one_each(self):
        begun, both = threading.Event(), threading.Barrier(2)

        @cached_result_sync(cache=LRUCache())
        def numbers():
            begun.set()
            with contextlib.suppress(threading.BrokenBarrierError):
                both.wait(0.2)  # the second caller waits for the first one's run, if it is let
            return iter([1, 2, 3])

        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(lambda: list(numbers()))
            assert begun.wait(10)
            second = pool.submit(lambda: list(numbers()))
            assert first.result(10) == second.result(10) == [1, 2, 3]

    def test_an_async_function_may_return_an_async_generator(self):
        async def count():
            for n in range(3):
                yield n

        @cached_result(cache=LRUCache())
        async def numbers():
            return count()

        async def twice():
            return [[n async for n in await numbers()] for _ in range(2)]

        assert asyncio.run(twice()) == [[0, 1, 2], [0, 1, 2]]
