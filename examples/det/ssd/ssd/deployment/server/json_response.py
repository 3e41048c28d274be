"""JSON in requests and responses."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import Response

from ...runtime.read_json import parse_json
from .request_error import RequestError


class JsonResponse(Response):
    """Response whose body is JSON. content: anything that json.dumps accepts"""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def json_object(content: bytes) -> dict[str, Any]:
    """Parse a JSON object. Raises RequestError with status 400 if the bytes are something else."""
    try:
        document = parse_json(content)
    except ValueError as error:
        reason = "wrong encoding" if isinstance(error, UnicodeDecodeError) else str(error)
        raise RequestError(400, f"body: no valid JSON ({reason}). Send a JSON object.") from None
    if not isinstance(document, dict):
        raise RequestError(400, f"body: the JSON is a {type(document).__name__}. Send a JSON object.")
    return document
