"""Cut-out, shape and file: each made once, booked with its own seconds, and never stored after a clear."""

import hashlib
import io
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import shapes
import trimesh
from asks import ellipse, request
from in_process import Stage, puppet
from live_server import PATIENCE, draw, encode, fresh_png
from PIL import Image

from cache_manager import LRUCache
from errors import (
    DiskFullError,
    EmptyImageError,
    GenerationCancelledError,
    OutOfMemoryError,
    ShapeLostError,
    StorageError,
    TooLargeError,
    UploadLostError,
)
from mesh.formats import FORMATS, Dimensions
from picture import cutout
from picture.decode import facts
from store.disk import Disk
from store.files import Files
from store.results import Results
from work.pipeline import Pipeline, known_failures, make_file
from work.plan import cutout_key, plan
from work.request import Picture, Silence, Wishes

READS = frozenset({"image", "quality", "seed"})


class Bench:
    """A pipeline, the pictures that it finds, and a model whose runs are counted."""

    def __init__(self, folder):
        self.files = Files(folder, folder / "uploads", folder / "outputs")
        self.cache = LRUCache()
        self.results = Results(self.cache, {}, Disk(self.files, 100))
        self.pipeline = Pipeline(self.results, self.files, 10**6, self.results.find, self.results.set)
        self.stage = Stage()
        self.model = puppet(self.stage)()
        self.model.load()
        self.stages = []

    def keep(self, data, view="front"):
        """Upload a picture."""
        known, name = facts(data, 10**6), f"job.{view}.png"
        self.files.save(self.files.upload(name), data)
        digest = hashlib.sha256(data).hexdigest()
        told = (known.extension, known.sha256, known.image_info, known.empty, known.hidden)
        return Picture(name, "a.png", *told, file_sha256=digest)

    def ask(self, data, **wishes):
        return request(self.model.id, pictures={"front": self.keep(data)}, **wishes)

    def plan(self, ask):
        return plan(ask, self.model.revision, self.model.reads)

    def make(self, ask, progress=None, cancelled=lambda: False):
        return self.pipeline.make(ask, self.plan(ask), self.model, progress or Silence(), cancelled)

    def entries(self):
        return {key.partition(":")[0]: self.cache.peek(key) for key in self.keys()}

    def keys(self):
        return [entry["key"] for entry in self.cache.get_entries_summary()]

    def convert(self, outcome, wishes):
        """As a job asks that has the outcome."""
        return self.pipeline.convert(outcome.shape_key, outcome.file.shape_sha256, outcome.file.sources, wishes)

    def named(self, outcome):
        """While the body runs its shape is kept, as for a job."""
        return self.files.blobs.holding((outcome.file.shape_sha256, outcome.shape.data))


@pytest.fixture
def bench(tmp_path):
    bench = Bench(tmp_path)
    yield bench
    bench.files.close()


@pytest.fixture
def looked_for(monkeypatch):
    """The backgrounds of the pictures in which an object was looked for."""
    seen, plain = [], cutout.foreground

    def foreground(rgba, background="auto"):
        seen.append(background)
        return plain(rgba, background)

    monkeypatch.setattr(cutout, "foreground", foreground)
    return seen


def opaque():
    return encode(Image.fromarray(ellipse()))


class TestOnce:
    def test_each_step_is_made_once(self, bench, looked_for):
        ask = bench.ask(opaque())
        first, second = bench.make(ask), bench.make(ask)
        assert (first.cached, second.cached) == (False, True)
        assert second.file is first.file
        assert (len(bench.stage.runs), looked_for) == (1, ["auto"])
        assert bench.entries().keys() == {"cutout", "shape", "file"}

    def test_another_file_is_made_of_the_same_shape(self, bench, looked_for):
        ask = bench.ask(opaque())
        bench.make(ask)
        other = bench.make(replace(ask, wishes=Wishes(format="glb", dimensions=Dimensions(width=5))))
        assert other.cached
        assert "export" in other.timings
        assert "shape" not in other.timings
        assert (len(bench.stage.runs), looked_for) == (1, ["auto"])

    def test_another_shape_is_made_of_the_same_cut_out(self, bench, looked_for):
        ask = bench.ask(opaque())
        first, second = bench.make(ask), bench.make(replace(ask, wishes=Wishes(quality=3)))
        assert not second.cached
        assert (len(bench.stage.runs), looked_for) == (2, ["auto"])
        assert ("cutout" in first.timings, "cutout" in second.timings) == (True, False)

    def test_who_looks_at_the_mask_first_has_it_cut_out_once(self, bench, looked_for):
        ask = bench.ask(opaque())
        png = bench.pipeline.mask(ask)
        assert bench.pipeline.mask(ask) == png
        bench.make(ask)
        assert looked_for == ["auto"]
        with Image.open(io.BytesIO(png)) as mask:
            assert (mask.mode, mask.size) == ("L", (96, 128))
            assert np.array_equal(np.asarray(mask), bench.stage.runs[0].image[..., 3])

    def test_an_object_that_the_file_cuts_out_is_neither_looked_for_nor_stored(self, bench, looked_for):
        data = fresh_png()
        ask = bench.ask(data)
        png = bench.pipeline.mask(ask)
        bench.make(ask)
        assert looked_for == []
        assert bench.entries().keys() == {"shape", "file"}
        alpha = np.asarray(Image.open(io.BytesIO(data)).getchannel("A"))
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(png))), alpha)
        assert np.array_equal(bench.stage.runs[0].image[..., 3], alpha)

    def test_a_picture_of_which_an_earlier_release_kept_less_is_looked_at_anew(self, bench, looked_for):
        for data, times in ((fresh_png(), 0), (opaque(), 1)):
            ask = bench.ask(data)
            front = replace(ask.pictures["front"], hidden=None)
            bench.make(replace(ask, pictures={"front": front}))
            assert len(looked_for) == times

    def test_a_mask_of_one_s_own_is_taken_instead(self, bench, looked_for):
        mask = np.zeros((64, 48), np.uint8)
        mask[:, :24] = 255
        ask = bench.ask(opaque(), mask=cutout.mask_digest(mask))
        bench.files.save(bench.files.new_mask(ask.job_id, ask.mask), cutout.mask_png(mask))
        bench.files.keep_mask(ask.job_id, ask.mask)
        bench.make(ask)
        alpha = bench.stage.runs[0].image[..., 3] > 127
        assert alpha[:, :46].all()
        assert not alpha[:, 50:].any()
        assert looked_for == []
        assert bench.entries().keys() == {"shape", "file"}
        png = bench.pipeline.mask(ask)
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(png))) > 127, alpha)

    def test_identical_requests_at_once_make_one_shape_and_each_its_own_file(self, bench):
        ask = bench.ask(opaque())
        asks = [replace(ask, wishes=Wishes(format=kind)) for kind in ("stl", "obj", "glb", "ply") * 2]
        barrier = threading.Barrier(len(asks))

        def make(each):
            barrier.wait(PATIENCE)
            return bench.make(each)

        with ThreadPoolExecutor(len(asks)) as pool:
            made = list(pool.map(make, asks))
        assert len(bench.stage.runs) == 1
        assert len({outcome.file_key for outcome in made}) == 4
        assert len({outcome.shape_key for outcome in made}) == 1
        assert [outcome.file.data for outcome in made[:4]] == [outcome.file.data for outcome in made[4:]]

    @pytest.mark.parametrize("reads_views", [True, False])
    def test_further_views_are_cut_out_and_named_if_they_are_read(self, bench, looked_for, reads_views):
        type(bench.model).reads = READS | {"views"} if reads_views else READS
        pictures = {"front": bench.keep(fresh_png()), "back": bench.keep(opaque(), "back")}
        pictures["left"] = bench.keep(fresh_png(), "left")
        bench.make(request(bench.model.id, pictures=pictures))
        options = bench.stage.runs[0].options
        assert set(options.views) == ({"back", "left"} if reads_views else set())
        assert looked_for == (["auto"] if reads_views else [])
        if reads_views:
            assert all(view.shape == (128, 96, 4) for view in options.views.values())
            assert 0 < (options.views["back"][..., 3] > 127).mean() < 1


class TestBooking:
    def test_each_entry_has_its_own_seconds_and_the_way_to_it(self, bench, monkeypatch):
        """A file used to be booked with the seconds of the model's run, and was kept in place of the shape."""
        now = [0.0]
        monkeypatch.setattr("work.pipeline.time.perf_counter", lambda: now[0])
        plain, plain_export, generate = cutout.foreground, make_file, type(bench.model).generate

        def takes(seconds, work):
            def slow(*args, **options):
                now[0] += seconds
                return work(*args, **options)

            return slow

        monkeypatch.setattr(cutout, "foreground", takes(3.0, plain))
        monkeypatch.setattr("work.pipeline.make_file", takes(0.5, plain_export))
        monkeypatch.setattr(type(bench.model), "generate", takes(40.0, generate))
        ask = bench.ask(opaque())
        outcome = bench.make(ask)
        made = bench.entries()
        assert {kind: each.own_seconds for kind, each in made.items()} == {"cutout": 3.0, "shape": 40.0, "file": 0.5}
        assert made["cutout"].seconds == {"cutout": 3.0}
        assert made["shape"].seconds == {"cutout": 3.0, "shape": 40.0}
        assert made["file"].seconds == {"cutout": 3.0, "shape": 40.0, "export": 0.5}
        assert outcome.timings == {"cutout": 3.0, "shape": 40.0, "export": 0.5, "total": 43.5}
        assert outcome.seconds_saved == 0
        booked = self.saved(bench, [bench.plan(ask).cutouts["front"], bench.plan(ask).shape, bench.plan(ask).file])
        assert booked == [3.0, 40.0, 0.5]

        again = bench.make(ask)
        assert (again.cached, again.timings, again.seconds_saved) == (True, {"total": 0.0}, 43.5)
        other = bench.make(replace(ask, wishes=Wishes(format="glb")))
        assert other.timings == {"export": 0.5, "total": 0.5}
        assert other.seconds_saved == 43.0

    @staticmethod
    def saved(bench, keys):
        """What a hit of each is said to have saved."""
        found = []
        for key in keys:
            before = bench.cache.get_stats()["seconds_saved"]
            bench.cache.get(key)
            found.append(bench.cache.get_stats()["seconds_saved"] - before)
        return found

    def test_sizes_are_those_of_the_bytes(self, bench):
        bench.make(bench.ask(opaque()))
        for entry in bench.cache.get_entries_summary():
            made = bench.cache.peek(entry["key"])
            assert made.size_mb == len(made.data) / 1e6
            assert entry["size_mb"] == pytest.approx(made.size_mb)

    @pytest.mark.parametrize("tier", ["memory", "disk"])
    def test_what_comes_from_another_tier_has_the_seconds_that_it_took(self, bench, tier):
        ask = bench.ask(opaque())
        outcome, before = bench.make(ask), bench.entries()
        bench.results.clear(tier)
        again = bench.make(ask)
        assert again.cached
        assert again.file.seconds == outcome.file.seconds
        assert (
            bench.make(replace(ask, wishes=Wishes(format="ply"))).file.seconds["shape"] == before["shape"].own_seconds
        )

    def test_a_shape_that_is_kept_for_a_job_alone_has_no_seconds(self, bench):
        outcome = bench.make(bench.ask(opaque()))
        with bench.named(outcome):
            bench.results.clear()
            converted = bench.convert(outcome, Wishes(format="ply"))
            assert converted.cached
            assert converted.file.seconds.keys() == {"export"}
            assert converted.file.sources == outcome.file.sources
            assert bench.entries()["shape"].own_seconds == 0.0

    def test_every_step_names_the_pictures_that_it_is_made_of(self, bench):
        type(bench.model).reads = READS | {"views"}
        pictures = {"front": bench.keep(opaque()), "back": bench.keep(opaque(), "back")}
        outcome = bench.make(request(bench.model.id, pictures=pictures))
        made, front = bench.entries(), pictures["front"].sha256
        both = (front, pictures["back"].sha256)
        assert (made["shape"].sources, made["file"].sources, made["cutout"].sources) == (both, both, (front,))
        assert (made["file"].shape_sha256, outcome.shape) == (made["shape"].sha256, made["shape"])
        for each in made.values():
            assert each.sha256 == hashlib.sha256(each.data).hexdigest()


class TestEnds:
    @pytest.mark.parametrize("moment", ["model", "cut-out"])
    def test_a_clear_during_a_run_stores_nothing(self, bench, monkeypatch, moment):
        ask, bench.stage.hold = bench.ask(opaque()), moment == "model"
        if moment == "cut-out":
            plain = cutout.foreground

            def foreground(*args):
                bench.results.clear()
                return plain(*args)

            monkeypatch.setattr(cutout, "foreground", foreground)
        with ThreadPoolExecutor(1) as pool:
            making = pool.submit(bench.make, ask)
            if bench.stage.hold:
                run = bench.stage.next_run()
                bench.results.clear()
                run.end()
            outcome = making.result(PATIENCE)
        assert outcome.file.data
        assert (len(bench.cache), len(bench.results)) == (0, 0)
        assert outcome.shape.sha256 == outcome.file.shape_sha256, "the job can be converted all the same"

    def test_who_gives_up_stores_nothing_and_who_joined_the_shape_makes_it(self, bench):
        ask, bench.stage.hold = bench.ask(opaque()), True
        gone = threading.Event()
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(bench.make, ask, None, gone.is_set)
            run = bench.stage.next_run()
            second = pool.submit(bench.make, replace(ask, wishes=Wishes(format="glb")))
            gone.set()
            with pytest.raises(GenerationCancelledError):
                first.result(PATIENCE)
            assert run.cancelled.is_set()
            bench.stage.next_run().end()
            assert second.result(PATIENCE).cached is False
        assert bench.entries().keys() == {"cutout", "shape", "file"}

    def test_stages_are_told_in_order_and_the_model_s_own_lie_between(self, bench):
        told = []

        class Told:
            def __init__(self, low=0.0, high=1.0):
                self.low, self.high = low, high

            def __call__(self, fraction, stage):
                told.append((self.low + (self.high - self.low) * fraction, stage))

            def within(self, low, high):
                return Told(low, high)

        bench.make(bench.ask(opaque()), Told())
        assert [stage for _, stage in told if stage != "half way"] == ["decode", "foreground", "shape", "export"]
        fractions = [fraction for fraction, _ in told]
        assert fractions == sorted(fractions)
        assert next(fraction for fraction, stage in told if stage == "half way") == pytest.approx(0.5)

    @pytest.mark.parametrize(
        ("error", "seen"),
        [
            (MemoryError(), OutOfMemoryError),
            (type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory"), OutOfMemoryError),
            (OSError(28, "No space left on device"), DiskFullError),
            (OSError("cannot write mode F as PNG"), StorageError),
            (EmptyImageError("nothing in it"), EmptyImageError),
            (ZeroDivisionError("a fault"), ZeroDivisionError),
        ],
    )
    def test_a_model_s_error_is_told_as_what_a_user_can_act_on(self, bench, error, seen):
        bench.stage.hold = True
        with ThreadPoolExecutor(1) as pool:
            making = pool.submit(bench.make, bench.ask(opaque()))
            bench.stage.next_run().end(error)
            with pytest.raises(seen) as told:
                making.result(PATIENCE)
        assert "None" not in str(told.value)
        assert bench.entries().keys() == {"cutout"}, "the object was found all the same"
        with pytest.raises(seen), known_failures():
            raise error

    def test_a_picture_or_a_mask_that_is_gone(self, bench):
        ask = bench.ask(opaque())
        with pytest.raises(UploadLostError, match="mask"):
            bench.make(replace(ask, mask="f" * 64))
        bench.files.upload(ask.pictures["front"].name).unlink()
        for call in (bench.make, bench.pipeline.mask):
            with pytest.raises(UploadLostError):
                call(ask)
        assert bench.stage.runs == []

    def test_a_picture_or_a_mask_that_was_changed_on_disk_is_not_taken_for_the_one_asked_for(self, bench):
        mask = np.full((64, 48), 255, np.uint8)
        ask = bench.ask(opaque(), mask=cutout.mask_digest(mask))
        bench.files.save(bench.files.new_mask(ask.job_id, ask.mask), cutout.mask_png(mask // 2))
        bench.files.keep_mask(ask.job_id, ask.mask)
        with pytest.raises(UploadLostError, match="mask"):
            bench.make(ask)
        bench.files.save(bench.files.upload(ask.pictures["front"].name), fresh_png())
        with pytest.raises(UploadLostError, match="picture"):
            bench.make(replace(ask, mask=None))
        assert bench.stage.runs == []
        assert len(bench.cache) == 0

    def test_a_picture_in_which_nothing_is_found(self, bench):
        plain = encode(Image.new("RGB", (64, 64), (9, 9, 9)))
        for data, wish in ((plain, {}), (opaque(), {"remove_background": "false"})):
            ask = bench.ask(data, **wish)
            for call in (bench.make, bench.pipeline.mask):
                with pytest.raises(EmptyImageError):
                    call(ask)
        assert len(bench.cache) == 0


class TestKnown:
    def test_what_is_there_is_answered_without_the_model(self, bench):
        ask = bench.ask(opaque())
        keys = bench.plan(ask)
        assert bench.pipeline.known(keys, ask.wishes) is None
        made = bench.make(ask)
        known = bench.pipeline.known(keys, ask.wishes)
        assert known.file is made.file
        assert (known.cached, known.shape_key) == (True, made.shape_key)
        other = replace(ask, wishes=Wishes(format="3mf"))
        assert bench.pipeline.known(bench.plan(other), other.wishes).file.data.startswith(b"PK")
        third = replace(ask, wishes=Wishes(quality=1))
        assert bench.pipeline.known(bench.plan(third), third.wishes) is None
        assert len(bench.stage.runs) == 1

    def test_a_shape_that_is_lost_can_be_converted_no_more(self, bench):
        outcome = bench.make(bench.ask(opaque()))
        with bench.named(outcome):
            bench.results.clear()
            assert bench.convert(outcome, Wishes()).file.data == outcome.file.data
            bench.results.clear()
        bench.files.blobs.drop([outcome.file.shape_sha256])
        with pytest.raises(ShapeLostError):
            bench.convert(outcome, Wishes(format="glb"))

    def test_what_another_process_made_is_answered_without_the_model(self, bench, looked_for, tmp_path):
        ask = bench.ask(opaque())
        outcome = bench.make(ask)
        bench.files.close()
        again = Bench(tmp_path)
        keys = again.plan(ask)
        assert again.pipeline.known(keys, ask.wishes).file.data == outcome.file.data
        other = replace(ask, wishes=Wishes(format="glb"))
        assert again.pipeline.known(again.plan(other), other.wishes).file.data.startswith(b"glTF")
        assert again.pipeline.mask(ask)
        assert (again.stage.runs, looked_for) == ([], ["auto"])
        again.files.close()

    def test_keys_of_a_request_are_those_that_are_looked_up(self, bench):
        ask = bench.ask(opaque())
        bench.make(ask)
        keys = bench.plan(ask)
        assert set(bench.keys()) == {cutout_key(ask, "front"), keys.shape, keys.file}


class TestFiles:
    MESH = shapes.box((0, 0, 0), (1, 2, 4))

    @pytest.mark.parametrize("kind", FORMATS)
    def test_a_unit_scaled_file_goes_from_minus_one_to_one(self, kind):
        data, report = make_file(self.MESH, Wishes(format=kind, scale="unit", dimensions=Dimensions(width=77)))
        loaded = trimesh.load(io.BytesIO(data), file_type=kind, force="mesh")
        assert sorted(loaded.extents) == pytest.approx([0.5, 1, 2], abs=1e-3)
        assert loaded.bounds.sum(axis=0) == pytest.approx(np.zeros(3), abs=1e-3)
        assert sorted(report["extents_mm"]) == pytest.approx([0.5, 1, 2], abs=1e-3)

    @pytest.mark.parametrize("kind", FORMATS)
    def test_any_other_is_in_millimetres_and_in_metres_where_the_format_says_so(self, kind):
        data, report = make_file(self.MESH, Wishes(format=kind, dimensions=Dimensions(height=20)))
        loaded = trimesh.load(io.BytesIO(data), file_type=kind, force="mesh")
        unit = 1000 if FORMATS[kind].metres else 1
        assert sorted(loaded.extents * unit) == pytest.approx([10, 20, 40], rel=1e-3)
        assert report["extents_mm"] == pytest.approx((10, 20, 40), rel=1e-3)


def test_a_picture_in_the_way_of_its_limit_is_refused(bench):
    ask = bench.ask(encode(draw(size=(40, 40))))
    small = Pipeline(bench.results, bench.files, 100, bench.results.find, bench.results.set)
    with pytest.raises(TooLargeError):
        small.make(ask, bench.plan(ask), bench.model, Silence(), lambda: False)
