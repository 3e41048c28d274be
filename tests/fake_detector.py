"""A detector with the interface of an exported model, without a network."""

from __future__ import annotations

import threading

import numpy as np

from ssd.boxes.multiclass_nms import Detections
from ssd.inference.preprocessing import preprocess_image


class FakeDetector:
    """Finds in each image a cat in its upper left quarter, with the mean red value / 255 as the score, and a dog.

    gate: the model waits until this event is set, so that a test can fill the queue
    batch_sizes: number of images of each batch
    num_preprocessed: number of images that were decoded and resized
    bad_red: an image with this mean red value makes the model fail
    """

    name = "fake"
    classes = ("background", "cat", "<b>dog</b>")
    category_ids = (0, 7, 9)
    image_size = (32, 48)
    min_score = 0.01

    def __init__(self, batch_size=None, bad_red=None):
        self.batch_size = batch_size
        self.bad_red = bad_red
        self.gate = threading.Event()
        self.gate.set()
        self.started = threading.Semaphore(0)
        self.batch_sizes = []
        self.threads = set()
        self.num_preprocessed = 0

    def preprocess(self, image):
        preprocessed = preprocess_image(image, self.image_size)
        self.num_preprocessed += 1
        return preprocessed

    def detect_batch(self, batch, batch_size):
        boxes, scores, labels = self.run(np.stack([image.pixels for image in batch]))
        return [
            Detections(boxes[i] * np.tile(image.original_size, 2).astype(np.float32), scores[i], labels[i])
            for i, image in enumerate(batch)
        ]

    def run(self, images):
        self.batch_sizes.append(len(images))
        self.threads.add(threading.current_thread().name)
        self.started.release()
        self.gate.wait(10)
        assert images.shape[1:] == (*self.image_size, 3) and images.dtype == np.uint8
        red = images[..., 0].mean(axis=(1, 2), dtype=np.float32)
        if self.bad_red is not None and (np.abs(red - self.bad_red) < 0.5).any():
            raise RuntimeError("the network failed")
        boxes = np.tile(np.array([[0, 0, 0.5, 0.5], [0.5, 0.25, 1, 0.75]], np.float32), (len(images), 1, 1))
        scores = np.stack([red / 255, np.full_like(red, 0.05)], axis=1)
        return boxes, scores, np.tile(np.array([1, 2], np.int32), (len(images), 1))
