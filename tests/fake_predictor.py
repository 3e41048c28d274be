"""A fake detector for tests of prediction, the detections that it finds, and a fake video."""

import cv2
import numpy as np

from ssd.boxes.multiclass_nms import Detections, MulticlassNMS
from ssd.inference.preprocessing import PreprocessedImage

CLASSES = ("background", "cat", "dog")
CATEGORY_IDS = [0, 17, 18]


class FakePredictor:
    """Detects one `dog` in each image; its box is the wider, the brighter the image is."""

    classes, category_ids = CLASSES, CATEGORY_IDS

    def __init__(self):
        self.batch_lengths = []
        self.nms = MulticlassNMS(min_score=0.3, nms_threshold=0.5, max_detections=100)

    def preprocess(self, image):
        return PreprocessedImage(np.full((2, 2, 3), image.mean(), np.float32), original_size=image.shape[:2])

    def detect_batch(self, batch, batch_size):
        assert 1 <= len(batch) <= batch_size
        self.batch_lengths.append(len(batch))
        found = [expected_detections(image.pixels.mean(), image.original_size) for image in batch]
        kept = self.nms.kept_labels or (1, 2)
        return [detections.select(np.isin(detections.labels, list(kept))) for detections in found]


def expected_detections(brightness, size):
    height, width = size
    box_yxyx = [height / 4, 0, height / 2, width * brightness / 255]
    return Detections(np.float32([box_yxyx]), np.float32([0.75]), np.int32([2]))


class FakeCapture:
    """A fake cv2.VideoCapture: frame i is grey with the value i * step. Without num_frames it never ends."""

    def __init__(self, num_frames=None, fps=30.0, size=(64, 48), step=1):
        self.num_frames, self.fps, self.size, self.step = num_frames, fps, size, step
        self.num_read = 0

    def get(self, property_id):
        seconds = (self.num_read - 1) / (self.fps or 1)  # time of the frame that was read last
        return {
            cv2.CAP_PROP_FPS: self.fps,
            cv2.CAP_PROP_FRAME_COUNT: self.num_frames or -1,
            cv2.CAP_PROP_POS_MSEC: 1000 * seconds,
        }[property_id]

    def grab(self):
        return self.read()[0]

    def release(self):
        pass

    def read(self):
        if self.num_frames is not None and self.num_read >= self.num_frames:
            return False, None
        value = self.num_read * self.step % 256
        self.num_read += 1
        return True, np.full((self.size[1], self.size[0], 3), value, np.uint8)


class InterruptAfter:
    """An Interrupt that is false for the first n checks and true afterwards."""

    def __init__(self, n):
        self.checks_left = n

    def __bool__(self):
        self.checks_left -= 1
        return self.checks_left < 0


def files_in(output):
    return sorted(path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file())
