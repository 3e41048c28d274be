"""The notebook docs/quickstart.ipynb runs from top to bottom, and is stored without outputs."""

import base64
import io
import json
import os
from pathlib import Path

import pytest
from PIL import Image

from test_commands import ROOT, SHORT

SSD = Path("examples/det/ssd")
NOTEBOOK = SSD / "docs" / "quickstart.ipynb"
# The settings of other tests, so that graphs that they have compiled are found in the cache.
REPLACEMENTS = {
    "--train 240 --val 20 --size 320": "--train 10 --val 4 --size 96",
    "examples/det/ssd/ssd_shapes.yaml": "tests/tiny.yaml",
    "--batch_size 4 --epoch_size 1 --warmup_epochs 0 --log_interval 10": " ".join([*SHORT[:-1], "''"]),
}


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A folder like the root of the repository. All files are links, so the notebook writes only to new folders."""
    folder = tmp_path_factory.mktemp("clone")
    (folder / SSD / "docs").mkdir(parents=True)
    for name in ("configs", "tools", "tests", "pyproject.toml"):
        (folder / name).symlink_to(ROOT / name)
    for path in (ROOT / SSD).iterdir():
        if path.name != "docs":
            (folder / SSD / path.name).symlink_to(path)
    return folder


def sources(notebook):
    return ["".join(cell["source"]) for cell in notebook["cells"]]


def test_the_notebook_is_stored_without_outputs():
    notebook = json.loads((ROOT / NOTEBOOK).read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert cells and all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
    for old in REPLACEMENTS:
        assert any(old in source for source in sources(notebook)), old


@pytest.mark.slow
def test_the_cells_run_in_order(clone, monkeypatch, without_progress):
    import nbformat
    from nbclient import NotebookClient

    # In an environment of `make setup` the package is installed; other environments find it here.
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / SSD}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    notebook = nbformat.read(ROOT / NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        for old, new in REPLACEMENTS.items():
            cell.source = cell.source.replace(old, new)
    folder = clone / NOTEBOOK.parent
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()

    info = json.loads((clone / "data/quickstart/records/dataset.json").read_text())
    assert (info["train"]["images"], info["val"]["images"]) == (10, 4)
    assert (clone / "ckpt/quickstart/ssd-1.ckpt").is_file()
    assert (clone / "output/quickstart/report.html").is_file()
    metrics = json.loads((clone / "output/quickstart/metrics.json").read_text())
    assert metrics["images"] == 4 and 0 <= metrics["mAP"] <= 1

    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    stderr = "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stderr")
    assert without_progress(stderr) == ""
    (picture,) = [output.data["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    # Two rows: an image of 96x96 pixels with its ground truth, and the same image with detections
    assert Image.open(io.BytesIO(base64.b64decode(picture))).size == (2 * 96, 2 * 96)
