"""Files of torch.save: no code in them is run, damaged ones are refused, and 16-bit floats are widened."""

import argparse

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from ssd.errors import UserError  # noqa: E402
from weight_conversion.state_dict import read_state_dict  # noqa: E402


class RunsCode:
    def __reduce__(self):
        return print, ("this must never be printed",)


def test_pickles_that_would_run_code_are_refused(tmp_path, capsys):
    for value, code in ((RunsCode(), "print"), (argparse.Namespace(), "argparse.Namespace")):
        torch.save({"state_dict": {}, "args": value}, tmp_path / "unsafe.pth")
        with pytest.raises(UserError, match=rf"unsafe.pth: .*\({code}\)"):
            read_state_dict(tmp_path / "unsafe.pth")
    assert capsys.readouterr().out == ""


def test_damaged_files_are_refused(tmp_path):
    torch.save({"a.weight": torch.ones(1000)}, tmp_path / "whole.pth")
    whole = (tmp_path / "whole.pth").read_bytes()
    for content in (b"", b"hello", whole[: len(whole) // 2]):
        (tmp_path / "damaged.pth").write_bytes(content)
        with pytest.raises(UserError, match="damaged.pth: "):
            read_state_dict(tmp_path / "damaged.pth")


@pytest.mark.parametrize(
    "content, part",
    [(torch.ones(2), "Tensor"), ({"lr": 0.1}, "'lr'"), ({"model": {}}, "no weights")],
)
def test_files_without_weights_are_refused(content, part, tmp_path):
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(UserError, match=f"other.pth: .*{part}"):
        read_state_dict(tmp_path / "other.pth")


def test_16_bit_floats_are_widened_exactly(tmp_path):
    values = torch.tensor([0.1, -3.0, 1e-4])
    for dtype in (torch.bfloat16, torch.float16):
        torch.save({"a": values.to(dtype), "count": torch.tensor(7)}, tmp_path / "half.pth")
        arrays = read_state_dict(tmp_path / "half.pth").arrays
        assert arrays["a"].dtype == np.float32 and arrays["count"] == 7
        assert torch.equal(torch.from_numpy(arrays["a"]).to(dtype), values.to(dtype))
