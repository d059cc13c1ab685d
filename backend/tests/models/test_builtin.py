"""The built-in model on masks drawn here: closed surfaces, right sizes and holes, no bleeding, no crash."""

import io
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import trimesh
from figures import SIZE, assert_sound, cut_out, disc, drawn, made, mug, random_alpha, ring, solid, two_parts

from mesh.finish import finish
from mesh.formats import Dimensions
from mesh.writers import export
from models.base import EmptyImageError, GenerationCancelledError, Mesh, ShapeOptions
from models.builtin.inflation import inflate
from models.builtin.model import QUALITY, BuiltinModel
from models.builtin.sheets import CAMERA, two_sheets
from models.builtin.silhouette import view
from models.builtin.texture import spread


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Without its weights, so that the shapes are known; `test_network.py` has the learned depth."""
    model = BuiltinModel()
    model._folder = tmp_path_factory.mktemp("no weights")
    model.load()
    return model


class TestShape:
    @pytest.mark.parametrize("quality", [1, 5])
    @pytest.mark.parametrize(("draw_on", "euler"), [(disc, 2), (ring, 0), (mug, 0), (two_parts, 4)])
    def test_closed_with_a_handle_for_each_hole(self, model, draw_on, euler, quality):
        found = assert_sound(made(model, cut_out(drawn(draw_on)), quality))
        assert found.euler_number == euler

    def test_a_disc_becomes_a_ball(self, model):
        mesh = made(model, cut_out(drawn(disc)), quality=6)
        x, y, z = mesh.vertices.T
        scale = CAMERA / (CAMERA - z)  # undo the perspective
        radius = np.sqrt((x * scale) ** 2 + (y * scale) ** 2 + z**2)
        assert radius == pytest.approx(0.85, abs=0.02)

    def test_upright_and_unmirrored(self, model):
        """A picture with a wide part above and a small one at the lower right."""
        mesh = made(model, cut_out(drawn(lambda on: (on.box(0.1, 0.1, 0.9, 0.4), on.box(0.7, 0.4, 0.9, 0.9)))))
        x, y, _ = mesh.vertices.T
        assert np.ptp(x[y > 0.4]) > 1.5
        assert x[y < -0.4].min() > 0.2

    def test_perspective_is_undone(self, model):
        """What is nearer to the camera fills the same angle with less: the front of a ball is drawn inwards."""
        mesh = made(model, cut_out(drawn(disc)))
        half = len(mesh.vertices) // 2
        plane = mesh.uv[:half] * (4, 2) - 1
        z = mesh.vertices[:half, 2]
        assert mesh.vertices[:half, :2] == pytest.approx(plane * ((CAMERA - z) / CAMERA)[:, None], abs=1e-5)
        assert pytest.approx(3.732, abs=1e-3) == CAMERA

    def test_where_the_object_stands_in_the_picture_does_not_matter(self, model):
        alpha = drawn(mug)
        moved = np.zeros((400, 700), np.uint8)
        moved[100 : 100 + SIZE, 37 : 37 + SIZE] = alpha
        one, two = (solid(made(model, cut_out(picture))) for picture in (alpha, moved))
        assert one.extents == pytest.approx(two.extents, abs=0.01)
        assert one.volume == pytest.approx(two.volume, rel=0.01)

    def test_the_rim_has_no_step_that_could_be_seen(self, model):
        """Front and back end in the same points but for the wall between them, a ten-thousandth high."""
        mesh = made(model, cut_out(drawn(disc)))
        front, back = np.split(mesh.vertices, 2)
        gap = np.linalg.norm(front - back, axis=1)
        rim = gap < 2e-4
        assert rim.sum() > 100
        assert gap[rim] == pytest.approx(1e-4, rel=0.1)
        assert (front[~rim, 2] > 0.001).all()
        assert (back[~rim, 2] < -0.001).all()

    @pytest.mark.parametrize("kind", ["glb", "stl"])
    def test_the_file_is_closed_as_it_stands_with_no_vertices_merged_by_the_reader(self, model, kind):
        finished = finish(made(model, cut_out(drawn(mug))), dimensions=Dimensions(), fit="contain", target_faces=None)
        data = io.BytesIO(export(finished, kind))
        read = trimesh.load(data, file_type=kind, force="mesh", process=kind == "stl")  # STL repeats every corner
        assert read.is_watertight
        assert read.is_winding_consistent
        assert read.euler_number == 0

    def test_inflation_is_right_between_the_grid_lines(self):
        """√(r² − ρ²) for a disc whose contour meets no node: what the solver promises of the sub-pixel contour."""
        size, radius = 101, 0.731
        axis = (np.arange(size) + 0.5) * 2 / size - 1
        rho = np.hypot(axis[:, None], axis[None])
        field = np.clip((radius - rho) * size / 4, -0.5, 0.5).astype(np.float32)
        exact = np.sqrt(np.maximum(radius**2 - rho**2, 0))
        assert np.abs(inflate(field) - exact)[rho < radius].max() < 0.02

    def test_depths_that_differ_in_front_and_behind_close_as_well(self):
        field = np.full((40, 40), -0.5, np.float32)
        field[5:35, 8:30] = 0.5
        random = np.random.default_rng(0)
        front = random.uniform(0.1, 0.3, (40, 40))
        sheets = two_sheets(field, front, front - 0.5)
        assert_sound(Mesh(sheets.vertices, sheets.faces, uv=np.zeros((len(sheets.vertices), 2), np.float32)))

    def test_the_rim_lies_halfway_between_slanting_depths(self):
        axis = (np.arange(60) + 0.5) / 30 - 1
        field = np.clip(30 * (0.72 - np.hypot(axis, axis[:, None])), -0.5, 0.5).astype(np.float32)
        slope = np.broadcast_to(0.8 * axis, field.shape)
        sheets = two_sheets(field, slope + 0.3, slope - 0.3)
        front, back = np.split(sheets.vertices[:, 2], 2)
        rim = front - back < 0.01
        assert rim.sum() > 100
        assert (front + back)[rim] / 2 == pytest.approx(0.8 * sheets.plane[rim, 0], abs=1e-5)

    @pytest.mark.parametrize("degrees", [3, 10, 31])
    def test_a_hard_mask_leaves_no_stairs(self, degrees):
        y, x = np.mgrid[:SIZE, :SIZE] + 0.5 - SIZE / 2
        along = np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))])
        across = y * along[0] - x * along[1]
        bar = (np.abs(across) < 40.2) & (np.abs(x * along[0] + y * along[1]) < 100)
        window = view(cut_out(255 * bar))
        field = window.field(300)
        column = np.arange(110, 190)
        row = (field[:, column] > 0).argmax(0)  # the upper edge
        above, below = field[row - 1, column], field[row, column]
        edge = row - below / (below - above)
        straight = np.polyval(np.polyfit(column, edge, 1), column)
        assert np.abs(edge - straight).max() * window.side / 300 < 0.16  # in pixels of the picture


class TestTexture:
    def test_background_does_not_bleed(self, model):
        """A red ball cut out of a green picture: no green, not even beyond its rim in the atlas."""
        rgba = cut_out(drawn(disc))
        rgba[rgba[..., 3] < 128, :3] = (0, 255, 0)
        texture = made(model, rgba).texture
        assert texture[..., 1].max() < 60
        assert texture[..., 0].min() > 150

    def test_the_front_shows_the_picture(self, model):
        rgba = cut_out(drawn(disc))
        rgba[100:150, 60:90, :3] = (20, 30, 220)
        mesh = made(model, rgba, quality=6)
        height, width = mesh.texture.shape[:2]
        assert width == 2 * height
        half = len(mesh.vertices) // 2
        spot = np.rint(mesh.uv[:half] * (1, -1) * (width, height) + (-0.5, height - 0.5)).astype(int)
        seen = mesh.texture[spot[:, 1], spot[:, 0]]
        scale = 0.8 / 0.85 * 0.5  # from the square's −1..1 to the picture's 0..1
        column, row = (mesh.uv[:half] * (4, -2) + (-1, 1)).T * scale + 0.5
        blue = (column > 62 / 256) & (column < 88 / 256) & (row > 102 / 256) & (row < 148 / 256)
        assert blue.sum() > 50
        assert np.abs(seen[blue].astype(int) - (20, 30, 220)).max() < 10

    def test_the_back_takes_the_rim_not_the_face(self, model):
        rgba = cut_out(drawn(disc))
        rgba[90:160, 90:160, :3] = (20, 30, 220)
        texture = made(model, rgba).texture
        back = texture[:, texture.shape[1] // 2 :]
        assert back[..., 2].max() < 60
        middle = back[len(back) // 2, len(back) // 2]
        assert 120 < middle[0] < 190  # darker than the rim

    def test_spread_keeps_what_is_known(self):
        colours = np.random.default_rng(0).uniform(0, 255, (37, 37, 3)).astype(np.float32)
        known = np.zeros((37, 37), np.float32)
        known[3:9, 4:30] = 1
        filled = spread(colours, known)
        assert np.array_equal(filled[known == 1], colours[known == 1])
        assert filled.min() >= colours[known == 1].min() - 1
        assert filled.max() <= colours[known == 1].max() + 1


class TestQuality:
    def test_each_step_gives_more(self, model):
        rgba = cut_out(drawn(mug, 600))
        meshes = [made(model, rgba, quality) for quality in (1, 3, 5, 7)]
        counts = [len(mesh.faces) for mesh in meshes]
        assert counts == sorted(set(counts))
        for quality, count in zip((1, 3, 5, 7), counts, strict=True):
            assert count == pytest.approx(QUALITY[quality].faces, rel=0.3)
        sizes = [len(mesh.texture) for mesh in meshes]
        assert sizes == sorted(set(sizes))

    def test_the_table_covers_all_levels(self):
        assert list(QUALITY) == list(range(1, 11))
        assert all(QUALITY[q].faces < QUALITY[q + 1].faces for q in range(1, 10))
        assert all(QUALITY[q].texture < QUALITY[q + 1].texture for q in range(1, 10))

    def test_same_picture_same_bytes_from_any_thread(self, model):
        rgba = cut_out(drawn(mug))
        expected = made(model, rgba).to_bytes()
        with ThreadPoolExecutor(3) as pool:
            assert all(mesh.to_bytes() == expected for mesh in pool.map(lambda _: made(model, rgba), range(4)))

    def test_seed_and_prompt_are_not_read(self, model):
        rgba = cut_out(drawn(disc))
        options = ShapeOptions(quality=2, seed=7, prompt="a cat")
        mesh = model.generate(rgba, options, lambda fraction, stage: None, lambda: False)
        assert mesh.to_bytes() == made(model, rgba, quality=2).to_bytes()
        assert model.reads == {"image", "quality"}


class TestProgress:
    def test_stages_run_forward_to_one(self, model):
        seen = []
        options = ShapeOptions(quality=1)
        model.generate(cut_out(drawn(disc)), options, lambda *stage: seen.append(stage), lambda: False)
        fractions, names = zip(*seen, strict=True)
        assert fractions[0] == 0
        assert fractions[-1] == 1
        assert list(fractions) == sorted(fractions)
        assert len(set(names)) == len(names) > 3

    @pytest.mark.parametrize("after", range(5))
    def test_cancelling_stops_at_the_next_stage(self, model, after):
        gone = threading.Event()
        seen = []

        def progress(fraction, stage):
            seen.append(stage)
            if len(seen) == after:
                gone.set()

        if after == 0:
            gone.set()
        with pytest.raises(GenerationCancelledError):
            model.generate(cut_out(drawn(disc)), ShapeOptions(quality=1), progress, gone.is_set)
        assert len(seen) == after


class TestExtremes:
    @pytest.mark.parametrize(
        "shape", [(1, 1), (2, 2), (1, 900), (900, 1), (3, 700), (40, 60)], ids=lambda shape: f"{shape[1]}x{shape[0]}"
    )
    @pytest.mark.parametrize("quality", [1, 5])
    def test_a_mask_that_fills_the_picture(self, model, shape, quality):
        found = assert_sound(made(model, cut_out(np.full(shape, 255)), quality))
        assert found.euler_number == 2

    def test_a_large_picture(self, model):
        alpha = np.zeros((2200, 3000))
        alpha[300:1900, 400:2800] = 255
        found = assert_sound(made(model, cut_out(alpha), quality=3))
        assert found.extents[0] == pytest.approx(1.7, abs=0.1)

    def test_a_mask_that_touches_the_border(self, model):
        alpha = np.zeros((200, 200))
        alpha[:120] = 255
        assert assert_sound(made(model, cut_out(alpha))).euler_number == 2

    @pytest.mark.parametrize("slanting", [False, True])
    def test_a_line_one_pixel_wide_stays_in_one_piece(self, model, slanting):
        alpha = np.zeros((300, 300))
        if slanting:
            np.fill_diagonal(alpha[20:280, 20:280], 255)
        else:
            alpha[150, 20:280] = 255
        assert assert_sound(made(model, cut_out(alpha))).euler_number == 2

    @pytest.mark.parametrize(
        "kind", ["noise", "soft noise", "chequers", "specks", "holes", "glass", "gradient", "faint"]
    )
    @pytest.mark.parametrize("quality", [1, 5])
    def test_any_mask_gives_a_closed_mesh(self, model, kind, quality):
        assert_sound(made(model, cut_out(random_alpha(kind)), quality))

    def test_glass_is_whole(self, model):
        found = solid(made(model, cut_out(random_alpha("glass"))))
        assert found.euler_number == 2
        assert found.extents[:2] == pytest.approx([1.7, 1.7], abs=0.1)

    def test_a_soft_shadow_is_left_out(self, model):
        alpha = np.zeros((200, 300))
        alpha[50:150, 50:150] = 255
        alpha[60:150, 150:280] = 70
        x_extent, y_extent, _ = solid(made(model, cut_out(alpha))).extents
        assert x_extent == pytest.approx(y_extent, rel=0.05)

    def test_dirt_around_the_object_is_dropped(self, model):
        alpha = drawn(disc).copy()
        alpha[2, 3] = alpha[250, 5] = alpha[128, 128] = 255
        alpha[100, 100] = 0
        found = solid(made(model, cut_out(alpha)))
        assert found.euler_number == 2
        assert found.extents[0] > 1.6

    def test_an_empty_mask_is_refused(self, model):
        with pytest.raises(EmptyImageError, match="fully transparent"):
            made(model, np.zeros((64, 64, 4), np.uint8))
