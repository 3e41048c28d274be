"""The command of CANN's converter, and the script that runs it."""

import shutil

import pytest

from ssd.deployment.atc import atc_command, convert_to_om, write_script
from ssd.deployment.detector import Detector
from ssd.errors import UserError


@pytest.fixture(scope="module")
def model(exported, tmp_path_factory):
    """Folder of a model with its script."""
    folder = tmp_path_factory.mktemp("om") / "tiny"
    shutil.copytree(exported.folder, folder)
    write_script(folder, Detector(folder).metadata, soc="Ascend310P3")
    return folder


@pytest.mark.parametrize(
    "layout, batch_size, shape, data_format",
    [("NCHW", None, "1,3,64,64", "NCHW"), ("NHWC", None, "1,64,64,3", "ND"), ("NHWC", 4, "4,64,64,3", "ND")],
)
def test_command(layout, batch_size, shape, data_format, exported):
    metadata = Detector(exported.folder).metadata
    info = metadata.input.model_copy(update={"layout": layout, "batch_size": batch_size})
    assert atc_command(metadata.model_copy(update={"input": info}), "Ascend310B4") == [
        "atc",
        "--framework=5",
        "--model=model.onnx",
        "--output=model",
        f"--input_format={data_format}",
        f"--input_shape=image:{shape}",
        "--soc_version=Ascend310B4",
        "--precision_mode=force_fp16",
    ]


def install_atc(folder, monkeypatch, script):
    (folder / "atc").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "atc").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


def test_without_atc_the_command_is_said(model, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    line = convert_to_om(model, Detector(model).metadata, soc="Ascend310P3")
    assert "convert_to_om.sh" in line and not (model / "model.om").exists()


def test_atc_runs_in_the_folder_of_the_model(model, tmp_path, monkeypatch):
    install_atc(tmp_path, monkeypatch, 'mkdir kernel_meta; echo "$@" > model.om')
    assert "Ascend310P3" in convert_to_om(model, Detector(model).metadata, soc="Ascend310P3")
    assert (model / "model.om").read_text().split() == atc_command(Detector(model).metadata, "Ascend310P3")[1:]
    assert not (model / "kernel_meta").exists()


def test_a_failure_of_atc_is_reported(model, tmp_path, monkeypatch):
    (model / "model.om").unlink(missing_ok=True)
    install_atc(tmp_path, monkeypatch, 'echo "E10001: bad soc"; exit 3')
    with pytest.raises(UserError, match="convert_to_om.sh: .*code 3 .*E10001"):
        convert_to_om(model, Detector(model).metadata, soc="Ascend310P3")
