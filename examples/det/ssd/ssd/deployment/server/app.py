"""The web application: all routes, and how errors are answered."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.responses import Response

from ... import __version__
from .detect_routes import create_detect_router
from .detection_service import DetectionService
from .inference_protocol import create_protocol_router
from .json_response import JsonResponse
from .metrics import RequestMetrics
from .model_queue import ServedDetector
from .page_routes import create_page_router
from .request_body import RequestBodies
from .request_error import RequestError
from .settings import ServerSettings

DESCRIPTION = """Errors are JSON with one line: `{"error": "..."}`. If the server is busy, the status is 429, and the
header Retry-After says when to repeat the request. `/metrics` has metrics for Prometheus."""


def create_app(detector: ServedDetector, settings: ServerSettings) -> FastAPI:
    """Create the application. The thread of the model starts and ends with the application.

    detector: exported model; only the thread of the model uses it, except for its method `preprocess`
    """
    service = DetectionService(detector, settings)
    bodies = RequestBodies(service)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        with service:
            yield

    app = FastAPIOffline(  # FastAPI's own /docs loads its scripts from another host
        redoc_url=None,
        title=f"SSD detector {detector.name}",
        description=DESCRIPTION,
        version=__version__,
        lifespan=lifespan,
        swagger_ui_parameters={"validatorUrl": None},  # would send the address of the server to swagger.io
    )
    app.add_middleware(RequestMetrics, metrics=service.metrics)
    app.include_router(create_page_router(service))
    app.include_router(create_detect_router(service, bodies))
    app.include_router(create_protocol_router(service, bodies))

    @app.get("/metrics", summary="Metrics for Prometheus", response_class=Response)
    async def metrics() -> Response:
        return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @app.exception_handler(RequestError)
    async def answer_request_error(_: Request, error: RequestError) -> JsonResponse:
        return JsonResponse({"error": error.message}, status_code=error.status, headers=error.headers)

    @app.exception_handler(RequestValidationError)
    async def answer_validation_error(_: Request, error: RequestValidationError) -> JsonResponse:
        first = error.errors()[0]
        return JsonResponse({"error": f"{first['loc'][-1]}: {first['msg']}."}, status_code=422)

    @app.exception_handler(HTTPException)
    async def answer_http_error(request: Request, error: HTTPException) -> JsonResponse:
        reason = {404: "not found", 405: f"{request.method} is not allowed"}.get(error.status_code, error.detail)
        message = f"{request.url.path[:80]}: {reason}. /docs lists the paths."
        return JsonResponse({"error": message}, status_code=error.status_code, headers=error.headers)

    @app.exception_handler(Exception)
    async def answer_failure(*_: object) -> JsonResponse:
        return JsonResponse(
            {"error": "server: the model or the server failed. Its log has the reason."}, status_code=500
        )

    return app
