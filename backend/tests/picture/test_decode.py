"""Pictures of every kind a user may send, and the hostile ones: drawn here, nothing is read from disk."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageDraw

from errors import NotAnImageError, TooLargeError
from picture import FORMATS
from picture.decode import decode

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
