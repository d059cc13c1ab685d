"""The training code: every family builds, the renderer is right, views can be lit, one command trains and exports."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
pytest.importorskip("embreex", reason="training needs training/requirements.txt")
sys.path.insert(0, str(ROOT / "training"))

import torch  # noqa: E402

import corpus  # noqa: E402
import data  # noqa: E402
import families  # noqa: E402
import lighting  # noqa: E402
import losses  # noqa: E402
import render  # noqa: E402
import solids  # noqa: E402
from models.builtin.network import DepthNetwork, NetworkConfig  # noqa: E402
from models.builtin.sheets import CAMERA  # noqa: E402
from models.builtin.weights import FOLDER, load  # noqa: E402


def seen(solid, turned=None, seed=0):
    view = render.render(render.surface(solid), np.eye(3) if turned is None else turned, np.random.default_rng(seed))
    return {name: view[name].astype(float) for name in view.dtype.names}


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
        blob = solids.blob(centres, np.array([0.4, 0.3]), (1, 0, 0))
        start, end = blob.faces.ravel(), np.roll(blob.faces, -1, 1).ravel()
        assert set(zip(start, end, strict=True)) == set(zip(end, start, strict=True))


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
            view = seen(families.make_shape(random), render.pose(random, front=False))
            rows, columns = np.nonzero(view["mask"] > 127)
            assert max(np.ptp(rows), np.ptp(columns)) + 1 == pytest.approx(0.85 * render.SIZE, abs=3)

    def test_a_box_is_flat_in_front_and_hollow_things_have_a_far_wall(self):
        view = seen(solids.box((1, 1, 0.5), (0, 1, 0)))
        inside = view["front"][30:60, 30:60]
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
        return data.Source(None, (), 0.5).views(np.random.default_rng(1), count)

    def test_views_are_what_training_expects(self):
        views = self.views()
        assert views.dtype == render.VIEW
        for view in views:
            known = ~np.isnan(view["front"])
            assert known.any()
            assert (view["front"][known] >= view["back"][known] - 1e-3).all()
            assert (view["mask"][known] > 0).mean() > 0.95

    @pytest.mark.parametrize("size", [48, 96])
    def test_light_changes_the_picture_and_not_the_depth(self, size):
        views = self.views()
        one, two = (lighting.lit(views, np.random.default_rng(seed), size=size) for seed in (1, 2))
        assert one.picture.shape == (6, 3, size, size)
        assert 0 <= one.picture.min() <= one.picture.max() <= 1
        assert not torch.equal(one.picture, two.picture)
        for i in range(6):
            assert torch.equal(one.front[i], two.front[i]) or torch.equal(one.front[i], two.front[i].flip(-1))

    def test_a_drawing_asks_for_the_inflation(self):
        batch = lighting.lit(np.stack([data.flat_view(np.random.default_rng(3))]), np.random.default_rng(0), plain=True)
        assert batch.flat.all()
        assert losses.inflated_errors(batch).max() == 0

    def test_the_loss_of_the_truth_is_least(self):
        batch = lighting.lit(self.views(), np.random.default_rng(0), plain=True)
        network = DepthNetwork(NetworkConfig(widths=(16, 16, 16, 16), blocks=(1, 1, 1, 1)))
        found = network(batch.picture, batch.mask, batch.height)
        true = type(found)(batch.front, batch.back, found.doubt)
        assert losses.loss(true, batch)[1]["depth"] < 1e-6 < losses.loss(found, batch)[1]["depth"]


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
        source = data.Source(write_corpus(tmp_path / "meshes"), (1,), 0.9)
        assert len(source.meshes) == 2
        assert source.views(np.random.default_rng(0), 4).shape == (4,)

    def test_variations_stay_whole(self):
        random = np.random.default_rng(0)
        for _ in range(20):
            solid, _ = corpus.varied(solids.box((1, 2, 1), (0.5, 0.5, 0.5)), random)
            assert np.isfinite(solid.vertices).all()
            assert solid.colours.min() >= 0
            assert solid.colours.max() <= 1

    def test_a_folder_without_meshes_is_refused(self, tmp_path):
        with pytest.raises(SystemExit, match="no meshes"):
            corpus.load(tmp_path)


def test_one_command_trains_resumes_and_exports(tmp_path):
    """A few steps twice, the second time from the checkpoint, then the files that the server loads."""

    def command(script, *options):
        line = [sys.executable, str(ROOT / "training" / script), "--run", str(tmp_path / "run"), *options]
        done = subprocess.run(line, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout

    short = ("--minutes", "0.03", "--batch", "8", "--checks", "4", "--pool", "2", "--device", "cpu")
    first = command("train.py", "--start", str(FOLDER), *short)
    assert "going on" not in first
    assert "going on after" in command("train.py", *short)
    report = tmp_path / "run" / "report"
    assert (report / "made.png").stat().st_size > 1000
    assert {"step", "made_err", "made_f"} <= json.loads((report / "scores.json").read_text()).keys()
    assert (tmp_path / "run" / "log.jsonl").read_text().count("\n") >= 2

    command("export.py", "--to", str(tmp_path / "weights"))
    manifest = json.loads((tmp_path / "weights" / "depth.json").read_text())
    assert manifest["training"]["step"] > 0
    assert manifest["training"]["before"]["sha256"] == load(FOLDER).sha256
    assert manifest["bytes"] <= 16_000_000
    assert load(tmp_path / "weights").sha256 == manifest["sha256"]
