"""Import the optional library supervision, which converts, draws and tracks detections."""

from __future__ import annotations

from types import ModuleType

from ..errors import UserError


def import_supervision() -> ModuleType:
    """Import supervision on first use, because it is optional and takes 0.5 s.

    Raises UserError if the library is not installed.
    """
    try:
        import supervision
    except ImportError:
        raise UserError(
            "supervision: the package is not installed. Install it with `pip install -e '.[track]'`."
        ) from None
    return supervision
