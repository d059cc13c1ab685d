"""What users of the decorators rely on: what is computed once, and for whom."""

import asyncio
import logging
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial, wraps

import pytest

import cache_manager
from cache_decorator import cached_result, cached_result_sync
from cache_manager import LRUCache


def helper():
    pass


@pytest.fixture
def cache():
    return LRUCache()


@pytest.fixture
def counted(cache):
    """A decorated function of any arguments, and the list of the calls that reached it."""
    calls = []

    @cached_result_sync(cache=cache)
    def function(*args, **kwargs):
        calls.append((args, kwargs))
        return len(calls)

    return function, calls


class TestSync:
    def test_spellings_of_one_call_are_one(self, cache):
        runs = []

        @cached_result_sync(cache=cache)
        def volume(a, b=2, *rest, c=3, **more):
            runs.append(1)
            return a

        for call in (lambda: volume(1), lambda: volume(1, 2), lambda: volume(a=1), lambda: volume(c=3, b=2, a=1)):
            assert call() == 1
        assert len(runs) == 1
        volume(1, 2, 3)
        volume(1, x=1, y=2)
        volume(1, y=2, x=1)
        assert len(runs) == 3

    def test_functions_do_not_share(self, cache):
        def make(result):
            @cached_result_sync(cache=cache)
            def function():
                return result

            return function

        first, second = make(1), make(2)
        assert (first(), second(), first()) == (1, 2, 1)
        lambdas = [cached_result_sync(cache=cache)(lambda n=n: n) for n in range(3)]
        assert [function() for function in lambdas] == [0, 1, 2]

    def test_keeps_name_signature_and_errors(self, cache):
        @cached_result_sync(cache=cache)
        def documented(a):
            """What it does."""
            return a

        assert (documented.__name__, documented.__doc__) == ("documented", "What it does.")
        with pytest.raises(TypeError, match="documented"):
            documented()
        assert documented.uncached(5) == 5
        assert len(cache) == 0

    def test_enabled_is_asked_at_every_call(self, cache):
        answer, runs = [True], []

        @cached_result_sync(enabled=lambda: answer[0], cache=cache)
        def function():
            runs.append(1)

        function(), function()
        answer[0] = False
        function(), function()
        answer[0] = True
        function()
        assert len(runs) == 3
        off = cached_result_sync(enabled=False, cache=cache)(lambda: runs.append(1))
        off(), off()
        assert len(runs) == 5

    def test_none_is_a_result(self, counted, cache):
        runs = []
        nothing = cached_result_sync(cache=cache)(lambda: runs.append(1))
        assert nothing() is nothing() is None
        assert len(runs) == 1

    def test_key_function(self, cache):
        runs = []

        @cached_result_sync(lambda text, level=1: None if text == "past" else text.lower(), cache=cache)
        def function(text, level=1):
            runs.append(text)
            return text

        assert function("A") == function("a", level=5) == "A"
        assert cache.get("a") == "A"
        function("past"), function("past")
        assert runs == ["A", "past", "past"]
        assert function.cache_key("A") == "a"
        assert cached_result_sync(lambda *, n: f"{n}")(lambda *, n: n).cache_key(n=5) == "5"

    def test_a_prefix_of_its_own(self, cache):
        mesh = cached_result_sync(cache=cache, prefix="mesh/")(lambda n: [n])
        named = cached_result_sync(lambda n: f"named {n}", cache=cache, prefix="mesh/")(lambda n: [n])
        other = cached_result_sync(cache=cache)(lambda n: [n])
        mesh(1), named(1), other(1)
        assert named.cache_key(1) == "mesh/named 1"
        assert mesh.key_prefix.startswith("mesh/")
        assert cache.delete_prefix("mesh/") == 2
        assert other.cache_key(1) in cache
        assert mesh.invalidate(1) is False

    def test_keys_that_are_no_text(self, cache):
        function = cached_result_sync(lambda a: ("shape", [a]), cache=cache)(lambda a: a)
        assert (function(1), function("1")) == (1, "1")
        assert len(cache) == 2

    def test_a_key_function_that_fails_costs_only_the_cache(self, cache, caplog):
        function = cached_result_sync(lambda a: a.missing, cache=cache)(lambda a: a)
        assert (function(1), function(2)) == (1, 2)
        assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 1

    def test_unknown_types_go_past_with_one_warning(self, counted, cache, caplog):
        function, calls = counted
        for _ in range(3):
            function(object())
        assert len(calls) == 3
        assert len(cache) == 0
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        name = re.escape(function.key_prefix.removesuffix(":"))
        assert re.fullmatch(rf"calls of {name} go past the cache: no key .* builtins.object", caplog.messages[0])
        assert function.cache_key(object()) is None
        assert function.invalidate(object()) is False

    def test_invalidate_one_or_all(self, counted, cache):
        function, calls = counted
        function(1), function(2)
        assert function.invalidate(1) is True
        assert function.invalidate(1) is False
        function(1), function(2)
        assert len(calls) == 3
        function(n=3)
        assert function.invalidate(n=4) is False
        assert function.invalidate(n=3) is True
        cache.set("other", 1)
        assert cache.delete_prefix(function.key_prefix) == 2
        assert "other" in cache

    def test_the_key_is_readable_and_whole(self, counted):
        function, _ = counted
        key = function.cache_key(1)
        assert key.startswith(function.key_prefix)
        assert __name__ in function.key_prefix
        assert len(key.removeprefix(function.key_prefix)) == 64

    def test_lifetime(self):
        now = [0.0]
        cache = LRUCache(clock=lambda: now[0])
        runs = []
        function = cached_result_sync(ttl_seconds=10, cache=cache)(lambda: runs.append(1))
        function()
        now[0] = 9.0
        function()
        now[0] = 10.0
        function()
        assert len(runs) == 2

    def test_methods(self, cache):
        class Studio:
            def __init__(self, name):
                self.name = name

            def __cache_key__(self):
                return self.name

            @cached_result_sync(cache=cache)
            def render(self, n):
                return f"{self.name} {n}"

            @classmethod
            @cached_result_sync(cache=cache)
            def kind(cls, n):
                return cls.__name__ + str(n)

            @staticmethod
            @cached_result_sync(cache=cache)
            def double(n):
                return 2 * n

        class Other(Studio):
            pass

        a, b = Studio("a"), Studio("b")
        assert (a.render(1), b.render(1), Studio("a").render(1)) == ("a 1", "b 1", "a 1")
        assert len(cache) == 2
        assert (Studio.kind(1), Other.kind(1), a.double(4)) == ("Studio1", "Other1", 8)
        assert Studio.render.invalidate(a, 1) is True

    def test_methods_without_identity_are_not_cached(self, cache):
        class Plain:
            @cached_result_sync(cache=cache)
            def value(self):
                return id(self)

        assert Plain().value() is not None
        assert len(cache) == 0

    def test_errors_are_not_stored(self, cache):
        runs = []

        @cached_result_sync(cache=cache)
        def fail():
            runs.append(1)
            raise ValueError("again")

        for _ in range(2):
            with pytest.raises(ValueError, match="again"):
                fail()
        assert len(runs) == 2

    def test_refuses_what_it_cannot_cache(self):
        async def coroutine():
            pass

        def generator():
            yield

        async def async_generator():
            yield

        for wrong, what in ((coroutine, "async def"), (partial(coroutine), "async def"), (generator, "is a generator")):
            with pytest.raises(TypeError, match=what):
                cached_result_sync()(wrong)
        with pytest.raises(TypeError, match="is a generator"):
            cached_result_sync()(async_generator)
        for wrong in (helper, generator, async_generator):
            with pytest.raises(TypeError, match="async def"):
                cached_result()(wrong)
        for descriptor in (classmethod, staticmethod):
            with pytest.raises(TypeError, match="classmethod"):
                cached_result_sync()(descriptor(helper))
        with pytest.raises(TypeError, match="returns a coroutine"):
            cached_result_sync(cache=LRUCache())(lambda: coroutine())()

    def test_what_has_no_name_can_be_decorated(self, cache):
        decorate = cached_result_sync(cache=cache)
        assert [decorate(partial(lambda n: n, n))() for n in range(3)] == [0, 1, 2]

    def test_arguments_of_any_name(self, cache):
        function = cached_result_sync(cache=cache)(lambda **named: named)
        assert function(self=1, key=2, function=3) == {"self": 1, "key": 2, "function": 3}
        assert function.invalidate(self=1, key=2, function=3) is True

    def test_a_wrapper_that_changes_the_call(self, cache):
        def inner(a, b=1):
            return (a, b)

        @wraps(inner)
        def outer(*args, **kwargs):
            kwargs.setdefault("b", 2)
            return inner(*args, **kwargs)

        function = cached_result_sync(cache=cache)(outer)
        assert (function(1), function(1, b=1)) == ((1, 2), (1, 1))

    def test_one_run_for_all_who_ask_at_once(self, cache):
        runs, begun, go = [], threading.Event(), threading.Event()

        @cached_result_sync(cache=cache)
        def slow(n):
            runs.append(n)
            begun.set()
            assert go.wait(10)
            return n

        with ThreadPoolExecutor(16) as pool:
            calls = [pool.submit(slow, 1) for _ in range(16)]
            assert begun.wait(10)
            go.set()
            assert [call.result(10) for call in calls] == [1] * 16
        assert runs == [1]

    def test_recursion(self, cache):
        @cached_result_sync(cache=cache)
        def fibonacci(n):
            return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

        assert fibonacci(60) == 1548008755920
        assert cache.stats["misses"] == 61

    def test_the_cache_of_the_process_by_default(self, monkeypatch):
        monkeypatch.setattr(cache_manager, "_cache_instance", None)
        function = cached_result_sync()(lambda a: a)
        function(1)
        assert cache_manager.get_cache().stats["misses"] == 1
        function(1)
        assert cache_manager.get_cache().stats["hits"] == 1


class TestAsync:
    def test_caches_and_coalesces(self, cache):
        runs = []

        @cached_result(cache=cache)
        async def slow(n, scale=1):
            runs.append(n)
            await asyncio.sleep(0)
            return n * scale

        async def main():
            return await asyncio.gather(slow(2), slow(n=2), slow(2, scale=1), slow(3))

        assert asyncio.run(main()) == [2, 2, 2, 3]
        assert sorted(runs) == [2, 3]
        assert asyncio.run(slow(2)) == 2
        assert cache.stats["coalesced"] == 2

    def test_is_still_a_coroutine_function(self, cache):
        @cached_result(cache=cache)
        async def function():
            """Documented."""

        assert asyncio.iscoroutinefunction(function)
        assert function.__doc__ == "Documented."
        assert asyncio.run(function.uncached()) is None

    def test_past_the_cache(self, cache):
        runs = []

        @cached_result(enabled=lambda: False, cache=cache)
        async def off():
            runs.append(1)

        @cached_result(cache=cache)
        async def unknown(_):
            runs.append(1)

        for call in (off, off, lambda: unknown(object()), lambda: unknown(object())):
            asyncio.run(call())
        assert len(runs) == 4

    def test_errors_reach_all_and_are_not_stored(self, cache):
        runs = []

        @cached_result(cache=cache)
        async def fail():
            runs.append(1)
            await asyncio.sleep(0)
            raise ValueError("once")

        async def main():
            return await asyncio.gather(fail(), fail(), return_exceptions=True)

        assert all(isinstance(error, ValueError) for error in asyncio.run(main()))
        assert len(runs) == 1
        assert len(cache) == 0

    def test_shares_a_key_with_threads(self, cache):
        begun, go, runs = threading.Event(), threading.Event(), []

        @cached_result_sync(lambda: "key", cache=cache)
        def plain():
            runs.append(1)
            begun.set()
            assert go.wait(10)
            return "made"

        @cached_result(lambda: "key", cache=cache)
        async def coroutine():
            runs.append(2)

        with ThreadPoolExecutor(2) as pool:
            thread = pool.submit(plain)
            assert begun.wait(10)
            loop = pool.submit(asyncio.run, coroutine())
            go.set()
            assert (thread.result(10), loop.result(10)) == ("made", "made")
        assert runs == [1]
