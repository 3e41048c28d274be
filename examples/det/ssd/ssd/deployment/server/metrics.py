"""Metrics of the service in the format of Prometheus."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .request_error import CLIENT_CLOSED

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
IMAGES = (1, 2, 4, 8, 16, 32, 64)
UNKNOWN_ROUTE = "other"  # paths that do not exist; as a label they could fill the memory


class Metrics:
    """Counters and histograms of one service.

    registry: all metrics, with the memory and the CPU time of the process
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter("ssd_requests", "Requests", ["route", "status"], registry=self.registry)
        self.request_seconds = Histogram(
            "ssd_request_seconds",
            "Time from the head of a request to the end of its response",
            ["route"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.images = Counter(
            "ssd_images", "Images by result: detected, failed, rejected", ["result"], registry=self.registry
        )
        self.queue_images = Gauge(
            "ssd_queue_images", "Images that are decoded, wait or are in the model", registry=self.registry
        )
        self.batch_images = Histogram("ssd_batch_images", "Images of a batch", buckets=IMAGES, registry=self.registry)
        self.batch_seconds = Histogram(
            "ssd_batch_seconds", "Time of the model for a batch", buckets=SECONDS, registry=self.registry
        )


class RequestMetrics:
    """ASGI middleware that counts requests, measures their time, and notes their start in `request.state.start`.

    A request without a response counts with status 499, because its client went away.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics):
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status = time.monotonic(), CLIENT_CLOSED
        scope.setdefault("state", {})["start"] = start  # for the timeout of the request

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, note_status)
        finally:
            route = getattr(scope.get("route"), "path", UNKNOWN_ROUTE)
            self.metrics.requests.labels(route, str(status)).inc()
            self.metrics.request_seconds.labels(route).observe(time.monotonic() - start)
