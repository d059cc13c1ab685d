"""Pictures of every kind a user may send, and the hostile ones: drawn here, nothing is read from disk."""

import io
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from errors import EmptyImageError, NotAnImageError, TooLargeError
from picture.cutout import foreground
from picture.decode import FORMATS, check_not_empty, decode

LIMIT = 1_000_000


def saved(image, format="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def drawing(mode="RGB", size=(40, 30)):
    """An asymmetric picture: a red box at the upper left on green, with a blue bar on the right."""
    image = Image.new("RGB", size, (20, 160, 40))
    draw = ImageDraw.Draw(image)
    draw.rectangle((4, 3, 15, 12), fill=(200, 30, 20))
    draw.rectangle((30, 0, 39, 29), fill=(10, 20, 220))
    return image.convert(mode)


def with_hole(image):
    """The same with its right half transparent."""
    image = image.convert("RGBA")
    image.paste((0, 0, 0, 0), (20, 0, 40, 30))
    return image


def png(width, height, bits, colour, rows, extra=b""):
    """A PNG written by hand: Pillow itself writes no 16-bit colour."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


class TestFormats:
    @pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"])
    def test_reads_by_content(self, format):
        picture = decode(saved(drawing(), format), LIMIT)
        assert (picture.format, picture.width, picture.height) == (format, 40, 30)
        assert picture.rgba.shape == (30, 40, 4)
        assert picture.rgba.dtype == np.uint8
        assert not picture.has_transparency
        assert np.abs(picture.rgba[20, 5, :3].astype(int) - (20, 160, 40)).max() < 12

    @pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA"])
    def test_png_modes(self, mode):
        picture = decode(saved(drawing(mode)), LIMIT)
        assert picture.mode == mode
        expected = np.array(drawing(mode).convert("RGBA"))
        assert np.array_equal(picture.rgba, expected)

    def test_cmyk_jpeg(self):
        picture = decode(saved(drawing("CMYK"), "JPEG", quality=95), LIMIT)
        assert picture.mode == "CMYK"
        assert np.abs(picture.rgba[6, 8, :3].astype(int) - (200, 30, 20)).max() < 25

    def test_palette_with_a_transparent_index(self):
        image = drawing("P")
        index = image.getpixel((5, 20))
        picture = decode(saved(image, "GIF", transparency=index), LIMIT)
        assert picture.has_transparency
        assert picture.rgba[20, 5].tolist() == [0, 0, 0, 0]
        assert picture.rgba[6, 8, 3] == 255

    def test_rgb_with_a_transparent_colour(self):
        picture = decode(saved(drawing(), transparency=(20, 160, 40)), LIMIT)
        assert picture.has_transparency
        assert picture.rgba[20, 5, 3] == 0

    def test_first_frame_of_an_animation(self):
        frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
        for format in ("GIF", "WEBP", "PNG", "TIFF"):
            data = saved(frames[0], format, save_all=True, append_images=frames[1:])
            assert decode(data, LIMIT).rgba[4, 4, 0] > 240

    def test_an_alpha_channel_that_hides_nothing_is_no_transparency(self):
        assert not decode(saved(drawing("RGBA")), LIMIT).has_transparency
        assert decode(saved(with_hole(drawing())), LIMIT).has_transparency

    def test_pixels_are_read_only(self):
        with pytest.raises(ValueError, match="read-only"):
            decode(saved(drawing()), LIMIT).rgba[0, 0] = 1


class TestDeepSamples:
    def test_16_bit_grey_is_scaled_not_clipped(self):
        ramp = np.linspace(0, 65535, 256).astype(np.uint16)[None].repeat(4, 0)
        for format in ("PNG", "TIFF"):
            picture = decode(saved(Image.fromarray(ramp), format), LIMIT)
            assert picture.mode.startswith("I")
            assert np.abs(picture.rgba[0, :, 0].astype(int) - np.arange(256)).max() <= 1

    @pytest.mark.parametrize(("colour", "channels"), [(2, 3), (6, 4), (4, 2)])
    def test_16_bit_colour_and_alpha(self, colour, channels):
        row = np.full((2, 3, channels), 0x8000, ">u2")
        rows = b"".join(b"\0" + line.tobytes() for line in row)
        picture = decode(png(3, 2, 16, colour, rows), LIMIT)
        assert set(picture.rgba[..., 0].flat) <= {127, 128}
        assert set(picture.rgba[..., 3].flat) <= ({127, 128} if channels in (2, 4) else {255})

    def test_16_bit_grey_with_a_transparent_value(self):
        trns = struct.pack(">I", 2) + b"tRNS" + b"\x01\x00" + struct.pack(">I", zlib.crc32(b"tRNS\x01\x00"))
        rows = b"\0" + struct.pack(">HH", 0x0100, 0xFFFF)
        picture = decode(png(2, 1, 16, 0, rows, trns), LIMIT)
        assert picture.rgba[0].tolist() == [[0, 0, 0, 0], [255, 255, 255, 255]]

    @pytest.mark.parametrize("top", [1.0, 4000.0])
    def test_float_tiff(self, top):
        ramp = np.linspace(0, top, 256, dtype=np.float32)[None].repeat(4, 0)
        ramp[1, 0] = np.nan
        picture = decode(saved(Image.fromarray(ramp), "TIFF"), LIMIT)
        assert picture.mode == "F"
        assert np.abs(picture.rgba[0, :, 0].astype(int) - np.arange(256)).max() <= 1


class TestUpright:
    @pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_exif_orientation(self, format, orientation):
        """A camera held in each of the eight ways stores the scene turned; it always comes out upright."""
        undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the Image.Transpose that stores what the tag then undoes
        stored = drawing().transpose(undo[orientation]) if orientation > 1 else drawing()
        exif = Image.Exif()
        exif[274] = orientation
        picture = decode(saved(stored, format, exif=exif), LIMIT)
        assert (picture.width, picture.height) == (40, 30)
        difference = picture.rgba[..., :3].astype(int) - np.array(drawing())
        assert np.abs(difference).mean() < 12

    def test_a_damaged_exif_block_does_not_cost_the_picture(self):
        data = saved(drawing(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff garbage")
        assert decode(data, LIMIT).width == 40


class TestContentHash:
    def test_the_same_pixels_from_other_programs(self):
        image = drawing()
        ways = [
            saved(image),
            saved(image, compress_level=1),
            saved(image, "BMP"),
            saved(image, "TIFF"),
            saved(image, "WEBP", lossless=True),
            saved(image.convert("RGBA")),
            saved(drawing("P"))
            if np.array_equal(np.array(drawing("P").convert("RGB")), np.array(image))
            else saved(image),
        ]
        assert len({decode(data, LIMIT).sha256 for data in ways}) == 1

    def test_colour_under_full_transparency_does_not_matter(self):
        plain = with_hole(drawing())
        tinted = np.array(plain)
        tinted[tinted[..., 3] == 0] = (255, 0, 255, 0)
        webp = saved(plain, "WEBP", lossless=True)  # drops those colours by default
        ways = [saved(plain), saved(Image.fromarray(tinted)), webp]
        assert len({decode(data, LIMIT).sha256 for data in ways}) == 1

    def test_one_pixel_or_the_shape_makes_another_hash(self):
        image = drawing()
        other = image.copy()
        other.putpixel((0, 0), (20, 160, 41))
        wide, tall = Image.new("RGB", (8, 2)), Image.new("RGB", (2, 8))
        assert len({decode(saved(one), LIMIT).sha256 for one in (image, other, wide, tall)}) == 4


class TestRefused:
    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"\0",
            b"not a picture",
            b"<svg xmlns='http://www.w3.org/2000/svg'/>",
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
            b"8BPS\0\1" + bytes(40),
            b"\x89PNG\r\n\x1a\n",
            b"\x89PNG\r\n\x1a\n" + bytes(50),
            b"GIF89a" + bytes(7),
            b"BM" + bytes(60),
            b"II*\0" + b"\xff" * 40,
            b"RIFF\x20\0\0\0WEBPVP8 " + b"\xff" * 24,
            b"\xff\xd8\xff\xe0" + bytes(30),
        ],
    )
    def test_not_a_picture(self, data):
        with pytest.raises(NotAnImageError) as caught:
            decode(data, LIMIT)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("format", ["ICO", "PCX", "PPM", "TGA", "JPEG2000"])
    def test_formats_that_are_not_on_the_list(self, format):
        with pytest.raises(NotAnImageError, match="PNG, JPEG, WebP"):
            decode(saved(drawing(), format), LIMIT)

    @pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "BMP", "TIFF"])
    @pytest.mark.parametrize("kept", [0.2, 0.5, 0.9])
    def test_cut_short(self, format, kept):
        noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
        data = saved(noise, format)
        with pytest.raises(NotAnImageError):
            decode(data[: int(len(data) * kept)], LIMIT)

    def test_flipped_bytes_end_as_a_picture_or_as_one_of_the_two_errors(self):
        random = np.random.default_rng(1)
        for format in FORMATS:
            data = np.frombuffer(saved(drawing(), format), np.uint8)
            for _ in range(40):
                damaged = data.copy()
                damaged[random.integers(0, len(data), 4)] = random.integers(0, 256, 4)
                try:
                    assert decode(damaged.tobytes(), LIMIT).rgba.size
                except (NotAnImageError, TooLargeError) as error:
                    assert "\n" not in str(error)  # noqa: PT017

    @pytest.mark.filterwarnings("error")
    def test_a_bomb_is_refused_before_it_is_decoded(self):
        huge = png(100_000, 100_000, 8, 2, b"")  # has no pixel data at all: decoding it would be another error
        with pytest.raises(TooLargeError, match="100000 × 100000"):
            decode(huge, 50_000_000)

    def test_the_limit_is_inclusive(self):
        assert decode(saved(drawing()), 1200).width == 40
        with pytest.raises(TooLargeError):
            decode(saved(drawing()), 1199)


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
