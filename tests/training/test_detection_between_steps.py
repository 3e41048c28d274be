"""Detection with a detector in training: it changes no statistics and no mode. A partial batch gives equal results."""

import mindspore.dataset as ds
import numpy as np
import pytest
from mindspore import Tensor, nn

from ssd.boxes.multiclass_nms import MulticlassNMS
from ssd.inference import network as inference_module
from ssd.inference.network import InferenceTimes, create_inference_net, create_nms
from trained_detector import Trainer, changed, is_statistic, noise_batch


@pytest.fixture(scope="module")
def compiled(tiny_recipe):
    return Trainer(tiny_recipe())


@pytest.fixture
def trainer(compiled):
    return compiled.reset()


def detect(net, nms, dataset):
    return inference_module.detect_dataset(net, nms, dataset=dataset, times=InferenceTimes())


def val_dataset(images, batch_size):
    """Return batches with the columns of create_dataset(cfg, "val"): image, image_id, original_size."""
    count = len(images)
    sizes = np.tile(np.array([[48, 80]], np.int32), (count, 1))
    columns = {"image": list(images), "image_id": np.arange(100, 100 + count), "original_size": list(sizes)}
    return ds.NumpySlicesDataset(columns, shuffle=False).batch(batch_size)


@pytest.fixture
def images():
    return np.random.default_rng(1).integers(0, 256, (8, 64, 64, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def inference(compiled):
    """The inference network and NMS of the detector in `trainer`, created before it is trained."""
    return create_inference_net(compiled.cfg, compiled.detector), create_nms(compiled.cfg)


def test_statistics_stay_during_detection_and_move_again_afterwards(trainer, images, inference):
    batch = noise_batch(trainer.cfg)
    trainer.train(batch)
    before = trainer.state()
    results = list(detect(*inference, val_dataset(images, 4)))
    assert len(results) == 8
    assert changed(before, trainer.state()) == []
    trainer.train(batch)
    still = set(before) - set(changed(before, trainer.state()))
    assert not any(is_statistic(name) for name in still)


def modes(detector):
    return {cell.training for _, cell in detector.cells_and_names()}


@pytest.mark.parametrize("stop_early", [False, True])
def test_detecting_leaves_the_mode_as_it_was(stop_early, trainer, images, inference):
    detections = detect(*inference, val_dataset(images, 4))
    assert next(detections)[0] == 100
    assert modes(trainer.detector) == {False}
    if stop_early:
        detections.close()
    else:
        assert len(list(detections)) == 7
    assert modes(trainer.detector) == {True}
    trainer.detector.set_train(False)
    list(detect(*inference, val_dataset(images, 4)))
    assert modes(trainer.detector) == {False}


def test_detection_does_not_depend_on_the_mode_before(trainer, images, inference):
    net, nms = inference
    results = []
    for mode in (True, False):
        net.set_train(mode)
        results.append([detections.scores for _, detections in detect(net, nms, val_dataset(images, 4))])
    for first, second in zip(*results):
        np.testing.assert_array_equal(first, second)


class ShapeRecorder(nn.Cell):
    """Stands in for an InferenceNet: records the shapes of its inputs and detects nothing."""

    def __init__(self):
        super().__init__()
        self.detector = nn.Identity()
        self.shapes = []

    def __call__(self, image):
        self.shapes.append(image.shape)
        shapes = (len(image), 5, 4), (len(image), 5), (len(image), 5)
        return tuple(Tensor(np.zeros(shape, np.float32)) for shape in shapes)


def test_a_last_partial_batch_needs_no_graph_of_its_own(images):
    net = ShapeRecorder()
    results = list(detect(net, MulticlassNMS(0.5, 0.5, 10), val_dataset(images[:6], 4)))
    assert [image_id for image_id, _ in results] == list(range(100, 106))
    assert net.shapes == [(4, 64, 64, 3)] * 2


def test_a_last_partial_batch_gives_the_same_detections(trainer, images, inference):
    full = dict(detect(*inference, val_dataset(images, 4)))
    partial = dict(detect(*inference, val_dataset(images[:6], 4)))
    assert list(full) == list(range(100, 108)) and list(partial) == list(range(100, 106))
    assert any(len(detections.scores) for detections in partial.values())
    for image_id, detections in partial.items():
        np.testing.assert_array_equal(detections.boxes_yxyx, full[image_id].boxes_yxyx)
        np.testing.assert_array_equal(detections.scores, full[image_id].scores)
        np.testing.assert_array_equal(detections.labels, full[image_id].labels)


def test_detections_are_pixels_of_the_original_image(trainer, images, inference):
    for _, detections in detect(*inference, val_dataset(images, 4)):
        boxes = detections.boxes_yxyx
        assert len(boxes) and boxes.min() >= 0
        assert 45 < boxes[:, [0, 2]].max() <= 48 and 75 < boxes[:, [1, 3]].max() <= 80
