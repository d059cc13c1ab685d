"""The object in a picture: drawn scenes whose truth is known, and those in which there is none."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from errors import EmptyImageError
from picture.cutout import foreground
from picture.decode import check_not_empty

SIZE = 256


def blob(size=SIZE):
    """(H,W) mask of a lopsided pear, drawn large and reduced, so its edge is anti-aliased; 0..1."""
    image = Image.new("L", (4 * size, 4 * size))
    draw = ImageDraw.Draw(image)
    draw.ellipse([1.2 * size, 1.5 * size, 2.9 * size, 3.3 * size], fill=255)
    draw.ellipse([1.5 * size, 0.6 * size, 2.4 * size, 2.2 * size], fill=255)
    return np.asarray(image.resize((size, size), Image.Resampling.BOX)) / 255.0


def scene(kind):
    """(RGBA, true mask) of a shaded orange pear before one of several backgrounds."""
    random = np.random.default_rng(3)
    y, x = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    mask = blob()
    back = np.empty((SIZE, SIZE, 3))
    if kind == "plain":
        back[:] = (235, 235, 230)
    elif kind == "gradient":
        back[:] = (np.stack([0.3 + 0.5 * y, 0.5 + 0.3 * x, 0.8 - 0.2 * y], -1)) * 255
    elif kind == "table":
        grain = np.sin(60 * y + 3 * np.sin(9 * x) + random.normal(0, 0.3, (SIZE, SIZE)))
        back[:] = np.array([120, 85, 60]) + 14 * grain[..., None]
        back[: SIZE // 3] = (150, 165, 170)
    elif kind == "shadow":
        shade = Image.fromarray((blob() * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(9))
        shade = np.roll(np.asarray(shade) / 255.0, (14, 18), (0, 1))
        back[:] = 225 * (1 - 0.45 * shade[..., None])
    light = 0.65 + 0.5 * np.clip(1.1 - np.hypot(x - 0.42, y - 0.45) * 2, 0, 1)
    colour = np.array([225, 120, 40]) * light[..., None]
    rgb = colour * mask[..., None] + back * (1 - mask[..., None]) + random.normal(0, 3, (SIZE, SIZE, 3))
    rgba = np.dstack([np.clip(rgb, 0, 255), np.full((SIZE, SIZE), 255)]).astype(np.uint8)
    return rgba, mask > 0.5


SCENES = ["plain", "gradient", "table", "shadow"]


def overlap(cut_out, truth):
    found = cut_out[..., 3] > 127
    return (found & truth).sum() / (found | truth).sum()


class TestForeground:
    @pytest.mark.parametrize("kind", SCENES)
    def test_finds_the_object(self, kind):
        rgba, truth = scene(kind)
        cut_out = foreground(rgba, "auto")
        assert overlap(cut_out, truth) > 0.9
        assert np.array_equal(cut_out[..., :3], rgba[..., :3])

    def test_the_edge_is_antialiased(self):
        alpha = foreground(scene("plain")[0], "auto")[..., 3]
        assert ((alpha > 20) & (alpha < 235)).sum() > 100

    def test_a_large_picture_keeps_its_size(self):
        rgba, truth = scene("table")
        large = np.asarray(Image.fromarray(rgba).resize((1500, 1500), Image.Resampling.BICUBIC))
        cut_out = foreground(large, "auto")
        assert cut_out.shape == (1500, 1500, 4)
        truth = np.asarray(Image.fromarray(truth).resize((1500, 1500)))
        assert overlap(cut_out, truth) > 0.9

    def test_the_hole_of_a_ring_stays_open(self):
        image = Image.new("RGB", (SIZE, SIZE), (240, 240, 240))
        ImageDraw.Draw(image).ellipse((40, 40, 216, 216), outline=(180, 40, 50), width=40)
        alpha = foreground(np.array(image.convert("RGBA")), "auto")[..., 3]
        assert alpha[128, 128] == 0
        assert alpha[128, 60] == 255

    def test_same_picture_same_mask_from_any_thread(self):
        import cv2

        rgba, _ = scene("table")
        expected = foreground(rgba, "auto")

        def again(seed):
            cv2.setRNGSeed(seed)
            return foreground(rgba, "auto")

        with ThreadPoolExecutor(3) as pool:
            assert all(np.array_equal(result, expected) for result in pool.map(again, range(3)))

    @pytest.mark.parametrize("background", ["auto", "true", "false"])
    def test_a_real_mask_is_used_as_it_is(self, background):
        rgba, truth = scene("table")
        rgba[..., 3] = truth * 200
        assert np.array_equal(foreground(rgba, background), rgba)

    def test_rounded_corners_are_a_mask_only_for_auto(self):
        rgba, truth = scene("plain")
        y, x = np.mgrid[0:SIZE, 0:SIZE]
        corner = np.minimum(x, SIZE - 1 - x) + np.minimum(y, SIZE - 1 - y) < 32
        rgba[corner] = 0
        assert 0.01 < corner.mean() < 0.1
        assert np.array_equal(foreground(rgba, "auto"), rgba)
        assert overlap(foreground(rgba, "true"), truth) > 0.9

    def test_a_few_stray_transparent_pixels_are_no_mask(self):
        rgba, truth = scene("plain")
        rgba[0, :5, 3] = 0
        assert overlap(foreground(rgba, "auto"), truth) > 0.9

    def test_input_is_left_alone(self):
        rgba, _ = scene("plain")
        before = rgba.copy()
        rgba.setflags(write=False)
        foreground(rgba, "auto")
        assert np.array_equal(rgba, before)


class TestEmpty:
    def test_fully_transparent(self):
        for background in ("auto", "true", "false"):
            with pytest.raises(EmptyImageError, match="fully transparent"):
                check_not_empty(np.zeros((9, 9, 4), np.uint8), background)

    def test_one_colour(self):
        rgba = np.full((300, 200, 4), 255, np.uint8)
        rgba[::7, ::3, :3] -= 3  # JPEG's own noise is no content
        for background in ("auto", "true"):
            with pytest.raises(EmptyImageError, match="one colour"):
                check_not_empty(rgba, background)

    def test_opaque_with_removal_off(self):
        with pytest.raises(EmptyImageError, match="all of it is the object"):
            check_not_empty(scene("plain")[0], "false")

    def test_equally_transparent_everywhere(self):
        rgba, _ = scene("plain")
        rgba[..., 3] = 128
        with pytest.raises(EmptyImageError, match="all of it"):
            check_not_empty(rgba, "false")
        assert foreground(rgba, "auto")[..., 3].max() == 128

    def test_a_picture_with_something_in_it_passes(self):
        for kind in SCENES:
            check_not_empty(scene(kind)[0], "auto")

    def test_noise_has_no_object(self):
        noise = np.random.default_rng(0).normal(128, 4, (200, 200, 1)).repeat(4, 2).clip(0, 255).astype(np.uint8)
        noise[..., 3] = 255
        with pytest.raises(EmptyImageError, match="stands out"):
            foreground(noise, "auto")

    @pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (7, 40)])
    def test_too_small_to_tell(self, shape):
        rgba = np.zeros((*shape, 4), np.uint8)
        rgba[..., 3] = 255
        rgba[: (shape[0] + 1) // 2, : (shape[1] + 1) // 2, :3] = 200
        with pytest.raises(EmptyImageError):
            foreground(rgba, "auto")
