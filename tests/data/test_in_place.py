"""Conversion into the folder of the data itself: the user's own files are never replaced, even with --overwrite."""

import shutil

import pytest

from ssd.data import mindrecord
from ssd.data.dataset_info import check_files, read_dataset_info
from ssd.data.readers.coco_layouts import CocoFolder
from ssd.data.readers.splits import read_splits
from ssd.errors import UserError


@pytest.fixture
def flat(shapes_coco, tmp_path):
    """The drawn dataset with annotations/instances_{train,val}.json and all images in one folder `images`."""
    coco = shutil.copytree(shapes_coco, tmp_path / "coco")
    for old, new in (("train2017", "train"), ("val2017", "val")):
        shutil.copytree(coco / old, coco / "images", dirs_exist_ok=True)
        shutil.rmtree(coco / old)
        (coco / "annotations" / f"instances_{old}.json").rename(coco / "annotations" / f"instances_{new}.json")
    return coco


def convert_in_place(folder, overwrite=True, **options):
    train, val = read_splits(CocoFolder(folder), **options)
    return mindrecord.convert(train, val, folder, overwrite=overwrite, num_workers=1)


def test_annotations_of_the_user_are_never_replaced(flat):
    path = flat / "annotations" / "val_annotations.json"
    (flat / "annotations" / "instances_val.json").rename(path)
    user_split = {"val_splits": ["annotations/val_annotations.json"]}
    before, inode = path.read_bytes(), path.stat().st_ino
    with pytest.raises(UserError, match=f"^{path}: .*--out_path"):
        convert_in_place(flat, val_fraction=0.4)
    assert {file.name for file in flat.iterdir()} == {"annotations", "images"} and path.read_bytes() == before
    convert_in_place(flat, **user_split)  # keeps the file
    info = convert_in_place(flat, **user_split)
    assert path.read_bytes() == before and info.annotations == "annotations/val_annotations.json"
    assert path.stat().st_ino == inode  # the file itself, not a copy: a kill cannot lose it
    with pytest.raises(UserError, match=f"^{path}: .*--out_path"):  # although dataset.json now names the file
        convert_in_place(flat, val_fraction=0.4)
    assert path.read_bytes() == before and read_dataset_info(flat / "dataset.json") == info
    check_files(info, flat, "val")


def test_corrected_annotations_are_written_beside_those_of_the_user(flat):
    path = flat / "annotations" / "instances_val.json"
    path.write_text(path.read_text().replace('"iscrowd": 0', '"iscrowd": null'))
    before = path.read_bytes()
    for _ in range(2):
        info = convert_in_place(flat)
        assert path.read_bytes() == before and info.annotations == "annotations/val_annotations.json"
        check_files(info, flat, "val")


def test_annotations_of_an_earlier_conversion_are_replaced(flat):
    assert convert_in_place(flat, val_fraction=0.4).val.images == 4
    info = convert_in_place(flat, val_fraction=0.2)
    assert info.val.images == 2
    check_files(info, flat, "val")


def test_the_only_annotation_file_can_be_divided_again(flat):
    (flat / "annotations" / "instances_val.json").unlink()
    (flat / "annotations" / "instances_train.json").rename(flat / "annotations" / "all.json")
    for fraction, images in ((0.4, 4), (0.2, 2)):
        info = convert_in_place(flat, val_fraction=fraction)
        assert info.val.images == images
        check_files(info, flat, "val")
    (flat / "more.json").write_text("{}")
    with pytest.raises(UserError, match=" 2 .*all.json"):
        convert_in_place(flat, val_fraction=0.4)


def test_a_dataset_json_of_the_user_is_never_replaced(flat):
    path = flat / "dataset.json"
    (flat / "annotations" / "instances_train.json").rename(path)
    shutil.rmtree(flat / "annotations")
    before = path.read_bytes()
    with pytest.raises(UserError, match=f"^{path}: .*--out_path"):
        convert_in_place(flat, val_fraction=0.4)
    assert path.read_bytes() == before and {file.name for file in flat.iterdir()} == {"images", "dataset.json"}
