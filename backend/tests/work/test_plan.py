"""Which wish changes which key: each key says all that its step reads, and nothing else."""

from dataclasses import fields, replace

import pytest
from asks import picture, request

from mesh.formats import Dimensions
from picture import CUTOUT_REVISION
from work import plan as plans
from work.plan import cutout_key, file_key, plan
from work.request import Wishes

ALL = frozenset({"image", "views", "quality", "seed", "prompt"})
IMAGE = frozenset({"image"})
FILE_WISHES = {
    "format": "glb",
    "dimensions": Dimensions(width=20),
    "fit": "stretch",
    "target_faces": 100,
    "scale": "unit",
}
SHAPE_WISHES = {"quality": 3, "seed": 5, "prompt": "a red cup"}
OTHER = {"remove_background": "true", "model": "another"}


def changed(before, after):
    """Which of the keys differ."""
    return {name for name in ("cutouts", "shape", "file") if getattr(before, name) != getattr(after, name)}


def planned(reads=ALL, revision="1", **ask):
    return plan(request(**ask), revision, reads)


def test_every_wish_is_tried_here():
    assert {field.name for field in fields(Wishes)} == {*FILE_WISHES, *SHAPE_WISHES, *OTHER}


@pytest.mark.parametrize(("wish", "value"), FILE_WISHES.items())
def test_what_only_the_file_reads_changes_its_key_alone(wish, value):
    assert changed(planned(), planned(**{wish: value})) == {"file"}


@pytest.mark.parametrize("side", ["width", "height", "depth"])
def test_each_side_counts(side):
    other = [planned(dimensions={each: 20}).file for each in ("width", "height", "depth") if each != side]
    assert planned(dimensions={side: 20}).file not in other


@pytest.mark.parametrize(("wish", "value"), SHAPE_WISHES.items())
def test_what_the_model_reads_changes_the_shape_and_what_it_does_not_read_changes_nothing(wish, value):
    assert changed(planned(), planned(**{wish: value})) == {"shape", "file"}
    for reads in (ALL - {wish}, IMAGE):
        assert changed(planned(reads), planned(reads, **{wish: value})) == set()


def test_the_background_changes_all_unless_a_mask_decides():
    true = {"remove_background": "true"}
    assert changed(planned(), planned(**true)) == {"cutouts", "shape", "file"}
    assert changed(planned(mask="f" * 64), planned(mask="f" * 64, **true)) == set()


def test_a_mask_is_another_object_and_two_masks_are_two():
    keys = [planned(mask=mask).cutouts["front"] for mask in (None, "e" * 64, "f" * 64)]
    assert len(set(keys)) == 3
    assert changed(planned(), planned(mask="e" * 64)) == {"cutouts", "shape", "file"}


def test_a_mask_is_of_the_front_alone():
    def both(mask):
        return planned(mask=mask, pictures={"front": picture(1), "back": picture(2)}).cutouts

    assert both(None)["front"] != both("e" * 64)["front"]
    assert both(None)["back"] == both("e" * 64)["back"]


def test_another_picture_changes_all_and_its_name_nothing():
    assert changed(planned(), planned(pictures={"front": picture(2)})) == {"cutouts", "shape", "file"}
    renamed = picture(1, name="other.jpeg", hidden=None, empty={"false": "x"}, image_info={})
    assert changed(planned(), planned(pictures={"front": renamed})) == set()
    assert changed(planned(), planned(job_id="another job")) == set()


class TestViews:
    FRONT = picture(1)
    BOTH = {"front": picture(1), "back": picture(2, view="back")}  # noqa: RUF012

    def test_who_does_not_read_views_makes_the_same_of_the_front_alone(self):
        reads = ALL - {"views"}
        alone, both = planned(reads, pictures={"front": self.FRONT}), planned(reads, pictures=self.BOTH)
        assert changed(alone, both) == set()
        assert both.cutouts.keys() == {"front"}

    def test_who_reads_views_has_a_key_of_each(self):
        alone, both = planned(pictures={"front": self.FRONT}), planned(pictures=self.BOTH)
        assert changed(alone, both) == {"cutouts", "shape", "file"}
        assert both.cutouts.keys() == {"front", "back"}
        assert both.cutouts["front"] == alone.cutouts["front"]

    def test_the_same_pictures_on_other_sides_are_another_object(self):
        left = {"front": picture(1), "left": picture(2, view="left")}
        turned = {"front": picture(2), "back": picture(1)}
        keys = {planned(pictures=pictures).shape for pictures in (self.BOTH, left, turned)}
        assert len(keys) == 3

    def test_the_order_in_which_they_came_does_not_count(self):
        back_first = dict(reversed(self.BOTH.items()))
        assert planned(pictures=back_first).shape == planned(pictures=self.BOTH).shape

    def test_who_reads_no_picture_has_no_cut_out(self):
        reads = frozenset({"prompt"})
        alone = planned(reads, pictures={}, prompt="a cup")
        assert alone.cutouts == {}
        assert changed(alone, planned(reads, pictures=self.BOTH, prompt="a cup")) == set()
        assert changed(alone, planned(reads, pictures={}, prompt="a mug")) == {"shape", "file"}


def test_a_model_and_each_of_its_revisions_make_shapes_of_their_own():
    assert changed(planned(), planned(model="another")) == {"shape", "file"}
    assert changed(planned(), planned(revision="2")) == {"shape", "file"}
    assert planned(revision="2").revision == "2"


def test_the_model_that_a_request_names_counts_and_not_how_it_came_to_it():
    named = request("m")
    named = replace(named, wishes=replace(named.wishes, model="m"))
    assert changed(planned(model="m"), plan(named, "1", ALL)) == set()


def test_a_cut_out_says_by_which_method(monkeypatch):
    before = planned()
    monkeypatch.setattr(plans, "CUTOUT_REVISION", CUTOUT_REVISION + "x")
    assert changed(before, planned()) == {"cutouts", "shape", "file"}
    assert planned(mask="e" * 64).shape == planned(mask="e" * 64).shape


def test_a_mask_s_key_does_not_change_with_the_method(monkeypatch):
    before = planned(mask="e" * 64)
    monkeypatch.setattr(plans, "CUTOUT_REVISION", CUTOUT_REVISION + "x")
    assert changed(before, planned(mask="e" * 64)) == set()


def test_keys_say_what_they_are_of_and_can_be_had_alone():
    keys, ask = planned(format="glb"), request(format="glb")
    assert keys.cutouts["front"].startswith("cutout:")
    assert keys.shape.startswith("shape:")
    assert keys.file.startswith("file:")
    assert file_key(keys.shape, ask.wishes) == keys.file
    assert cutout_key(ask, "front") == keys.cutouts["front"]


def test_keys_are_the_same_in_every_process():
    """They name files on disk and, one day, entries that several machines share."""
    keys = planned(dimensions={"width": 20.0}, prompt="für dich", seed=2**32 - 1)
    assert keys.shape == "shape:5ea50e5bcc4f16b859aac32684eb2e3a8782398f72d1847af5cc8fb1843ba908"
    assert keys.file == "file:1d48d1f1ad8f4b2328d0cfa27e2d982b8e4f91560e1fcfe6a3babe8b62545cdb"


def test_a_request_cannot_be_changed_under_a_run():
    with pytest.raises(AttributeError):
        request().mask = "x"
    with pytest.raises(AttributeError):
        planned().shape = "x"
