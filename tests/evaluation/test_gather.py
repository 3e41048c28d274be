"""DetectionGatherer, with several devices simulated in one process."""

import numpy as np
import pytest
from mindspore import Tensor

from ssd.boxes.multiclass_nms import Detections
from ssd.evaluation import gather
from ssd.evaluation.gather import DetectionGatherer, pack, unpack


def make_detections(count, seed=0):
    rng = np.random.default_rng(seed)
    boxes = rng.normal(0, 300, (count, 4)).astype(np.float32)
    scores = rng.random(count, dtype=np.float32)
    return Detections(boxes_yxyx=boxes, scores=scores, labels=rng.integers(1, 81, count).astype(np.int32))


def assert_equal(images, expected):
    assert [image_id for image_id, _ in images] == [image_id for image_id, _ in expected]
    for (_, one), (_, other) in zip(images, expected):
        for field in ("boxes_yxyx", "scores", "labels"):
            np.testing.assert_array_equal(getattr(one, field), getattr(other, field))


def gather_on_all_devices(counts_by_device):
    """Run DetectionGatherer once per rank, with an AllGather that computes the messages of the other ranks.

    counts_by_device: {image id: number of detections} per rank
    Returns the gathered images and the number of messages, both per rank.
    """
    world_size = len(counts_by_device)
    device_images = [
        [(image_id, make_detections(count, seed=image_id % 999)) for image_id, count in counts.items()]
        for counts in counts_by_device
    ]
    tables = [pack(images) for images in device_images]

    def fake_all_gather(rank, messages_sent):
        def all_gather(message):
            assert message.shape == (gather.MESSAGE_ROWS + 1, gather.COLUMNS)
            start = len(messages_sent) * gather.MESSAGE_ROWS
            messages_sent.append(message)
            messages = np.zeros((world_size, gather.MESSAGE_ROWS + 1, gather.COLUMNS), np.int32)
            for expected, table in zip(messages, tables):
                rows = table[start : start + gather.MESSAGE_ROWS]
                expected[0, 0], expected[1 : len(rows) + 1] = len(table), rows
            np.testing.assert_array_equal(messages[rank], message.asnumpy())
            return Tensor(messages.reshape(-1, gather.COLUMNS))

        return all_gather

    results, num_messages = [], []
    for rank in range(world_size):
        messages_sent = []
        gatherer = DetectionGatherer(world_size)
        gatherer.all_gather = fake_all_gather(rank, messages_sent)
        results.append(gatherer(device_images[rank]))
        num_messages.append(len(messages_sent))
    return results, num_messages


def test_unpack_inverts_pack():
    images = [
        (7, make_detections(3)),
        (2**40 + 1, make_detections(0)),
        (-5, make_detections(2, 1)),
        (0, make_detections(1, 2)),
    ]
    assert_equal(unpack(pack(images)), images)
    assert pack(images).dtype == np.int32 and len(pack(images)) == 3 + 2 + 1 + 4
    assert unpack(pack([])) == []


def test_one_device_keeps_each_image_once():
    images = [(3, make_detections(2)), (1, make_detections(0)), (3, make_detections(1, 5))]
    assert_equal(DetectionGatherer(1)(iter(images)), images[:2])


def test_all_devices_get_the_images_of_all_devices_interleaved():
    results, num_messages = gather_on_all_devices([{11: 2, 13: 0, 15: 3}, {12: 1, 14: 4, 11: 2}])  # two devices have 11
    assert num_messages == [1, 1]
    expected = [
        (image_id, make_detections(count, image_id))
        for image_id, count in ((11, 2), (12, 1), (13, 0), (14, 4), (15, 3))
    ]
    for images in results:
        assert_equal(images, expected)


def test_devices_without_images_participate():
    results, _ = gather_on_all_devices([{}, {5: 2}, {}])
    for images in results:
        assert_equal(images, [(5, make_detections(2, 5))])
    assert gather_on_all_devices([{}, {}]) == ([[], []], [1, 1])


@pytest.mark.parametrize("rows", [1, 4, 5])
def test_long_tables_take_several_messages(rows, monkeypatch):
    monkeypatch.setattr(gather, "MESSAGE_ROWS", rows)
    results, num_messages = gather_on_all_devices([{1: 9, 2: 4}, {3: 1}])  # 15 rows and 2
    assert num_messages == [-(-15 // rows)] * 2
    for images in results:
        assert_equal(
            images, [(image_id, make_detections(count, image_id)) for image_id, count in ((1, 9), (3, 1), (2, 4))]
        )
