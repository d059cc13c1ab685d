"""A process that forks: the child has one thread, and a cache that it can use."""

import multiprocessing
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from cache.policies import POLICIES
from cache_manager import LRUCache

PATIENCE = 20
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def in_child(action) -> bool:
    """What the action gives in a forked child; False when it hangs or fails."""
    answer = multiprocessing.get_context("fork").SimpleQueue()
    child = multiprocessing.get_context("fork").Process(target=lambda: answer.put(action()))
    child.start()
    child.join(PATIENCE)
    if child.is_alive():
        child.kill()
        child.join()
        return False
    return child.exitcode == 0 and answer.get()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
@pytest.mark.parametrize("policy", POLICIES)
def test_a_child_does_not_wait_for_a_computation_of_its_parent(policy):
    cache, begun, end = LRUCache(policy=policy), threading.Event(), threading.Event()

    def slow():
        begun.set()
        assert end.wait(PATIENCE)
        return "the parent's"

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(cache.get_or_compute, "k", slow)
        assert begun.wait(PATIENCE)
        cache.set("there", 1)
        try:
            assert in_child(lambda: cache.get("there") == 1 and cache.get_or_compute("k", lambda: "mine") == "mine")
        finally:
            end.set()
        assert running.result(PATIENCE) == "the parent's"
    assert cache.get("k") == "the parent's"


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
@pytest.mark.parametrize("policy", POLICIES)
def test_a_fork_in_the_middle_of_others_writes_leaves_a_sound_cache(policy):
    cache, stop = LRUCache(max_size=50, policy=policy), threading.Event()

    def write(start):
        n = start
        while not stop.is_set():
            cache.set(f"k{n % 80}", n, size_mb=0.001)
            n += 1

    def sound() -> bool:
        cache.set("mine", 1, size_mb=0.001)
        stats = cache.get_stats()
        left = sum(stats[name] for name in ("evictions", "expirations", "replaced", "deleted", "cleared"))
        return cache.get("mine") == 1 and len(cache) <= 50 and stats["stored"] == stats["current_items"] + left

    with ThreadPoolExecutor(3) as pool:
        writing = [pool.submit(write, start) for start in range(3)]
        try:
            assert all(in_child(sound) for _ in range(10))
        finally:
            stop.set()
        for each in writing:
            each.result(PATIENCE)
