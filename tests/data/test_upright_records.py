"""From image files that EXIF data rotate or mirror to batches: boxes lie on their objects, checked by color.

The real pipeline: annotation reader, shards, MindSpore's loader, annotations for the evaluation.
"""

import json
import sys

import mindspore.dataset as ds
import numpy as np
import pytest
from PIL import Image

import create_data
from anchor_fit.reading import read_ground_truth
from rotated_images import BOXES_XYWH, COLORS, SIZE, draw, store, write_dataset, write_shards
from ssd.config.loading import CONFIGS, load_config
from ssd.data import mindrecord
from ssd.data.dataset import create_dataset, read_images
from ssd.data.dataset_info import read_dataset_info, shards_are_upright
from ssd.data.images import decode_image, read_size
from ssd.data.mindrecord import convert
from ssd.data.readers.coco import read_coco
from ssd.data.readers.splits import open_dataset_folder, read_splits
from ssd.evaluation.coco_metrics import CocoEvaluator

RECIPE = CONFIGS.parent / "examples" / "det" / "ssd" / "ssd_mobilenetv2.yaml"


def batch(folder, split, image_size=SIZE, **changes):
    """Return the columns of the first batch of a split, without augmentation, as arrays."""
    off = dict.fromkeys((f"augment.{key}_prob" for key in ("crop", "flip", "color", "zoom_out")), 0)
    values = {"data_dir": str(folder), "device_target": "CPU", "image_size": list(image_size), "batch_size": 8}
    cfg = load_config(RECIPE, {**values, **off, "shuffle": False, **changes})
    return next(create_dataset(cfg, split).create_tuple_iterator(num_epochs=1, output_numpy=True))


def assert_on_their_colors(image, boxes_yxyx, names):
    """Check that the four boxes enclose exactly the rectangles of their colors.

    boxes_yxyx: (4, 4) in pixels of the image
    """
    assert sorted(names) == sorted(COLORS)
    for (y0, x0, y1, x1), name in zip(np.rint(boxes_yxyx).astype(int), names):
        color = COLORS[name]
        inside = image[y0 + 1 : y1 - 1, x0 + 1 : x1 - 1].astype(int)
        assert inside.size and np.abs(inside - color).max() < 30  # JPEG is lossy
        around = np.concatenate(
            [image[y0 - 2, x0:x1], image[y1 + 1, x0:x1], image[y0:y1, x0 - 2], image[y0:y1, x1 + 1]]
        )
        assert np.abs(around.astype(int) - 128).max() < 30


def convert_dataset(folder, annotation_format, out, boxes_in=None):
    splits = read_splits(open_dataset_folder(annotation_format, folder), boxes_in=boxes_in)
    return convert(*splits, out, overwrite=False, num_workers=2)


@pytest.mark.parametrize("annotation_format", ["coco", "voc", "yolo"])
@pytest.mark.parametrize("frame", ["upright", "stored"])
def test_boxes_of_all_orientations_lie_on_their_colors(annotation_format, frame, tmp_path):
    folder = write_dataset(tmp_path / "photos", annotation_format, range(1, 9), frame)
    out = tmp_path / "out"
    info = convert_dataset(folder, annotation_format, out, boxes_in=frame if annotation_format == "yolo" else None)
    assert info.upright and read_dataset_info(out / "dataset.json").upright and shards_are_upright(out)
    assert info.train.boxes == info.val.boxes == 32 and info.train.dropped_boxes == 0

    images, boxes_yxyx, labels = batch(out, "train")
    assert len(images) == 8
    for row in range(8):
        assert_on_their_colors(
            images[row], boxes_yxyx[row] * np.tile(SIZE, 2), [info.classes[label] for label in labels[row]]
        )

    images, image_ids, sizes = batch(out, "val")
    evaluator = CocoEvaluator(out / info.annotations, info.classes)
    assert sizes.tolist() == [list(SIZE)] * 8
    stored = read_images(out, "val", image_ids.tolist())
    for image, image_id in zip(images, image_ids.tolist()):
        entry = evaluator.ground_truth.imgs[image_id]
        assert (entry["height"], entry["width"]) == SIZE
        rows = evaluator.ground_truth.imgToAnns[image_id]
        found = {evaluator.ground_truth.cats[row["category_id"]]["name"]: np.round(row["bbox"], 3) for row in rows}
        assert {name: tuple(box.tolist()) for name, box in found.items()} == BOXES_XYWH
        assert np.array_equal(image, decode_image(stored[image_id]))


@pytest.mark.parametrize("boxes_in", ["upright", "stored"])
def test_option_of_the_command_and_its_report(boxes_in, tmp_path, monkeypatch, capsys):
    """The sides of images of orientation 3 do not tell in which pixels boxes are."""
    folder = write_dataset(tmp_path / "photos", "voc", [3], boxes_in)
    out = tmp_path / "out"
    arguments = ["voc", "--data_path", str(folder), "--out_path", str(out), "--boxes_in", boxes_in]
    monkeypatch.setattr(sys, "argv", ["create_data.py", *arguments])
    create_data.main()
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "EXIF" in line]
    assert boxes_in in line and "(2)" in line and "train3.jpg" in line
    images, boxes_yxyx, labels = batch(out, "train", batch_size=1)
    classes = read_dataset_info(out / "dataset.json").classes
    assert_on_their_colors(images[0], boxes_yxyx[0] * np.tile(SIZE, 2), [classes[label] for label in labels[0]])


def test_reduced_decoding_of_turned_images_keeps_boxes_on_their_colors(tmp_path):
    """The image is at least 8 times as large as the network's input, and its sides are not multiples of 8."""
    large = np.repeat(np.repeat(draw(), 13, axis=0), 13, axis=1)[: 13 * 64 - 3, : 13 * 96 - 5]
    folder = write_dataset(tmp_path / "photos", "coco", range(1, 9), "upright")
    for split in ("train", "val"):
        path = folder / "annotations" / f"instances_{split}.json"
        content = json.loads(path.read_text())
        for entry in content["images"]:
            entry.update(height=13 * 64 - 3, width=13 * 96 - 5)
            store(folder / split / entry["file_name"], int(entry["file_name"][-5]), large)
        for annotation in content["annotations"]:
            annotation["bbox"] = [13 * side for side in annotation["bbox"]]
        path.write_text(json.dumps(content))
    info = convert_dataset(folder, "coco", tmp_path / "out")
    images, boxes_yxyx, labels = batch(tmp_path / "out", "train", image_size=SIZE)
    upright = images[0].astype(int)
    for row in range(8):
        assert_on_their_colors(
            images[row], boxes_yxyx[row] * np.tile(SIZE, 2), [info.classes[label] for label in labels[row]]
        )
        assert np.abs(images[row] - upright).mean() < 3  # not shifted: all are the same upright image


# --- shards of earlier versions ---


@pytest.fixture(params=["no dataset.json", "format 1"])
def old_shards(request, tmp_path):
    """Shards whose boxes are in stored pixels, of an image of orientation 6 and a transparent PNG."""
    folder = write_dataset(tmp_path / "photos", "coco", [6, 2], "stored")
    for split in ("train", "val"):
        path = folder / "annotations" / f"instances_{split}.json"
        content = json.loads(path.read_text())
        content["images"][1]["file_name"] = "transparent.png"
        rgba = np.dstack([draw(), np.full(SIZE, 255, np.uint8)])
        rgba[:3, :3] = (1, 2, 3, 0)
        Image.fromarray(rgba).save(folder / split / "transparent.png")
        path.write_text(json.dumps(content))
    out = tmp_path / "out"
    annotations = folder / "annotations"
    splits = [read_coco(annotations / f"instances_{split}.json", folder / split) for split in ("train", "val")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mindrecord, "check_image", lambda encoded: read_size(encoded, upright=False))
        convert(*splits, out, overwrite=False, num_workers=1)
    path = out / "dataset.json"
    if request.param == "format 1":
        content = json.loads(path.read_text())
        del content["upright"]
        path.write_text(json.dumps({**content, "format": 1}))
    else:
        path.unlink()
    return folder, out


def test_shards_of_earlier_versions_are_decoded_as_stored(old_shards):
    folder, out = old_shards
    assert not shards_are_upright(out)
    images, _, sizes = batch(out, "val", batch_size=1, image_size=(96, 64))
    assert sizes.tolist() == [[96, 64]]
    with Image.open(folder / "val" / "val6.jpg") as image:
        assert np.abs(images[0].astype(int) - np.asarray(image)).max() <= 2  # Pillow's decoder rounds differently
    images, boxes_yxyx, labels = batch(out, "train", batch_size=1, image_size=(96, 64))
    train = ds.MindDataset(str(out / "train" / "coco0"), ["annotation"], shuffle=False)
    ((annotation,), *_) = train.create_tuple_iterator(num_epochs=1, output_numpy=True)
    np.testing.assert_allclose(boxes_yxyx[0] * [96, 64, 96, 64], annotation[:, :4], rtol=0, atol=1e-4)
    with Image.open(folder / "train" / "train6.jpg") as image:
        assert np.abs(images[0].astype(int) - np.asarray(image)).max() <= 2


def test_anchors_are_fitted_to_fractions_of_the_decoded_image(old_shards, tmp_path):
    _, old = old_shards
    expected = np.array([(y / 64, x / 96, (y + h) / 64, (x + w) / 96) for x, y, w, h in BOXES_XYWH.values()])
    new = write_shards(tmp_path / "new", [6], is_old=False)
    assert np.allclose(read_ground_truth(new, "train").boxes_yxyx, expected, atol=1e-6)
    # A viewer rotates the image clockwise: the upright x is 1 - the stored y, and the upright y is the stored x.
    y0, x0, y1, x1 = read_ground_truth(old, "train").boxes_yxyx[:4].T
    assert np.allclose(np.stack([x0, 1 - y1, x1, 1 - y0], axis=1), expected, atol=1e-6)


def test_transparent_pixels_of_earlier_shards_keep_their_stored_colors(old_shards):
    _, out = old_shards
    images, _, _ = batch(out, "val", batch_size=2)
    assert images[1][0, 0].tolist() == [1, 2, 3]
