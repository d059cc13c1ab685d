"""When two calls are the same call: the keys that the decorators make."""

import enum
import gc
import io
import subprocess
import sys
import threading
from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from fractions import Fraction
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
import pytest
import torch
from PIL import Image

import cache_decorator
import cache_manager
from cache_decorator import UnkeyableError, digest

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
