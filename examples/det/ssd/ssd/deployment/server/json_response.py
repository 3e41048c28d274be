"""JSON in requests and responses."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import Response

from .request_error import RequestError


class JsonResponse(Response):
    """Response whose body is JSON. content: anything that json.dumps accepts"""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def json_object(content: bytes) -> dict[str, Any]:
    """Parse a JSON object. Raises RequestError with status 400 if the bytes are something else."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, json.JSONDecodeError) else "wrong encoding or too deep"
        raise RequestError(400, f"body: no valid JSON ({reason}). Send a JSON object.") from None
    if not isinstance(document, dict):
        raise RequestError(400, f"body: the JSON is a {type(document).__name__}. Send a JSON object.")
    return document
