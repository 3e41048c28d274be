"""Conversion into the folder of the data itself: nothing of the user's is replaced, whatever --overwrite says."""

import shutil

import pytest

from ssd.data import mindrecord
from ssd.data.dataset_info import check_files, read_dataset_info
from ssd.data.readers.coco_layouts import CocoFolder
from ssd.data.readers.splits import read_splits
from ssd.errors import UserError


@pytest.fixture
def flat(shapes_coco, tmp_path):
    """The drawn set with annotations/instances_{train,val}.json and all images in `images`."""
    coco = shutil.copytree(shapes_coco, tmp_path / "coco")
    for old, new in (("train2017", "train"), ("val2017", "val")):
        shutil.copytree(coco / old, coco / "images", dirs_exist_ok=True)
        shutil.rmtree(coco / old)
        (coco / "annotations" / f"instances_{old}.json").rename(coco / "annotations" / f"instances_{new}.json")
    return coco


def in_place(folder, overwrite=True, **options):
    return mindrecord.convert(*read_splits(CocoFolder(folder), **options), folder, overwrite, num_workers=1)


def test_annotations_of_the_user_s_are_never_replaced(flat):
    path = flat / "annotations" / "instances_val.json"
    before = path.read_bytes()
    with pytest.raises(UserError, match=f"{path}: got annotations that create_data.py did not write.*--out_path"):
        in_place(flat, val_fraction=0.4)
    assert {file.name for file in flat.iterdir()} == {"annotations", "images"} and path.read_bytes() == before
    in_place(flat)  # the file stays what it is
    info = in_place(flat)
    assert path.read_bytes() == before and info.annotations == "annotations/instances_val.json"
    with pytest.raises(UserError, match=f"{path}: got annotations"):  # although dataset.json names it now
        in_place(flat, val_fraction=0.4)
    assert path.read_bytes() == before and read_dataset_info(flat / "dataset.json") == info
    check_files(info, flat, "val")


def test_its_own_annotations_are_replaced_there(flat):
    (flat / "annotations" / "instances_val.json").unlink()
    assert in_place(flat, val_fraction=0.4).val.images == 4
    info = in_place(flat, val_fraction=0.2)
    assert info.val.images == 2
    check_files(info, flat, "val")


def test_a_dataset_json_of_the_user_s_is_never_replaced(flat):
    path = flat / "dataset.json"
    (flat / "annotations" / "instances_train.json").rename(path)
    shutil.rmtree(flat / "annotations")
    before = path.read_bytes()
    with pytest.raises(UserError, match=f"{path}: got a file that create_data.py did not write"):
        in_place(flat, val_fraction=0.4)
    assert path.read_bytes() == before and {file.name for file in flat.iterdir()} == {"images", "dataset.json"}
