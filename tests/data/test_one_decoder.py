"""Training, evaluation and prediction see the same pixels of the same file, whatever its format."""

import io
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from rotated_images import SIZE, draw
from ssd.data import images
from ssd.data.batches import EvalBatchTransform, TrainBatchTransform
from ssd.data.images import read_image_file
from ssd.data.mindrecord import UnusableImageError, read_record
from ssd.data.readers.annotations import AnnotatedImage
from ssd.errors import UserError
from ssd.inference.preprocessing import load_pixels

OFF = dict.fromkeys(
    ("scale_jitter", "zoom_out_prob", "crop_prob", "color_prob", "brightness", "contrast", "saturation", "hue"), 0
)
NO_AUGMENT = {**OFF, "flip_prob": 0, "zoom_out_max": 1, "crop_min_iou": [0]}
RGB = draw()
ALPHA = np.full(SIZE, 255, np.uint8)
ALPHA[:20], ALPHA[20:40] = 0, 100
EXIF = Image.Exif()
EXIF[0x0112] = 6
WIDE = (RGB.astype(np.uint16) << 8) + 200  # 16 bits per channel


class BatchInfo:
    def get_epoch_num(self):
        return 0


def pillow(array, image_format, mode=None, **options):
    """Return the bytes of an image file. mode: mode of Pillow to convert to"""
    file, image = io.BytesIO(), Image.fromarray(array)
    (image.convert(mode) if mode else image).save(file, image_format, **options)
    return file.getvalue()


def opencv(array, suffix):
    return cv2.imencode(suffix, array)[1].tobytes()


def palette_with_transparency():
    file, image = io.BytesIO(), Image.fromarray(RGB).quantize(16)
    image.save(file, "PNG", transparency=image.getpixel((0, 0)))
    return file.getvalue()


FILES = {
    "RGB JPEG": lambda: pillow(RGB, "JPEG"),
    "gray JPEG": lambda: pillow(RGB, "JPEG", "L"),
    "CMYK JPEG": lambda: pillow(RGB, "JPEG", "CMYK"),
    "progressive JPEG": lambda: pillow(RGB, "JPEG", progressive=True),
    "rotated JPEG": lambda: pillow(RGB, "JPEG", exif=EXIF),
    "rotated CMYK JPEG": lambda: pillow(RGB, "JPEG", "CMYK", exif=EXIF),
    "two-picture MPO": lambda: pillow(RGB, "MPO", save_all=True, append_images=[Image.fromarray(RGB[::-1])]),
    "RGB PNG": lambda: pillow(RGB, "PNG"),
    "gray PNG": lambda: pillow(RGB, "PNG", "L"),
    "1-bit PNG": lambda: pillow(RGB, "PNG", "1"),
    "palette PNG": lambda: pillow(RGB, "PNG", "P"),
    "PNG with color profile": lambda: pillow(RGB, "PNG", icc_profile=b"no profile"),
    "transparent PNG": lambda: pillow(np.dstack([RGB, ALPHA]), "PNG"),
    "transparent gray PNG": lambda: pillow(np.dstack([RGB, ALPHA]), "PNG", "LA"),
    "transparent palette PNG": palette_with_transparency,
    "transparent color PNG": lambda: pillow(RGB, "PNG", transparency=(128, 128, 128)),
    "16-bit PNG": lambda: opencv(WIDE, ".png"),
    "16-bit gray PNG": lambda: opencv(WIDE[..., 0], ".png"),
    "16-bit transparent PNG": lambda: opencv(np.dstack([WIDE, ALPHA.astype(np.uint16) * 257]), ".png"),
    "rotated PNG": lambda: pillow(RGB, "PNG", exif=EXIF),
    "lossy WebP": lambda: pillow(RGB, "WEBP"),
    "lossless WebP": lambda: pillow(RGB, "WEBP", lossless=True),
    "rotated WebP": lambda: pillow(RGB, "WEBP", exif=EXIF),
    "transparent WebP": lambda: pillow(np.dstack([RGB, ALPHA]), "WEBP", lossless=True),
    "rotated TIFF": lambda: pillow(RGB, "TIFF", exif=EXIF),
    "16-bit TIFF": lambda: opencv(WIDE, ".tif"),
    "CMYK TIFF": lambda: pillow(RGB, "TIFF", "CMYK"),
    "GIF": lambda: pillow(RGB, "GIF"),
    "transparent GIF": lambda: pillow(np.dstack([RGB, ALPHA]), "GIF"),
    "BMP": lambda: pillow(RGB, "BMP"),
    "16-bit PGM": lambda: opencv(WIDE[..., 0], ".pgm"),
    "JPEG 2000": lambda: pillow(RGB, "JPEG2000"),
    "AVIF": lambda: pillow(RGB, "AVIF"),
}


def three_readings(path, box=(0, 0, 1, 1)):
    """Return the pixels of training, evaluation and prediction, each at the size of the file."""
    ground_truth = np.array([[*box, 1]], dtype=np.float64)
    record = read_record(AnnotatedImage(1, path, size=None, ground_truth=ground_truth, crowd_boxes=0))
    predicted = load_pixels(path)
    size = predicted.shape[:2]
    columns = [np.array([1])], [np.frombuffer(record.image, np.uint8)]
    train = TrainBatchTransform(size, max_boxes=1, seed=0, num_classes=2, upright=True, **NO_AUGMENT)
    trained, _, _ = train(*columns, [record.ground_truth], BatchInfo())
    evaluated, _, sizes = EvalBatchTransform(size, upright=True)(*columns, BatchInfo())
    assert sizes.tolist() == [list(size)]
    return trained[0], evaluated[0], predicted


@pytest.mark.parametrize("name", FILES)
def test_training_evaluation_and_prediction_see_the_same_pixels(name, tmp_path, capfd):
    path = tmp_path / "image"
    path.write_bytes(FILES[name]())
    trained, evaluated, predicted = three_readings(path)
    assert predicted.std() > 10
    assert predicted.shape == ((96, 64, 3) if "rotated" in name else (64, 96, 3))
    np.testing.assert_array_equal(evaluated, predicted)
    np.testing.assert_array_equal(trained, predicted)
    if name in ("transparent color PNG", "transparent palette PNG"):
        assert (predicted[0] == 255).all() and not (predicted == 128).all(axis=2).any()  # the gray background
    elif "transparent" in name:
        assert (predicted[:20] == 255).all()
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ["RGB PNG", "gray PNG", "palette PNG", "lossy WebP"])
def test_opencv_and_pillow_decode_plain_files_to_the_same_pixels(name, tmp_path, monkeypatch):
    (tmp_path / "image").write_bytes(FILES[name]())
    expected = read_image_file(tmp_path / "image")
    calls, convert = [], images._pillow_to_rgb
    monkeypatch.setattr(images, "_pillow_to_rgb", lambda image: calls.append(1) or convert(image))
    assert np.array_equal(read_image_file(tmp_path / "image"), expected) and not calls
    monkeypatch.setattr(images, "_PNG_TYPES_FOR_OPENCV", ())
    monkeypatch.setattr(images, "_PLAIN_WEBP", b"")
    assert np.array_equal(read_image_file(tmp_path / "image"), expected) and calls


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("name", ["RGB JPEG", "RGB PNG", "transparent PNG", "rotated PNG", "rotated TIFF", "BMP"])
def test_images_above_the_limit_of_pillow_are_read_by_all(name, tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    (tmp_path / "image").write_bytes(FILES[name]())
    trained, evaluated, predicted = three_readings(tmp_path / "image")
    assert np.array_equal(trained, predicted) and np.array_equal(evaluated, predicted)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_images_above_the_limit_of_opencv_are_refused_by_all(tmp_path):
    """33000x33000 pixels are stated in the header of a JPEG and of a PNG, whose pixels need not exist."""
    jpeg, png = bytearray(pillow(RGB, "JPEG")), bytearray(pillow(RGB, "PNG"))
    start = jpeg.index(b"\xff\xc0")
    jpeg[start + 5 : start + 9] = 2 * (33000).to_bytes(2, "big")
    png[16:24] = 2 * (33000).to_bytes(4, "big")
    png[29:33] = zlib.crc32(png[12:29]).to_bytes(4, "big")
    for number, encoded in enumerate((bytes(jpeg), bytes(png))):
        path = tmp_path / f"{number}"
        path.write_bytes(encoded)
        image = AnnotatedImage(1, path, size=None, ground_truth=np.zeros((0, 5)), crowd_boxes=0)
        with pytest.raises(UnusableImageError, match="33000x33000"):
            read_record(image)
        with pytest.raises(UserError, match="33000x33000"):
            load_pixels(path)
        for transform, annotations in (
            (
                TrainBatchTransform((8, 8), max_boxes=1, seed=0, num_classes=2, upright=True, **NO_AUGMENT),
                ([np.zeros((1, 5))],),
            ),
            (EvalBatchTransform((8, 8), upright=True), ()),
        ):
            with pytest.raises(UserError, match="image 1 .*33000x33000"):
                transform([np.array([1])], [np.frombuffer(encoded, np.uint8)], *annotations, BatchInfo())
