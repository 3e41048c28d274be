"""From a COCO folder to shards and validation annotations: unusual but valid input, and missing images."""

import json
import shutil

import pytest
from mindspore.dataset import MindDataset

from ssd.data import mindrecord
from ssd.data.dataset_info import check_files
from ssd.data.readers.coco_layouts import CocoFolder
from ssd.data.readers.splits import read_splits
from ssd.errors import UserError
from ssd.evaluation.coco_metrics import CocoEvaluator


@pytest.fixture
def coco(shapes_coco, tmp_path):
    """A copy of the drawn dataset that a test may change."""
    return shutil.copytree(shapes_coco, tmp_path / "coco")


def convert(coco, out):
    return mindrecord.convert(*read_splits(CocoFolder(coco)), out, overwrite=False, num_workers=1)


def test_annotations_with_a_byte_order_mark_can_be_evaluated(coco, tmp_path):
    path = coco / "annotations" / "instances_val2017.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    info = convert(coco, tmp_path / "out")
    assert CocoEvaluator(tmp_path / "out" / info.annotations, info.classes).ground_truth.imgs.keys() == {11, 12, 13, 14}


def test_validation_annotations_with_a_subset_of_the_categories_get_all(coco, tmp_path):
    path = coco / "annotations" / "instances_val2017.json"
    content = json.loads(path.read_text())
    del content["categories"][:2], content["images"][1:]
    content["annotations"] = [{"id": 1, "image_id": 11, "category_id": 34, "bbox": [1, 2, 30, 40]}]
    path.write_text(json.dumps(content))
    info = convert(coco, tmp_path / "out")
    assert info.category_ids == [2, 5, 7, 11, 18, 34] and info.val.boxes_per_class["cross"] == info.val.boxes == 1
    data = MindDataset(str(tmp_path / "out" / "val" / "coco0"), ["annotation"], shuffle=False)
    ((annotation,),) = data.create_tuple_iterator(num_epochs=1, output_numpy=True)
    assert annotation.tolist() == [[2, 1, 42, 31, 6]]
    assert CocoEvaluator(tmp_path / "out" / info.annotations, info.classes).category_ids[1:] == info.category_ids
    check_files(info, tmp_path / "out", "val")


def test_missing_images_stop_the_conversion_before_anything_is_written(coco, tmp_path):
    first, second = sorted((coco / "train2017").iterdir())[:2]
    first.unlink()
    second.unlink()
    with pytest.raises(UserError, match=f"^{first}: .*1 more.*train2017.json"):
        convert(coco, tmp_path / "out")
    assert not (tmp_path / "out").exists()
