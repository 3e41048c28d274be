"""JSON records are read without the parameters, also from files that are damaged or of other programs."""

import json
import time

import mindspore as ms
import numpy as np
import pytest

from ssd.checkpoints.records import (
    EVALUATION_KEY,
    METADATA_KEY,
    OLD_METADATA_KEY,
    STATE_KEY,
    Progress,
    parse_record,
    read_progress,
    read_records,
)
from ssd.checkpoints.saving import save_checkpoint

RECORDS = {
    METADATA_KEY: {"classes": {"classes": ["background", "猫", "𝄞"]}},
    STATE_KEY: {"step": 7, "steps_per_epoch": 3},
}


def net_of(*shapes):
    return [{"name": f"p{index}", "data": ms.Tensor(np.ones(shape, np.float32))} for index, shape in enumerate(shapes)]


@pytest.fixture
def path(tmp_path):
    net = ms.nn.SequentialCell(ms.nn.Dense(600, 600), ms.nn.Dense(2, 2))  # the first weight has more than 1 MiB
    save_checkpoint(net, tmp_path / "a.ckpt", RECORDS)
    return tmp_path / "a.ckpt"


def test_records_behind_large_tensors_are_read(path):
    assert path.stat().st_size > 600 * 600 * 4
    assert read_records(path) == RECORDS
    assert read_progress(path) == Progress(step=7, epoch=2, step_in_epoch=1)


def test_files_with_and_without_a_checksum_are_read(tmp_path):
    for crc_check in (False, True):
        file = tmp_path / f"{crc_check}.ckpt"
        ms.save_checkpoint(net_of((2, 2)), str(file), append_dict={METADATA_KEY: "{}"}, crc_check=crc_check)
        assert read_records(file) == {METADATA_KEY: {}}


def test_files_without_records_have_none(tmp_path):
    ms.save_checkpoint(net_of((2, 2)), str(tmp_path / "mindcv.ckpt"), append_dict={"epoch_num": 3})
    (tmp_path / "empty.ckpt").touch()
    (tmp_path / "text.ckpt").write_text("\nweights")
    for name in ("mindcv.ckpt", "empty.ckpt", "text.ckpt", "missing.ckpt", ""):
        assert read_records(tmp_path / name) == {}
        assert read_progress(tmp_path / name) is None


def test_damaged_files_raise_no_error(path, tmp_path):
    content, damaged = path.read_bytes(), tmp_path / "damaged.ckpt"
    save_checkpoint(ms.nn.Dense(2, 2), tmp_path / "small.ckpt", RECORDS)
    small = (tmp_path / "small.ckpt").read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(300):
        changed = bytearray(small)
        for position in rng.integers(len(changed), size=2):
            changed[position] = rng.integers(256)
        damaged.write_bytes(bytes(changed[: rng.integers(1, len(changed))]))
        assert isinstance(read_records(damaged), dict)
        read_progress(damaged)
    for length in (10, 1_000_000, len(content) - 2000):
        damaged.write_bytes(content[:length])
        assert set(read_records(damaged)) <= set(RECORDS)


@pytest.mark.parametrize(
    ("name", "record"),
    [
        *((METADATA_KEY, []), (METADATA_KEY, {"anchors": 5}), (METADATA_KEY, {"classes": {"classes": [1]}})),
        *(
            (METADATA_KEY, {"classes": {"classes": "cat"}}),
            (OLD_METADATA_KEY, {"classes": 5}),
            (OLD_METADATA_KEY, None),
        ),
        *((STATE_KEY, {}), (STATE_KEY, {"step": "7", "steps_per_epoch": 3}), (STATE_KEY, {"step": 7})),
        *((STATE_KEY, {"step": 7, "steps_per_epoch": 0}), (STATE_KEY, {"step": -1, "steps_per_epoch": 3})),
        *((STATE_KEY, {"step": 10**400, "steps_per_epoch": 3}), (EVALUATION_KEY, {"step": 7, "epoch": 2})),
        *((EVALUATION_KEY, {"step": 7, "epoch": 2, "metrics": {}}),),
        *((EVALUATION_KEY, {"step": 7, "epoch": 2, "metrics": {"mAP": "0.5"}}),),
    ],
)
def test_records_with_other_values_are_left_out(name, record, tmp_path):
    text = json.dumps(record)
    with pytest.raises(ValueError, match=name):
        parse_record(name, text)
    ms.save_checkpoint(net_of((2, 2)), str(tmp_path / "a.ckpt"), append_dict={name: text})
    assert read_records(tmp_path / "a.ckpt") == {} and read_progress(tmp_path / "a.ckpt") is None


def test_a_length_without_an_end_is_read_quickly(tmp_path):
    """An integer of a million bytes would take minutes."""
    (tmp_path / "a.ckpt").write_bytes(b"\x0a" + b"\x80" * 1_000_000)
    start = time.process_time()
    assert read_records(tmp_path / "a.ckpt") == {}
    assert time.process_time() - start < 1
