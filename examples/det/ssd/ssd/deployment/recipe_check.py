"""Compare a recipe with the description of an exported model."""

from __future__ import annotations

from pathlib import Path

from ..config.schema import Config
from ..errors import UserError
from .model_metadata import METADATA_NAME, ModelMetadata


def refuse_contradictions(cfg: Config, metadata: ModelMetadata, folder: Path) -> None:
    """Raise UserError if a recipe key has another value than the exported model.

    folder: folder of the model, for the message
    """
    stored = {
        "image_size": [metadata.input.height, metadata.input.width],
        "classes": list(metadata.classes),
        **metadata.thresholds.model_dump(),
    }
    for key, value in stored.items():
        given = getattr(cfg, key)
        given = list(given) if isinstance(given, tuple) else given
        if given is not None and given != value:
            if key == "classes":
                given, value = (f"{len(names)} classes ({', '.join(names[:3])}, …)" for names in (given, value))
            raise UserError(
                f"{key}: the recipe has {given}, but {folder / METADATA_NAME} has {value}. Use the recipe and keys "
                "with which the model was exported, or export the model again."
            )
