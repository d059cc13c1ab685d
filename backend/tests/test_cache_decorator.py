"""What users of the decorators rely on: when two calls are the same call, and what is done about it."""

import asyncio
import enum
import gc
import io
import logging
import re
import subprocess
import sys
import threading
from collections import OrderedDict, namedtuple
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from fractions import Fraction
from functools import partial, wraps
from pathlib import Path, PurePosixPath, PureWindowsPath
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
import pytest
import torch
from PIL import Image

import cache_decorator
import cache_manager
from cache_decorator import UnkeyableError, cached_result, cached_result_sync, digest
from cache_manager import LRUCache

Point = namedtuple("Point", "x y")
Place = namedtuple("Place", "x y")


class Colour(enum.Enum):
    RED = 1
    BLUE = 2
    BOTH = (1, 2)


class Paint(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    ONE = 1


@dataclass(frozen=True)
class Options:
    quality: int
    seed: int = 0


@dataclass
class Others:
    quality: int
    seed: int = 0


class Outer:
    class Inner:
        pass

    @staticmethod
    def helper():
        pass


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


class TestDigest:
    def test_whatever_differs_in_type_or_content_differs(self):
        array = np.arange(6, dtype=np.int32)
        tensor = torch.arange(6, dtype=torch.int32)
        image = Image.new("L", (2, 3), 5)
        values = [
            *(None, ..., True, False, 0, 1, -1, 10**5000, 1.0, 0.0, -0.0, float("nan"), float("inf"), 1j),
            *("", "1", "True", "None", b"", b"1", bytearray(b"1"), "ä", "\udcff"),
            *([], (), {}, set(), frozenset(), OrderedDict(), [1], (1,), {1}, frozenset({1}), {1: 1}, [[1]], [(1,)]),
            *(("a|b",), ("a", "b"), ("ab",), ["a", ["b"]], ["a", "b", []], {"a": "b"}, [("a", "b")]),
            *(OrderedDict(a=1, b=2), OrderedDict(b=2, a=1), {"a": 1, "b": 2}),
            *(Colour.RED, Colour.BLUE, Colour.BOTH, Paint.RED, Level.ONE, Colour, Paint, int, helper, len),
            *(Point(1, 2), Point(1, 3), Place(1, 2), (1, 2), Options(1), Options(1, 1), Others(1)),
            *(PurePosixPath("a"), PureWindowsPath("a"), Path("\udcff"), "a", Path("a"), Path("/a")),
            *(Decimal("1"), Decimal("1.0"), Fraction(1), UUID(int=1), range(1), range(0, 2)),
            *(date(2024, 1, 1), datetime(2024, 1, 1), datetime(2024, 1, 1, tzinfo=UTC), timedelta(1)),
            *(datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=1))), datetime(2024, 1, 1, fold=1)),
            *(array, array.astype(np.int64), array.reshape(2, 3), array.reshape(3, 2), array + 1, array.astype(">i4")),
            *(np.int32(1), np.int64(1), np.float64(1), np.bool_(True), np.array(1), np.array("1"), np.array([1, None])),
            *(np.zeros(0), np.zeros(0, np.int8), np.zeros((0, 2)), np.datetime64(1, "s"), torch.zeros(0)),
            *(tensor, tensor.reshape(2, 3), tensor.to(torch.int64), tensor + 1, torch.tensor(1)),
            *(torch.zeros(2, dtype=torch.bfloat16), torch.zeros(2, dtype=torch.float16), torch.zeros(2)),
            *(torch.zeros(2, requires_grad=True), torch.nn.Parameter(torch.zeros(2))),
            *(image, Image.new("L", (3, 2), 5), Image.new("P", (2, 3), 5), Image.new("L", (2, 3), 6)),
        ]
        digests = [digest(value) for value in values]
        assert len(set(digests)) == len(values)
        assert all(len(one) == 64 for one in digests)

    def test_what_is_the_same_is_the_same(self):
        array = np.arange(12).reshape(3, 4)
        for one, other in (
            ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
            ({"x", "y", "z"}, {"z", "y", "x"}),
            (Options(7), Options(7, 0)),
            (array[:, ::2], np.ascontiguousarray(array[:, ::2])),
            (torch.from_numpy(array).T, torch.from_numpy(array).T.contiguous()),
            (np.array([1, "a"], dtype=object), np.array([1, "a"], dtype=object)),
            (Path("a"), Path("a")),
            (float("nan"), float("nan")),
        ):
            assert digest(one) == digest(other)

    def test_pictures_count_by_what_they_show(self):
        picture = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
        file = io.BytesIO()
        picture.save(file, "png")
        assert digest(Image.open(file)) == digest(picture)
        turned = Image.open(file)
        turned.info["exif"] = b"turned"
        assert digest(turned) != digest(picture)
        whole, part = (Image.new("P", (2, 2)) for _ in range(2))
        part.info["transparency"] = 0
        assert digest(whole) != digest(part)
        clear, solid = (Image.new("P", (1, 1)) for _ in range(2))
        clear.putpalette(bytes([0, 0, 0, 7]), "RGBA")
        solid.putpalette(bytes([0, 0, 0, 255]), "RGBA")
        assert digest(clear) != digest(solid)
        profiled = Image.new("L", (2, 2))
        profiled.info["icc_profile"] = b"wide"
        assert digest(profiled) != digest(Image.new("L", (2, 2)))
        moving = io.BytesIO()
        Image.new("RGB", (2, 2), "red").save(moving, "gif", save_all=True, append_images=[Image.new("RGB", (2, 2))])
        with pytest.raises(UnkeyableError):
            digest(Image.open(moving))
        red, blue = (Image.new("P", (2, 2)) for _ in range(2))
        red.putpalette([255, 0, 0])
        blue.putpalette([0, 0, 255])
        assert digest(red) != digest(blue)

    def test_a_class_tells_its_instances_apart(self):
        class Model:
            def __init__(self, revision):
                self.revision = revision

            def __cache_key__(self):
                return self.revision

        class Other(Model):
            pass

        assert digest(Model("a")) == digest(Model("a")) != digest(Model("b"))
        assert digest(Model("a")) != digest("a")
        assert digest(Model("a")) != digest(Other("a"))
        assert digest(Model(["a"])) == digest(Model(["a"])) != digest(Model(["b"]))

    def test_local_classes_of_one_name_are_two(self):
        def make():
            @dataclass
            class Local:
                x: int = 1

            return Local

        first, second = make(), make()
        assert digest(first()) == digest(first()) != digest(second())

    def test_arrays_of_objects_count_by_shape_and_content(self):
        arrays = [np.array(rows, dtype=object) for rows in (["a", "b"], ["a", "c"], [["a", "b"]], [["a"], ["b"]], [])]
        arrays += [np.empty((0, 2), dtype=object), np.empty((0, 3), dtype=object)]
        assert len({digest(array) for array in arrays}) == len(arrays)

    def test_classes_that_have_died_leave_no_name_behind(self):
        def make():
            class Local:
                def __cache_key__(self):
                    return 0

            return Local

        names = set()
        for _ in range(20):
            names.add(cache_decorator._class_name(make()))
            gc.collect()
        assert len(names) == 20

    def test_what_a_subclass_adds_is_not_left_out(self):
        class More(Options):
            pass

        @dataclass(eq=False)
        class Listed(list):
            x: int = 0

        class Named(Point):
            pass

        class Number(np.float64):
            pass

        for value in (More(1), Listed(), Named(1, 2), Number(1)):
            with pytest.raises(UnkeyableError):
                digest(value)

    def test_arrays_count_by_the_names_of_their_fields(self):
        def row(*types):
            return np.array([(1, 2)], dtype=list(types))

        rows = [row(("a", "O"), ("b", "O")), row(("x", "O"), ("y", "O")), row(("a", "O"), ("b", "i4"))]
        rows += [row(("a", "O"), ("b", "i8")), row(("a", "i4"), ("b", "i8")), row(("x", "i4"), ("y", "i8"))]
        assert len({digest(one) for one in rows}) == len(rows)

    def test_what_stands_in_a_class_is_found_by_its_name(self):
        assert digest(Outer.Inner) == digest(Outer.Inner) != digest(Outer)
        assert "#" not in cache_decorator._class_name(Outer.Inner)
        assert digest(Outer.helper) == digest(Outer.helper)

    def test_time_zones(self):
        class Zone(tzinfo):
            pass

        zones = (UTC, timezone(timedelta(hours=1)), ZoneInfo("UTC"), ZoneInfo("Europe/Paris"), None)
        for kind in (lambda zone: datetime(2024, 1, 1, tzinfo=zone), lambda zone: time(1, tzinfo=zone)):
            assert len({digest(kind(zone)) for zone in zones}) == len(zones)
            with pytest.raises(UnkeyableError, match=r"time zone of type .*Zone"):
                digest(kind(Zone()))

    def test_never_by_text_or_address(self):
        class Pair(tuple):
            pass

        around = []
        around.append(around)
        for unknown in (
            object(),
            lambda: 1,
            iter([]),
            threading.Lock(),
            around,
            [object()],
            io.BytesIO(),
            partial(helper),
            Pair((1, 2)),
        ):
            with pytest.raises(UnkeyableError, match=r"^(no key for a value of type|a container that contains itself)"):
                digest(unknown)
        for masked in (np.ma.masked_array([1], [True]), torch.zeros(2).to_sparse()):
            with pytest.raises(UnkeyableError):
                digest(masked)

    def test_does_not_import_the_libraries_it_knows(self):
        code = (
            "import sys, cache_decorator as d; d.digest([1, 'a']); print({'numpy', 'torch', 'PIL'} & set(sys.modules))"
        )
        backend = Path(cache_manager.__file__).parent
        done = subprocess.run([sys.executable, "-c", code], cwd=backend, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "set()"


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
