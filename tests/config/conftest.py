"""A small recipe for the tests of configuration."""

import pytest
import yaml

MINIMAL = {
    "backbone": "mobilenet_v2_100",
    "backbone_out_indices": [13, 18],
    "image_size": [64, 96],
    "steps": [16, 32],
    "aspect_ratios": [[2], [2]],
    "device_target": "CPU",
}


@pytest.fixture
def recipe(tmp_path):
    """recipe(**changes) writes MINIMAL with changes to a file and returns its path; None omits a key."""

    def write(**changes):
        values = {"data_dir": str(tmp_path / "no data"), **MINIMAL, **changes}
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump({key: value for key, value in values.items() if value is not None}))
        return path

    return write
