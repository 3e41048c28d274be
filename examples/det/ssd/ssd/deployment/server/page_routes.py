"""Routes of the page for photographs, and the names and colors of the classes."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from starlette.responses import FileResponse

from ...inference.drawing import class_color
from .detection_service import DetectionService
from .json_response import JsonResponse

PAGE = Path(__file__).parent / "page"
# The page loads nothing from other hosts. The browser enforces this, also if a class name contains HTML.
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",  # a newer version of the project may have another script
}


def create_page_router(service: DetectionService) -> APIRouter:
    """Create the routes of the page, and /model, which describes the model."""
    router = APIRouter()
    detector, settings = service.detector, service.settings

    @router.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(PAGE / "index.html", headers=PAGE_HEADERS)

    @router.get("/model", summary="Name, classes and limits of the model")
    async def model() -> JsonResponse:
        classes = [
            {
                "label": label,
                "id": category_id,
                "name": name,
                "color": f"#{bytes(class_color(label)).hex()}",
            }
            for label, (category_id, name) in enumerate(zip(detector.category_ids, detector.classes))
            if label > 0
        ]
        return JsonResponse(
            {
                "name": detector.name,
                "classes": classes,
                "image_size": list(detector.image_size),
                "min_score": detector.min_score,
                "max_bytes": settings.max_bytes,
                "max_pixels": settings.max_pixels,
            }
        )

    for path in sorted(PAGE.glob("*.[cj]s*")):  # style.css and the scripts
        router.add_api_route(f"/page/{path.name}", _file_route(path), include_in_schema=False)
    return router


def _file_route(path: Path):
    async def send_file() -> FileResponse:
        return FileResponse(path, headers=PAGE_HEADERS)

    return send_file
