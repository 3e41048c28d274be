"""Image files of every format to upright RGB: pixels compared with their source, and errors for incomplete files."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from ssd.data.images import decode_image, read_image_file


@pytest.fixture(scope="module")
def pixels():
    """(40, 60, 3) uint8 RGB, smooth enough for JPEG, with a different colour in each corner."""
    small = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return cv2.resize(small, (60, 40), interpolation=cv2.INTER_LINEAR)


def save(path, image, **options):
    """Write an image or array to `path` with Pillow."""
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)
    return path


def expect_near(found, expected, tolerance):
    assert found.dtype == np.uint8 and found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= tolerance


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.ppm", "a.webp", "without suffix"])
def test_lossless_files_keep_their_pixels(name, pixels, tmp_path):
    image = Image.fromarray(pixels)
    image.save(tmp_path / name, format="PNG") if "." not in name else image.save(tmp_path / name, lossless=True)
    np.testing.assert_array_equal(read_image_file(tmp_path / name), pixels)


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_jpeg_has_the_same_pixels_as_in_evaluation(mode, pixels, tmp_path):
    path = save(tmp_path / "a.jpg", Image.fromarray(pixels).convert(mode))
    np.testing.assert_array_equal(read_image_file(path), decode_image(path.read_bytes()))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_exif_orientation_is_applied(suffix, orientation, pixels, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if suffix == "webp" else {"quality": 100, "subsampling": 0} if suffix == "jpg" else {}
    path = save(tmp_path / f"a.{suffix}", pixels, exif=exif, **options)
    upright = {  # positions of the first stored row and column, as the EXIF standard defines them
        1: pixels,  # top, left
        2: pixels[:, ::-1],  # top, right
        3: pixels[::-1, ::-1],  # bottom, right
        4: pixels[::-1],  # bottom, left
        5: pixels.transpose(1, 0, 2),  # left, top
        6: pixels.transpose(1, 0, 2)[:, ::-1],  # right, top
        7: pixels.transpose(1, 0, 2)[::-1, ::-1],  # right, bottom
        8: pixels.transpose(1, 0, 2)[::-1],  # left, bottom
    }[orientation]
    expect_near(read_image_file(path), upright, 6 if suffix == "jpg" else 0)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.gif"])
def test_grey_becomes_three_equal_channels(name, pixels, tmp_path):
    grey = pixels[..., 0]
    image = read_image_file(save(tmp_path / name, grey, **({"quality": 100} if name == "a.jpg" else {})))
    expect_near(image, np.repeat(grey[..., None], 3, axis=2), 6 if name == "a.jpg" else 0)
    assert (image[..., 0] == image[..., 1]).all() and (image[..., 0] == image[..., 2]).all()


@pytest.mark.parametrize("suffix, channels", [("png", 1), ("png", 3), ("tif", 1), ("tif", 3), ("pgm", 1)])
def test_16_bit_values_keep_their_high_byte(suffix, channels, tmp_path):
    values = np.random.default_rng(1).integers(0, 2**16, (9, 11, channels), dtype=np.uint16)
    assert cv2.imwrite(str(tmp_path / f"a.{suffix}"), values[..., ::-1])
    np.testing.assert_array_equal(read_image_file(tmp_path / f"a.{suffix}"), np.broadcast_to(values >> 8, (9, 11, 3)))


def test_16_bit_values_of_both_byte_orders(tmp_path):
    values = np.array([[0x00FF, 0x1234, 0xFFFF]], np.uint16)
    for mode, order in (("I;16", "<u2"), ("I;16B", ">u2")):
        path = save(tmp_path / "a.tif", Image.frombytes(mode, (3, 1), values.astype(order).tobytes()))
        assert read_image_file(path)[0].tolist() == [[0x00] * 3, [0x12] * 3, [0xFF] * 3]


@pytest.mark.parametrize("name", ["a.jpg", "a.tif"])
def test_cmyk_is_converted_as_pillow_does(name, pixels, tmp_path):
    black = np.linspace(0, 120, 40 * 60).reshape(40, 60, 1)
    cmyk = Image.fromarray(np.concatenate([255 - pixels, black.astype(np.uint8)], axis=2), "CMYK")
    path = save(tmp_path / name, cmyk, **({"quality": 100} if name == "a.jpg" else {}))
    with Image.open(path) as stored:
        assert stored.mode == "CMYK"
        expected = np.asarray(stored.convert("RGB"))
    assert expected.std() > 20  # not a uniform image
    expect_near(read_image_file(path), expected, 3)


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tif"])
def test_transparent_pixels_are_white_whatever_their_colour(name, pixels, tmp_path):
    alpha = np.full((40, 60), 255, np.uint8)
    alpha[:10], alpha[10:20] = 0, 128
    path = save(tmp_path / name, np.dstack([pixels, alpha]), **({"lossless": True} if name == "a.webp" else {}))
    image = read_image_file(path)
    assert (image[:10] == 255).all()
    expect_near(image[10:20], np.round(pixels[10:20] * (128 / 255) + 255 * (127 / 255)).astype(np.uint8), 1)
    np.testing.assert_array_equal(image[20:], pixels[20:])


def test_transparent_grey_palette_and_16_bit_images_lie_on_white(tmp_path):
    expected = [[255, 255, 255], [70, 70, 70]]
    grey = np.array([[[9, 0], [70, 255]]], np.uint8)
    assert read_image_file(save(tmp_path / "grey.png", Image.fromarray(grey, "LA")))[0].tolist() == expected
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    palette.putpalette([9, 9, 9, 70, 70, 70])
    assert read_image_file(save(tmp_path / "palette.png", palette, transparency=0))[0].tolist() == expected
    assert read_image_file(save(tmp_path / "palette.gif", palette, transparency=0))[0].tolist() == expected
    values = np.array([[[9, 9, 9, 0], [70, 70, 70, 255]]], np.uint16) * 257
    assert cv2.imwrite(str(tmp_path / "16bit.png"), values)
    assert read_image_file(tmp_path / "16bit.png")[0].tolist() == expected


def test_exif_orientation_is_applied_to_transparent_images(pixels, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    rgba = np.dstack([pixels, np.full((40, 60), 255, np.uint8)])
    rgba[:10, :, 3] = 0
    image = read_image_file(save(tmp_path / "a.png", rgba, exif=exif))
    assert image.shape == (60, 40, 3) and (image[:, 30:] == 255).all()
    np.testing.assert_array_equal(image[:, :30], pixels[10:].transpose(1, 0, 2)[:, ::-1])


def test_bilevel_images_and_the_first_of_several_frames(tmp_path):
    bits = Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1")
    assert read_image_file(save(tmp_path / "a.tif", bits))[0].tolist() == [[0] * 3, [255] * 3]
    frames = [Image.new("RGB", (2, 1), color) for color in ("red", "blue")]
    for name in ("a.gif", "pages.tif"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        assert read_image_file(tmp_path / name)[0].tolist() == [[255, 0, 0]] * 2


def test_path_may_be_a_string(pixels, tmp_path):
    np.testing.assert_array_equal(read_image_file(str(save(tmp_path / "名 前.png", pixels))), pixels)


# --- errors ---


@pytest.mark.parametrize("content", [b"", b"no image", b"\xff\xd8", b"\x89PNG\r\n\x1a\n"])
def test_file_that_is_not_an_image_is_an_error(content, tmp_path):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(ValueError):
        read_image_file(tmp_path / "a.jpg")


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "TIFF", "GIF", "BMP", "WEBP"])
def test_truncated_file_is_an_error_of_one_line(image_format, pixels, tmp_path, capfd):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, image_format)
    encoded = file.getvalue()
    for length in range(0, len(encoded) - 2, max(1, len(encoded) // 25)):
        (tmp_path / "a").write_bytes(encoded[:length])
        with pytest.raises(ValueError) as error:
            read_image_file(tmp_path / "a")
        assert "\n" not in str(error.value)
    assert capfd.readouterr().err == ""


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_damaged_file_raises_only_value_errors(pixels, tmp_path):
    rng = np.random.default_rng(3)
    for image_format in ("JPEG", "PNG", "TIFF", "GIF", "BMP", "WEBP", "PPM"):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, image_format)
        for _ in range(40):
            damaged = np.frombuffer(file.getvalue(), np.uint8).copy()
            damaged[rng.integers(0, min(len(damaged), 200), 5)] = rng.integers(0, 256, 5)
            (tmp_path / "a").write_bytes(damaged.tobytes())
            try:
                image = read_image_file(tmp_path / "a")
            except ValueError:
                continue
            assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3


def test_32_bit_values_are_an_error(tmp_path):
    for values in (np.zeros((4, 4), np.float32), np.zeros((4, 4), np.int32)):
        with pytest.raises(ValueError, match="32 bits"):
            read_image_file(save(tmp_path / "a.tif", values))


def test_unreadable_file_is_an_os_error(tmp_path):
    for path in (tmp_path / "absent.jpg", tmp_path):
        with pytest.raises(OSError):
            read_image_file(path)
