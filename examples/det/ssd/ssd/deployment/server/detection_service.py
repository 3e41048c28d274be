"""Decode the images of requests in threads, and run them through the model's queue, within limits."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from starlette.requests import Request

from ...boxes.multiclass_nms import Detections
from ...inference.preprocessing import PreprocessedImage
from ...runtime.cpu_cores import worker_count
from .image_decoding import decode_client_image
from .metrics import Metrics
from .model_queue import ModelQueue, ServedDetector
from .request_error import CLIENT_CLOSED, RequestError
from .settings import ServerSettings

T = TypeVar("T")

MAX_DECODING_THREADS = 4
MAX_RETRY_SECONDS = 60


@dataclasses.dataclass(frozen=True)
class DetectedImage:
    """Detections of one image of a request.

    size: (height, width) of the upright image in pixels
    detections: boxes in pixels of the upright image
    decode_ms, wait_ms, model_ms: times in milliseconds; that of the model is for the whole batch
    """

    size: tuple[int, int]
    detections: Detections
    decode_ms: float
    wait_ms: float
    model_ms: float


class DetectionService:
    """Detect objects in the images of requests.

    Use the object as a context manager, which starts and ends the threads.
    """

    def __init__(self, detector: ServedDetector, settings: ServerSettings):
        self.detector = detector
        self.settings = settings
        self.metrics = Metrics()
        self.queue = ModelQueue(
            detector,
            max_batch_size=settings.batch_size,
            expects_more=lambda num_images: self._num_admitted > num_images,
            metrics=self.metrics,
        )
        self._num_admitted = 0  # images that are decoded, wait or are in the model; changed only by the event loop
        self._threads = ThreadPoolExecutor(worker_count(MAX_DECODING_THREADS), thread_name_prefix="decode")

    def __enter__(self) -> DetectionService:
        self.queue.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)
        self.queue.__exit__(*error)

    async def in_thread(self, function: Callable[[], T]) -> T:
        """Call a function that takes long in one of the decoding threads, so that the event loop goes on."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, function)

    async def detect(self, images: Sequence[bytes]) -> list[DetectedImage | RequestError]:
        """Detect objects in images. A bad image gives a RequestError in the list, and the others their detections.

        images: bytes of image files
        Raises RequestError with status 429 if the queue is full.
        """
        with self._admit(len(images)):
            return await asyncio.gather(*map(self._detect_one, images))

    async def run_model(self, images: np.ndarray) -> list[np.ndarray]:
        """Return the outputs of the model.

        images: (B, H, W, 3) uint8 RGB of the input size
        Returns boxes_yxyx (B, T, 4), scores (B, T) and labels (B, T).
        Raises RequestError with status 429 if the queue is full.
        """
        with self._admit(len(images)):
            results = await asyncio.gather(*map(self.queue.run, images))
        self.metrics.images.labels("detected").inc(len(results))
        return [np.stack(outputs) for outputs in zip(*(result.value for result in results))]

    def seconds_left(self, request: Request) -> float:
        """Return the time until a request times out, 0 or more. RequestMetrics notes the start of each request."""
        return max(request.state.start + self.settings.timeout - time.monotonic(), 0)

    async def finish_while_connected(self, request: Request, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine. Cancel it when the client goes away or after a time, so that the model does no useless work.

        request: request whose body has been read
        Raises RequestError with status 504 when the request times out.
        """
        task = asyncio.ensure_future(work)
        disconnect = asyncio.ensure_future(_wait_for_disconnect(request))
        try:
            await asyncio.wait(
                {task, disconnect}, timeout=self.seconds_left(request), return_when=asyncio.FIRST_COMPLETED
            )
            if task.done():
                return task.result()
            if disconnect.done():
                raise RequestError(CLIENT_CLOSED, "request: the client closed the connection.")
            raise RequestError(
                504, f"request: no result after {self.settings.timeout:g} s. Send fewer images, or raise --timeout."
            )
        finally:
            task.cancel()
            disconnect.cancel()

    async def _detect_one(self, encoded: bytes) -> DetectedImage | RequestError:
        start = time.monotonic()
        try:
            image = await self.in_thread(lambda: self._decode(encoded))
            decoded = time.monotonic()
            result = await self.queue.detect(image)
        except RequestError as error:
            self.metrics.images.labels("failed").inc()
            return error
        self.metrics.images.labels("detected").inc()
        return DetectedImage(
            size=image.original_size,
            detections=result.value,
            decode_ms=1000 * (decoded - start),
            wait_ms=1000 * result.wait_seconds,
            model_ms=1000 * result.model_seconds,
        )

    def _decode(self, encoded: bytes) -> PreprocessedImage:
        return self.detector.preprocess(decode_client_image(encoded, self.settings.max_pixels))

    @contextlib.contextmanager
    def _admit(self, num_images: int) -> Iterator[None]:
        """Count the images of a request against the size of the queue. Raises RequestError if they do not fit."""
        queue_size = self.settings.queue_size
        if num_images > queue_size:
            raise RequestError(413, f"request: {num_images} images are more than {queue_size}. Send fewer at a time.")
        if self._num_admitted + num_images > queue_size:
            self.metrics.images.labels("rejected").inc(num_images)
            raise self.busy_error()
        self._change_admitted(num_images)
        try:
            yield
        finally:
            self._change_admitted(-num_images)

    def _change_admitted(self, difference: int) -> None:
        self._num_admitted += difference
        self.metrics.queue_images.set(self._num_admitted)

    def busy_error(self) -> RequestError:
        """Return the error of a request that the server is too busy for, with the time after which to repeat it."""
        seconds = math.ceil(self._num_admitted * self.queue.seconds_per_image)
        retry_after = min(max(seconds, 1), MAX_RETRY_SECONDS)
        return RequestError(
            429,
            f"request: the server is busy. Repeat the request in {retry_after} s.",
            {"Retry-After": str(retry_after)},
        )


async def _wait_for_disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
