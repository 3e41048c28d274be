"""Routes of the Open Inference Protocol v2, which Triton's and KServe's clients speak."""

from __future__ import annotations

from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from starlette.responses import Response

from ... import __version__
from ..sessions import OUTPUT_NAMES
from .detection_service import DetectionService
from .json_response import JsonResponse
from .request_body import RequestBodies
from .request_error import RequestError
from .tensor_format import TensorSpec, build_infer_response, parse_infer_request

MODEL_VERSION = "1"  # an exported folder has only one version
JSON_LENGTH_HEADER = "Inference-Header-Content-Length"
INFER_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "example": {
                    "inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, 1, 1, 3], "data": [0, 0, 0]}]
                }
            },
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}


def create_protocol_router(service: DetectionService, bodies: RequestBodies) -> APIRouter:
    """Create the routes below /v2. The input is uint8 RGB pixels, and the outputs are those of `Detector.run`."""
    router = APIRouter(prefix="/v2")
    name = service.detector.name
    image_spec = TensorSpec("image", "UINT8", (-1, *service.detector.image_size, 3))
    types_and_shapes = (("FP32", (-1, -1, 4)), ("FP32", (-1, -1)), ("INT32", (-1, -1)))
    output_specs = [TensorSpec(output, *rest) for output, rest in zip(OUTPUT_NAMES, types_and_shapes)]

    def check_model(model: str, version: str = MODEL_VERSION) -> None:
        if model != name or version != MODEL_VERSION:
            raise RequestError(404, f"model: {model[:80]!r}, version {version[:20]!r}, is not served. Use {name!r}.")

    @router.get("", summary="Name and version of the server")
    async def server_metadata() -> JsonResponse:
        return JsonResponse({"name": "ssd-mindcv", "version": __version__, "extensions": ["binary_tensor_data"]})

    @router.get("/health/live", summary="Whether the server runs")
    async def live() -> JsonResponse:
        return JsonResponse({"live": True})

    @router.get("/health/ready", summary="Whether the server accepts images")
    async def ready() -> JsonResponse:
        is_ready = service.queue.is_running
        return JsonResponse({"ready": is_ready}, status_code=200 if is_ready else 503)

    @router.get("/models/{model}", summary="Inputs and outputs of the model")
    @router.get("/models/{model}/versions/{version}", include_in_schema=False)
    async def model_metadata(model: str, version: str = MODEL_VERSION) -> JsonResponse:
        check_model(model, version)
        return JsonResponse(
            {
                "name": name,
                "versions": [MODEL_VERSION],
                "platform": "onnxruntime_onnx",
                "inputs": [image_spec.describe()],
                "outputs": [spec.describe() for spec in output_specs],
            }
        )

    @router.get("/models/{model}/ready", summary="Whether the model accepts images")
    @router.get("/models/{model}/versions/{version}/ready", include_in_schema=False)
    async def model_ready(model: str, version: str = MODEL_VERSION) -> JsonResponse:
        check_model(model, version)
        is_ready = service.queue.is_running
        return JsonResponse({"name": name, "ready": is_ready}, status_code=200 if is_ready else 503)

    @router.post("/models/{model}/infer", openapi_extra=INFER_BODY, summary="Run the model on pixels of its input size")
    @router.post("/models/{model}/versions/{version}/infer", include_in_schema=False)
    async def infer(request: Request, model: str, version: str = MODEL_VERSION) -> Response:
        """Tensors are JSON, or binary with the header Inference-Header-Content-Length. `boxes` are y0, x0, y1, x1 as
        fractions of the image. The outputs are candidates before NMS, unless the model was exported with `--nms`."""
        check_model(model, version)
        json_length = request.headers.get(JSON_LENGTH_HEADER)
        async with bodies.read_bytes(request) as body:

            async def run() -> tuple[bytes, dict[str, str]]:
                parsed = await service.in_thread(
                    lambda: parse_infer_request(body, json_length, image_spec, output_names=OUTPUT_NAMES)
                )
                arrays = await service.run_model(parsed.tensor)
                tensors: dict[str, tuple[TensorSpec, np.ndarray]] = {
                    spec.name: (spec, array) for spec, array in zip(output_specs, arrays)
                }
                fields: dict[str, Any] = {"model_name": name, "model_version": MODEL_VERSION}
                return await service.in_thread(lambda: build_infer_response(fields, tensors, parsed))

            content, headers = await service.finish_while_connected(request, run())
        return Response(content, headers=headers)

    return router
