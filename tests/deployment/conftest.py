"""Models exported once for all tests of the deployment."""

from types import SimpleNamespace

import numpy as np
import pytest
from mindspore import Tensor

from ssd.checkpoints.saving import save_checkpoint
from ssd.deployment.export_models import export_models
from ssd.deployment.export_request import ExportOptions, ExportRequest
from ssd.models.detector import create_detector


def save_varied_detector(cfg, path):
    """Save random weights whose scores differ from location to location, so that no two are equal."""
    detector, rng = create_detector(cfg), np.random.default_rng(0)
    for name, parameter in detector.parameters_dict().items():
        if name.endswith("moving_variance"):
            parameter.set_data(Tensor(np.full(parameter.shape, 0.3, np.float32)))
        elif name.startswith("head.") and name.endswith(".3.weight"):
            parameter.set_data(Tensor(rng.normal(0, 0.2, parameter.shape).astype(np.float32)))
    save_checkpoint(detector, path)


@pytest.fixture(scope="session")
def export_tiny(tiny_recipe, shapes_records, tmp_path_factory):
    """export_tiny("onnx", nms=True) exports a random detector, and returns its Config and the folder of the model.

    changes: {recipe key: value}
    again: True to export although another test has already exported the same model
    """
    folder = tmp_path_factory.mktemp("exported")
    cfg = tiny_recipe(
        data_dir=str(shapes_records), num_classes=None, ckpt_path=str(folder / "tiny.ckpt"), min_score=0.05
    )
    save_varied_detector(cfg, folder / "tiny.ckpt")

    def export(model_format, changes=None, again=False, **options):
        changed = cfg.model_copy(update=changes or {})
        # MindSpore itself refuses such characters in paths.
        name = " ".join(["tiny é", *map(str, options.items()), *(changes or {})]).replace("'", "")
        model = folder / f"{name}_{model_format}"
        if again or not model.exists():
            export_models(changed, ExportRequest((model_format,), ExportOptions(**options)), folder, name=name)
        return SimpleNamespace(cfg=changed, folder=model)

    return export


@pytest.fixture(scope="session")
def exported(export_tiny):
    """Config and folder of an ONNX model for any batch size, with candidates as output."""
    return export_tiny("onnx")


@pytest.fixture(scope="session")
def images(shapes_coco):
    """Paths of the four validation images."""
    return sorted((shapes_coco / "val2017").iterdir())
