"""Fixtures for tests of datasets."""

import cv2
import numpy as np
import pytest
from mindspore.mindrecord import FileWriter


@pytest.fixture(scope="module")
def mindcv_shards(tmp_path_factory):
    """Shards as MindCV's example writes them: int32 columns, no dataset.json. Image n of 1, 2, 3 has n boxes."""
    folder = tmp_path_factory.mktemp("mindcv")
    schema = {
        "img_id": {"type": "int32", "shape": [1]},
        "image": {"type": "bytes"},
        "annotation": {"type": "int32", "shape": [-1, 5]},
    }
    for split in ("train", "val"):
        (folder / split).mkdir()
        writer = FileWriter(str(folder / split / "coco"), shard_num=8)
        writer.add_schema(schema, "coco_json")
        for image_id in (1, 2, 3):
            image = cv2.imencode(".jpg", np.full((40 + image_id, 80, 3), 50 * image_id, np.uint8))[1].tobytes()
            annotation = np.array([[10, 20, 30, 40, 5]] * image_id, dtype=np.int32)
            img_id = np.array([image_id], dtype=np.int32)
            writer.write_raw_data([{"img_id": img_id, "image": image, "annotation": annotation}])
        writer.commit()
    return folder
