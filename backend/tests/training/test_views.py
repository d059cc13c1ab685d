"""What training is fed with: every family builds, the renderers are right, views can be lit, meshes are read."""

import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import trimesh

ROOT = Path(__file__).resolve().parents[3]
pytest.importorskip("embreex", reason="training needs training/requirements.txt")
sys.path.insert(0, str(ROOT / "training"))

import torch  # noqa: E402

import corpus  # noqa: E402
import data  # noqa: E402
import families  # noqa: E402
import lighting  # noqa: E402
import losses  # noqa: E402
import melting  # noqa: E402
import poses  # noqa: E402
import raster  # noqa: E402
import render  # noqa: E402
import solids  # noqa: E402
from models.builtin.network import NetworkConfig  # noqa: E402
from models.builtin.sheets import CAMERA  # noqa: E402
from network import DepthNetwork  # noqa: E402


def seen(solid, turned=None, seed=0):
    view = render.render(render.surface(solid), np.eye(3) if turned is None else turned, np.random.default_rng(seed))
    return {name: view[name].astype(float) for name in view.dtype.names}


def lit(views, seed=0, **options):
    return lighting.lit(lighting.fields_of(views), torch.Generator().manual_seed(seed), **options)


class TestShapes:
    @pytest.mark.parametrize("family", families.FAMILIES)
    def test_every_family_builds_sound_shapes(self, family):
        for seed in range(6):
            solid = families.make_shape(np.random.default_rng(seed), family)
            assert np.isfinite(solid.vertices).all()
            assert np.ptp(solid.vertices, axis=0).max() == pytest.approx(2)
            assert solid.faces.min() >= 0
            assert solid.faces.max() < len(solid.vertices)
            assert solid.colours.shape == solid.vertices.shape
            assert solid.colours.min() >= 0
            assert solid.colours.max() <= 1

    def test_the_same_seed_gives_the_same_shape(self):
        one, two = (families.make_shape(np.random.default_rng(5)) for _ in range(2))
        assert np.array_equal(one.vertices, two.vertices)

    def test_held_out_families_are_never_made_unasked(self, monkeypatch):
        called = []
        for name, (_, share) in families.FAMILIES.items():
            ball = solids.ellipsoid((1, 1, 1), (1, 1, 1), detail=(4, 4))
            monkeypatch.setitem(families.FAMILIES, name, (lambda r, n=name, b=ball: called.append(n) or b, share))
        random = np.random.default_rng(0)
        for _ in range(1500):
            families.make_shape(random)
        assert set(called) == set(families.FAMILIES) - set(families.HELD_OUT)

    def test_melted_balls_are_closed(self):
        centres = np.array([[0, 0, 0], [0.5, 0.2, 0]])
        assert trimesh_of(solids.blob(centres, np.array([0.4, 0.3]), (1, 0, 0))).is_watertight


class TestOneSkin:
    def test_parts_within_parts_become_one_closed_body_of_their_size(self):
        parts = [
            solids.ellipsoid((1, 0.6, 0.5), (1, 0, 0)),
            solids.mirrored(solids.limb((0.5, 0, 0), (0.5, -1.2, 0), (0.25, 0.2), (0, 1, 0))),
            solids.box((0.6, 0.6, 0.6), (0, 0, 1)),
        ]
        whole = solids.together(parts)
        for seed in range(6):
            skin = trimesh_of(melting.melted(whole, np.random.default_rng(seed)))
            assert skin.is_watertight
            assert skin.body_count == 1
            assert skin.euler_number == 2
            assert skin.extents == pytest.approx(np.ptp(whole.vertices, axis=0), abs=0.1)
            assert 1.3 < skin.volume < 1.7  # 1.26 of the ellipsoid, and 0.08 of each limb sticks out of it

    def test_a_ring_keeps_its_hole(self):
        angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        ring = solids.sweep(np.column_stack([np.cos(angle), np.sin(angle), 0 * angle]), 0.2, (1, 1, 1), closed=True)
        assert trimesh_of(melting.melted(ring, np.random.default_rng(0))).euler_number == 0

    def test_what_is_thinner_than_the_grid_stays_as_it_is(self):
        leaf = solids.box((1, 1, 1e-4), (0, 1, 0))
        assert melting.melted(leaf, np.random.default_rng(0)) is leaf


def trimesh_of(solid):
    return trimesh.Trimesh(solid.vertices, solid.faces, process=False)


class TestRender:
    def test_a_ball_has_the_depths_of_a_ball(self):
        view = seen(solids.ellipsoid((1, 1, 1), (1, 0, 0), detail=(60, 120)))
        middle = render.SIZE // 2
        front, back = view["front"][middle, middle], view["back"][middle, middle]
        # Seen through a camera at distance d, a ball of radius r fills asin(r/d).
        radius = CAMERA * np.sin(np.arctan(0.85 / CAMERA))
        assert front - back == pytest.approx(2 * radius, rel=0.04)
        both = (view["front"] + view["back"]) / 2
        assert np.nanmean(both) == pytest.approx(0, abs=0.01)
        assert view["height"][middle, middle] == pytest.approx(0.85, abs=0.03)
        assert view["normal"][middle, middle] == pytest.approx((0, 0, 127), abs=6)

    def test_the_object_fills_its_share_of_the_window_from_any_side(self):
        random = np.random.default_rng(2)
        for _ in range(5):
            view = seen(families.make_shape(random), render.pose(random))
            rows, columns = np.nonzero(view["mask"] > 127)
            assert max(np.ptp(rows), np.ptp(columns)) + 1 == pytest.approx(0.85 * render.SIZE, abs=3)

    def test_a_box_is_flat_in_front_and_hollow_things_have_a_far_wall(self):
        view = seen(solids.box((1, 1, 0.5), (0, 1, 0)))
        inside = view["front"][22:46, 22:46]
        assert np.ptp(inside) < 0.02
        shell = seen(
            solids.mirrored(solids.box((0.1, 1, 1), (0, 1, 0)).moved((0.5, 0, 0)), 0), solids.turn(1, np.pi / 2)
        )
        middle = render.SIZE // 2
        assert shell["front"][middle, middle] - shell["back"][middle, middle] > 1

    def test_left_is_left_and_up_is_up(self):
        ball = solids.ellipsoid((0.2, 0.2, 0.2), (1, 0, 0))
        far = solids.ellipsoid((0.2, 0.2, 0.2), (0, 0, 1)).moved((1, 1, -0.6))
        view = seen(solids.together([ball, far]), seed=4)
        rows, columns = np.nonzero(view["mask"] > 127)
        upper = view["front"][rows.min() + 3, columns.max() - 6]
        lower = view["front"][rows.max() - 3, columns.min() + 6]
        assert lower > upper + 0.3


class TestViews:
    def views(self, count=6):
        return data.Source([], 0.5).views(np.random.default_rng(1), count)

    def test_views_are_what_training_expects(self):
        views = self.views()
        assert views.dtype == render.VIEW
        for view in views:
            known = ~np.isnan(view["front"])
            assert known.any()
            assert (view["front"][known] >= view["back"][known] - 1e-3).all()
            assert (view["mask"][known] > 0).mean() > 0.95

    @pytest.mark.parametrize("size", [48, 72])
    def test_light_changes_the_picture_and_not_the_depth(self, size):
        views = self.views()
        one, two = (lit(views, seed, size=size) for seed in (1, 2))
        assert one.picture.shape == (6, 3, size, size)
        assert 0 <= one.picture.min() <= one.picture.max() <= 1
        assert not torch.equal(one.picture, two.picture)
        for i in range(6):
            # An object may be mirrored and moved a little; then it is at another place, and its depths are the same.
            assert torch.equal(one.front[i].ravel().sort()[0], two.front[i].ravel().sort()[0])

    def test_an_object_is_moved_in_all_fields_alike_and_stays_in_the_window(self):
        views = self.views(2)
        views["mask"], views["height"] = np.where(np.isnan(views["front"]), 0, 255), np.nan_to_num(views["front"])
        moved = set()
        for seed in range(12):
            batch = lit(views, seed)
            assert torch.equal(batch.height * batch.valid, batch.front * batch.valid)
            moved.add(int(batch.valid[0].sum(0).nonzero()[0]))
            assert not batch.valid[:, [0, -1]].any()
            assert not batch.valid[..., [0, -1]].any()
        assert len(moved) > 2

    def test_jpeg_of_a_low_quality_loses_as_much_as_the_real_one(self):
        picture = lit(self.views(), plain=True).picture[:, 1:2].expand(-1, 3, -1, -1)
        for quality in (20, 50, 90):
            kept = lighting.packed_as_jpeg(picture, torch.full((len(picture), 1, 1, 1), float(quality)))
            lost = (kept - picture).abs().mean()
            real = [np.abs(jpeg(each, quality) - each).mean() for each in (255 * picture[:, 1]).round().numpy()]
            assert lost == pytest.approx(np.mean(real) / 255, rel=0.15)

    def test_a_drawing_asks_for_the_inflation(self):
        batch = lit(np.stack([data.flat_view(np.random.default_rng(3))]), plain=True)
        assert batch.flat.all()
        assert losses.inflated_errors(batch).max() == 0

    def test_the_loss_of_the_truth_is_least(self):
        batch = lit(self.views(), plain=True)
        network = DepthNetwork(NetworkConfig(72, (16, 16, 16, 16), (1, 1, 1, 1)))
        found = network(batch.picture, batch.mask, batch.height)
        true = type(found)(batch.front, batch.back, found.doubt)
        assert losses.loss(true, batch)[1]["depth"] < 1e-6 < losses.loss(found, batch)[1]["depth"]


def jpeg(grey, quality):
    packed = cv2.imencode(".jpg", grey.astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.imdecode(packed, cv2.IMREAD_GRAYSCALE).astype(float)


def write_corpus(folder, count=3):
    """Shards as `--extra-meshes` takes them, of boxes made here."""
    boxes = [solids.box((1, 0.5 + 0.2 * i, 0.7), (1, 0.5, 0)) for i in range(count)]
    offsets = np.arange(count + 1)
    folder.mkdir()
    np.savez(
        folder / "some.npz",
        vertices=np.concatenate([box.vertices for box in boxes]).astype(np.float16),
        faces=np.concatenate([box.faces for box in boxes]).astype(np.int32),
        colours=np.full((8 * count, 3), 200, np.uint8),
        v_off=8 * offsets,
        f_off=12 * offsets,
        source=np.arange(count, dtype=np.int16),
    )
    return folder


class TestCorpus:
    def test_held_out_sources_are_not_trained_on(self, tmp_path):
        meshes, held_out = corpus.split(write_corpus(tmp_path / "meshes"), (1,))
        assert [mesh.vertices[:, 1].max() for mesh in meshes] == pytest.approx([0.25, 0.45], abs=1e-3)
        assert [mesh.vertices[:, 1].max() for mesh in held_out] == pytest.approx([0.35], abs=1e-3)
        assert data.Source(meshes, 0.9).views(np.random.default_rng(0), 4).shape == (4,)
        assert corpus.split(None, (1,)) == ([], [])

    def test_variations_stay_whole(self):
        random = np.random.default_rng(0)
        for _ in range(20):
            solid, _ = corpus.varied(solids.box((1, 2, 1), (0.5, 0.5, 0.5)), random)
            assert np.isfinite(solid.vertices).all()
            assert solid.colours.min() >= 0
            assert solid.colours.max() <= 1

    def test_a_broken_shard_is_refused(self, tmp_path):
        file = write_corpus(tmp_path / "meshes") / "some.npz"
        for content in (b"", b"PK not really", file.read_bytes()[:300]):
            file.write_bytes(content)
            with pytest.raises(SystemExit, match="not a shard of meshes"):
                corpus.load(tmp_path / "meshes")

    def test_a_folder_without_meshes_is_refused(self, tmp_path):
        with pytest.raises(SystemExit, match="no meshes"):
            corpus.load(tmp_path)


@pytest.mark.skipif(not shutil.which("g++"), reason="needs a C++ compiler")
class TestRaster:
    """The GPU's renderer, as C++."""

    def made(self, solids, rotations, crease=0.7, **changes):
        shelf, at = raster.Shelf("cpu", 1), raster.places()
        shelf.add(raster.packed([(solid, crease) for solid in solids]))
        parameters = torch.zeros(len(solids), raster.FLOATS)
        rotation = torch.from_numpy(np.stack(rotations)).flatten(1)
        for name, value in {
            "scale": 1,
            "gain": 1,
            "camera": CAMERA,
            "crease": crease,
            "rotation": rotation,
            **changes,
        }.items():
            parameters[:, at[name]] = value.float() if isinstance(value, torch.Tensor) else value
        sheets = torch.zeros((1, raster.SHEET, raster.SHEET, 4), dtype=torch.uint8)
        rasteriser = raster.Rasteriser(len(solids), render.SIZE, "cpu")
        return rasteriser.views(shelf.table, torch.arange(len(solids)), parameters, sheets)

    def test_it_sees_what_rays_see(self, monkeypatch):
        monkeypatch.setattr(render.patterns, "printed", lambda albedo, *_: albedo)
        random = np.random.default_rng(5)
        shapes = [families.make_shape(random) for _ in range(6)]
        rotations = [render.pose(random) for _ in shapes]
        found = self.made(shapes, rotations)
        assert found.usable.all()
        for i, (shape, rotation) in enumerate(zip(shapes, rotations, strict=True)):
            view = render.render(render.surface(shape), rotation, random)
            mine = {name: field[i].numpy() for name, field in found.views.items()}
            for name in ("front", "back"):
                np.testing.assert_array_equal(np.isnan(mine[name]), np.isnan(view[name]))
                assert np.nanmax(np.abs(mine[name] - view[name])) < 0.01
            assert np.abs(mine["mask"] - view["mask"]).mean() < 0.1
            assert np.abs(mine["height"] - view["height"]).mean() < 0.002
            inner = view["mask"] == 255
            assert np.abs(mine["normal"] - view["normal"])[inner].mean() < 2
            assert np.abs(mine["albedo"] - view["albedo"])[inner].mean() < 2

    def test_a_shape_can_be_painted_and_stretched(self):
        red = torch.tensor([1.0, 1, 0, 0, 1, 0, 0, 0, 0, 1])
        ball = solids.ellipsoid((1, 1, 1), (0, 0, 1))
        views = self.made([ball], [np.eye(3)], paint=red, scale=torch.tensor([1.0, 0.5, 1])).views
        assert views["albedo"][0, 36, 36].tolist() == [255, 0, 0]
        rows, columns = (np.flatnonzero((views["mask"][0] > 127).any(axis)) for axis in (1, 0))
        assert np.ptp(columns) == pytest.approx(2 * np.ptp(rows), abs=4)

    def test_up_is_the_objects_when_it_stands(self):
        dice = poses.Dice(torch.Generator().manual_seed(1), 400)
        rotation, up = poses.posed(dice)
        torch.testing.assert_close(rotation @ rotation.movedim(1, 2), torch.eye(3).expand(400, 3, 3), atol=1e-5, rtol=0)
        stands = ((rotation[:, :, 1] - up).norm(dim=1) < 1e-5).float().mean()
        assert 0.75 < float(stands) < 0.92
        assert (up[:, 2] > 0.1).float().mean() > 0.6  # seen from above
