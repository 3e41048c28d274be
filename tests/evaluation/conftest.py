"""Fixtures for tests of the evaluation."""

import pytest

from toy_annotations import OBJECTS, make_annotation, write_annotations


@pytest.fixture
def annotation_path(tmp_path):
    """COCO annotations of three images with four objects; the third image has none."""
    annotations = [make_annotation(*row, annotation_id=number) for number, row in enumerate(OBJECTS, start=1)]
    return write_annotations(tmp_path / "val.json", annotations)
