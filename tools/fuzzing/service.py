"""Target of the service: requests, without a socket and without a model."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np

from ssd.boxes.multiclass_nms import Detections
from ssd.deployment.server.app import create_app
from ssd.deployment.server.settings import ServerSettings
from ssd.inference.preprocessing import PreprocessedImage, preprocess_image

from .target import Reader

# Path, query and content type of a request; the first byte of an input chooses one.
REQUESTS = (
    ("/detect", b"", b"image/png"),
    ("/detect", b"", b"multipart/form-data; boundary=line"),
    ("/huggingface", b"", b"application/json"),
    ("/v2/models/fuzz/infer", b"", b"application/json"),
    ("/v2/models/fuzz/infer", b"", b"application/octet-stream"),
)
SETTINGS = ServerSettings(queue_size=4, max_pixels=10**6, timeout=60)


class OneCat:
    """Exported model that finds one cat in each image."""

    name, classes, category_ids, image_size, min_score, batch_size = "fuzz", ("background", "cat"), (0, 1), (4, 4), 0, 1

    def preprocess(self, image: np.ndarray) -> PreprocessedImage:
        return preprocess_image(image, self.image_size)

    def detect_batch(self, batch: list[PreprocessedImage], batch_size: int) -> list[Detections]:
        box, score, label = np.ones((1, 4), np.float32), np.ones(1, np.float32), np.ones(1, np.int32)
        return [Detections(box, score, label) for _ in batch]

    def run(self, images: np.ndarray) -> tuple[np.ndarray, ...]:
        assert images.shape[1:] == (4, 4, 3) and images.dtype == np.uint8
        shape = (len(images), 1)
        return np.ones((*shape, 4), np.float32), np.ones(shape, np.float32), np.ones(shape, np.int32)


def service(folder: Path) -> Reader:
    """Return a reader of requests.

    An input is a header of three bytes, and the body. The first byte chooses one of REQUESTS. The second one is the
    length of the JSON part of a binary body; "=" stands for its real length. The third is a line break.
    """
    app = create_app(OneCat(), SETTINGS)  # type: ignore[arg-type]
    loop = asyncio.new_event_loop()
    app.state.lifespan = app.router.lifespan_context(app)  # the threads end with this object
    loop.run_until_complete(app.state.lifespan.__aenter__())

    def read(data: bytes) -> None:
        status = loop.run_until_complete(asyncio.wait_for(send_request(app, data), SETTINGS.timeout))
        assert 200 <= status < 500, f"status {status}"

    return read


async def send_request(app: Any, data: bytes) -> int:
    """Send a request to an ASGI application, and return the status. Errors of the application are raised."""
    header, body = data[:3].ljust(3, b"\n"), data[3:]
    path, query, content_type = REQUESTS[header[0] % len(REQUESTS)]
    headers = [(b"content-type", content_type), (b"host", b"localhost")]
    if content_type == b"application/octet-stream":
        length = body.rfind(b"}") + 1 if header[1:2] == b"=" else header[1]
        headers.append((b"inference-header-content-length", str(length).encode()))
    messages = [{"type": "http.request", "body": body, "more_body": False}]
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop()
        await asyncio.sleep(3600)
        raise AssertionError

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    scope = {
        **{"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http"},
        **{"path": path, "raw_path": path.encode(), "query_string": query, "headers": headers, "root_path": ""},
        **{"client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "state": {}},
    }
    await app(scope, receive, send)
    return statuses[0]
