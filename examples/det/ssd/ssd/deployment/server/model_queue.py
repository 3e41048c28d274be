"""The only owner of the model: a thread that runs queued images in batches."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from ...inference.batch_detector import BatchDetector
from ...inference.preprocessing import PreprocessedImage
from .metrics import Metrics
from .request_error import RequestError

log = logging.getLogger(__name__)

BATCH_WAIT_SECONDS = 0.005  # a batch waits so long for images that are still being decoded


class ServedDetector(BatchDetector, Protocol):
    """Detector that the service can run.

    name: name of the model
    image_size: (height, width) of the input in pixels
    min_score: lowest score of a detection
    batch_size: fixed batch size of the model, or None if any size works
    """

    @property
    def name(self) -> str: ...

    @property
    def image_size(self) -> tuple[int, int]: ...

    @property
    def min_score(self) -> float: ...

    @property
    def batch_size(self) -> int | None: ...

    def run(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Run the model on a batch of any size.

        images: (B, H, W, 3) uint8 RGB of the input size
        Returns boxes_yxyx (B, T, 4) as fractions of the image, scores (B, T), and labels (B, T).
        """


@dataclasses.dataclass(frozen=True)
class ModelResult:
    """Result of the model for one image.

    value: Detections, or the arrays (T, 4), (T,), (T,) of `run`
    wait_seconds: time that the image waited for the model
    model_seconds: time of the model for the whole batch
    """

    value: Any
    wait_seconds: float
    model_seconds: float


@dataclasses.dataclass(frozen=True)
class _Item:
    """Image in the queue. run_batch: function that computes the results of a batch of images"""

    run_batch: Callable[[list[PreprocessedImage]], Sequence[Any]]
    image: PreprocessedImage
    result: asyncio.Future[ModelResult]
    queued_at: float


class ModelQueue:
    """Run the images of all requests in batches, in the order of their arrival, in one thread.

    Images whose request was cancelled are left out. If a batch fails, its images run one by one, so that only the bad
    image fails.

    max_batch_size: largest number of images in a batch; a model with a fixed batch size uses that size
    expects_more: function that returns True if further images are being decoded, so that waiting for them is worth it

    Use the object as a context manager. At its end, the queued images run, and the thread ends.
    """

    def __init__(
        self, detector: ServedDetector, *, max_batch_size: int, expects_more: Callable[[int], bool], metrics: Metrics
    ):
        self.detector = detector
        self.max_batch_size = detector.batch_size or max_batch_size
        self.seconds_per_image = 0.1  # moving average
        self._expects_more = expects_more
        self._metrics = metrics
        self._items: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()  # None ends the thread
        self._next: _Item | None = None  # taken from the queue, but for the next batch
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)

    def __enter__(self) -> ModelQueue:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._items.put(None)
        self._thread.join()

    @property
    def is_running(self) -> bool:
        """True if images can be submitted."""
        return self._thread.is_alive() and not self._is_stopping

    async def detect(self, image: PreprocessedImage) -> ModelResult:
        """Detect objects in one image. The value of the result is a Detections object.

        Raises RequestError with status 500 if the model fails.
        """
        return await self._submit(self._detect_batch, image)

    async def run(self, pixels: np.ndarray) -> ModelResult:
        """Run the model on one image. The value of the result is (T, 4) boxes_yxyx, (T,) scores and (T,) labels.

        pixels: (H, W, 3) uint8 RGB of the input size
        Raises RequestError with status 500 if the model fails.
        """
        height, width = pixels.shape[:2]
        return await self._submit(self._run_network, PreprocessedImage(pixels, original_size=(height, width)))

    async def _submit(self, run_batch: Callable, image: PreprocessedImage) -> ModelResult:
        result: asyncio.Future[ModelResult] = asyncio.get_running_loop().create_future()
        self._items.put(_Item(run_batch, image, result=result, queued_at=time.monotonic()))
        return await result

    def _detect_batch(self, batch: list[PreprocessedImage]) -> Sequence[Any]:
        return self.detector.detect_batch(batch, len(batch))

    def _run_network(self, batch: list[PreprocessedImage]) -> Sequence[Any]:
        return list(zip(*self.detector.run(np.stack([image.pixels for image in batch]))))

    def _run(self) -> None:
        """Run batches until the queue ends. This is the body of the thread."""
        while not self._is_stopping:
            batch = self._collect_batch()
            if batch:
                self._run_items(batch)

    def _collect_batch(self) -> list[_Item]:
        """Wait for an image, and return it with the images after it that fit into the same batch."""
        first = self._take(timeout=None)
        if first is None:
            return []
        batch = [first]
        deadline = time.monotonic() + BATCH_WAIT_SECONDS
        while len(batch) < self.max_batch_size:
            wait = deadline - time.monotonic() if self._expects_more(len(batch)) else 0
            item = self._take(timeout=max(wait, 0))
            if item is None:
                break
            if item.run_batch != first.run_batch:
                self._next = item
                break
            batch.append(item)
        return batch

    def _take(self, timeout: float | None) -> _Item | None:
        """Return the next image whose request was not cancelled.

        timeout: seconds to wait for an image; None waits without end
        Returns None if there is no image in this time, or if the queue has ended.
        """
        while not self._is_stopping:
            item, self._next = self._next, None
            if item is None:
                try:
                    item = self._items.get(timeout=timeout)
                except queue.Empty:
                    return None
            if item is None:
                self._is_stopping = True
            elif not item.result.cancelled():
                return item
        return None

    def _run_items(self, items: list[_Item]) -> None:
        start = time.monotonic()
        try:
            values = items[0].run_batch([item.image for item in items])
        except Exception:  # whatever a model raises, the thread must go on
            if len(items) > 1:
                for item in items:
                    self._run_items([item])
                return
            log.exception("the model failed")
            _deliver(
                items[0].result, RequestError(500, "image: the model failed. The log of the server has the reason.")
            )
            return
        seconds = time.monotonic() - start
        self._metrics.batch_images.observe(len(items))
        self._metrics.batch_seconds.observe(seconds)
        self.seconds_per_image += 0.1 * (seconds / len(items) - self.seconds_per_image)
        for item, value in zip(items, values):
            _deliver(item.result, ModelResult(value, start - item.queued_at, model_seconds=seconds))


def _deliver(future: asyncio.Future[ModelResult], result: ModelResult | Exception) -> None:
    """Set the result of a future from another thread."""

    def deliver() -> None:
        if future.done():  # cancelled
            return
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)

    with contextlib.suppress(RuntimeError):  # the event loop was closed by a second Ctrl-C
        future.get_loop().call_soon_threadsafe(deliver)
