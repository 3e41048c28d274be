"""Detections of several devices, brought together."""

import numpy as np
import pytest
from mindspore import Tensor

from ssd.evaluation import gather
from ssd.evaluation.gather import DetectionGatherer, pack, unpack
from ssd.models.postprocess import Detections


def detections(count, seed=0):
    rng = np.random.default_rng(seed)
    boxes = rng.normal(0, 300, (count, 4)).astype(np.float32)
    return Detections(boxes, rng.random(count, dtype=np.float32), rng.integers(1, 81, count).astype(np.int32))


def expect_equal(found, expected):
    assert [image_id for image_id, _ in found] == [image_id for image_id, _ in expected]
    for (_, one), (_, other) in zip(found, expected):
        for field in ("boxes_yxyx", "scores", "labels"):
            np.testing.assert_array_equal(getattr(one, field), getattr(other, field))


def gatherers(parts):
    """What each device gets of `parts`, which the devices have: {image id: count} each. Messages cross for real once
    all devices have sent one; here every device computes what the others would send."""
    world_size = len(parts)
    found = [[(image_id, detections(count, image_id % 999)) for image_id, count in part.items()] for part in parts]
    tables = [pack(of_device) for of_device in found]

    def all_gather(state):
        def exchange(message):
            assert message.shape == (gather.ROWS + 1, gather.COLUMNS)
            start = state["round"] * gather.ROWS
            state["round"] += 1
            answers = np.zeros((world_size, gather.ROWS + 1, gather.COLUMNS), np.int32)
            for answer, table in zip(answers, tables):
                rows = table[start : start + gather.ROWS]
                answer[0, 0], answer[1 : len(rows) + 1] = len(table), rows
            np.testing.assert_array_equal(answers[state["rank"]], message.asnumpy())
            return Tensor(answers.reshape(-1, gather.COLUMNS))

        return exchange

    results, rounds = [], []
    for rank in range(world_size):
        state = {"rank": rank, "round": 0}
        gatherer = DetectionGatherer(world_size)
        gatherer.all_gather = all_gather(state)
        results.append(gatherer(found[rank]))
        rounds.append(state["round"])
    return results, rounds


def test_what_is_packed_is_unpacked():
    found = [(7, detections(3)), (2**40 + 1, detections(0)), (-5, detections(2, 1)), (0, detections(1, 2))]
    expect_equal(unpack(pack(found)), found)
    assert pack(found).dtype == np.int32 and len(pack(found)) == 3 + 2 + 1 + 4
    assert unpack(pack([])) == []


def test_one_device_keeps_its_own():
    found = [(3, detections(2)), (1, detections(0)), (3, detections(1, 5))]
    expect_equal(DetectionGatherer(1)(iter(found)), found[:2])


def test_all_devices_get_all_images_in_turn():
    results, rounds = gatherers([{11: 2, 13: 0, 15: 3}, {12: 1, 14: 4, 11: 2}])  # two devices have 11
    assert rounds == [1, 1]
    expected = [
        (image_id, detections(count, image_id)) for image_id, count in ((11, 2), (12, 1), (13, 0), (14, 4), (15, 3))
    ]
    for found in results:
        expect_equal(found, expected)


def test_devices_without_images_take_part():
    results, _ = gatherers([{}, {5: 2}, {}])
    for found in results:
        expect_equal(found, [(5, detections(2, 5))])
    assert gatherers([{}, {}]) == ([[], []], [1, 1])


@pytest.mark.parametrize("rows", [1, 4, 5])
def test_long_lists_go_in_several_messages(rows, monkeypatch):
    monkeypatch.setattr(gather, "ROWS", rows)
    results, rounds = gatherers([{1: 9, 2: 4}, {3: 1}])  # 15 rows and 2
    assert rounds == [-(-15 // rows)] * 2
    for found in results:
        expect_equal(found, [(image_id, detections(count, image_id)) for image_id, count in ((1, 9), (3, 1), (2, 4))])
