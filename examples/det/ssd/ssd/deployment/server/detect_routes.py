"""Routes that detect objects in image files: COCO-like JSON, and the schema of Hugging Face."""

from __future__ import annotations

import base64
import binascii
import json
import time
from typing import Any

import numpy as np
from fastapi import APIRouter, Query, Request

from ...boxes.multiclass_nms import Detections
from ...inference.detections_json import CocoResults
from .detection_service import DetectedImage, DetectionService
from .json_response import JsonResponse, json_object
from .request_body import RequestBodies
from .request_error import RequestError

BINARY = {"schema": {"type": "string", "format": "binary"}}
DETECT_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"files": {"type": "array", "items": BINARY["schema"]}},
                    "required": ["files"],
                }
            },
            "image/jpeg": BINARY,
            "application/octet-stream": BINARY,
        },
    }
}
HUGGING_FACE_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"example": {"inputs": "BASE64", "parameters": {"threshold": 0.5}}},
            "image/jpeg": BINARY,
        },
    }
}


def create_detect_router(service: DetectionService, bodies: RequestBodies) -> APIRouter:
    """Create the routes /detect and /huggingface."""
    router = APIRouter()
    detector = service.detector

    @router.post("/detect", openapi_extra=DETECT_BODY, summary="Detect objects in image files")
    async def detect(
        request: Request, min_score: float = Query(0.0, ge=0, le=1, description="leave out lower scores")
    ) -> JsonResponse:
        """Send one image file as the body, or one or more files in a multipart form.

        `detections` has the keys of COCO's results: `bbox` is x, y, width and height in pixels of the upright image.
        A bad image fails alone: its entry in `images` has the key `error`. If all images are bad, the status is that of
        the first one.
        """
        async with bodies.read_images(request) as uploads:
            contents = [upload.content for upload in uploads]
            results = await service.finish_while_connected(request, service.detect(contents))
        errors = [result for result in results if isinstance(result, RequestError)]
        if len(errors) == len(results):
            raise errors[0]
        images: list[dict[str, Any]] = []
        coco = CocoResults(detector.classes, detector.category_ids)
        for image_id, (upload, result) in enumerate(zip(uploads, results), 1):
            image: dict[str, Any] = {"id": image_id, "file_name": upload.name}
            if isinstance(result, RequestError):
                image["error"] = result.message
            else:
                height, width = result.size
                image |= {"width": width, "height": height, "times_ms": describe_times(result)}
                coco.add(image_id, upload.name, keep_scores(result.detections, min_score))
            images.append(image)
        total_ms = round(1000 * (time.monotonic() - request.state.start), 2)
        return JsonResponse({"images": images, "detections": coco.entries, "total_ms": total_ms})

    @router.post("/huggingface", openapi_extra=HUGGING_FACE_BODY, summary="Hugging Face's object detection")
    async def huggingface(request: Request) -> JsonResponse:
        """Send an image file as the body, or JSON with the file as base64 in `inputs`. The schema is that of the task
        object-detection of Hugging Face's inference API."""
        is_json = request.headers.get("content-type", "").lower().startswith("application/json")
        async with bodies.read_bytes(request) as content:

            async def detect_one() -> tuple[DetectedImage | RequestError, float]:
                image, threshold = content, 0.0
                if is_json:
                    image, threshold = await service.in_thread(lambda: parse_hugging_face(content))
                (result,) = await service.detect([image])
                return result, threshold

            result, threshold = await service.finish_while_connected(request, detect_one())
        if isinstance(result, RequestError):
            raise result
        detections = keep_scores(result.detections, threshold)
        boxes = np.rint(detections.boxes_yxyx).astype(int).tolist()
        return JsonResponse(
            [
                {
                    "label": detector.classes[label],
                    "score": score,
                    "box": {"xmin": x0, "ymin": y0, "xmax": x1, "ymax": y1},
                }
                for (y0, x0, y1, x1), score, label in zip(boxes, detections.scores.tolist(), detections.labels.tolist())
            ]
        )

    return router


def parse_hugging_face(content: bytes) -> tuple[bytes, float]:
    """Parse {"inputs": base64, "parameters": {"threshold": number}}.

    Returns the bytes of the image file and the threshold, 0 without one. Raises RequestError with status 400.
    """
    document = json_object(content)
    try:
        image = base64.b64decode(document["inputs"], validate=True)
    except (KeyError, TypeError, ValueError, binascii.Error):
        raise RequestError(400, 'inputs: no base64 text. Send {"inputs": "<base64 of the image file>"}.') from None
    parameters = document.get("parameters") or {}
    threshold = parameters.get("threshold", 0) if isinstance(parameters, dict) else None
    if isinstance(threshold, bool) or not isinstance(threshold, (int, float)):
        raise RequestError(400, f"parameters.threshold: {json.dumps(threshold)[:40]} is not a number. Send 0 to 1.")
    return image, threshold


def keep_scores(detections: Detections, min_score: float) -> Detections:
    """Return the detections with scores of at least min_score."""
    kept = detections.scores >= min_score
    return Detections(detections.boxes_yxyx[kept], detections.scores[kept], detections.labels[kept])


def describe_times(image: DetectedImage) -> dict[str, float]:
    """Return the times of an image in milliseconds."""
    times = {"decode": image.decode_ms, "wait": image.wait_ms, "model": image.model_ms}
    return {name: round(milliseconds, 2) for name, milliseconds in times.items()}
