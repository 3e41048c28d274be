"""Detection of a missing evaluation of the last epoch from metrics.csv, when a run is resumed."""

import pytest

from ssd.errors import UserError
from ssd.training.resume import TrainingState, lacks_evaluation, refuse_completed, refuse_unshared_file

HEADER = "epoch,step,loss,mAP,AR100\n"


def state(step):
    return TrainingState(step=step, steps_per_epoch=10, images_per_step=4, seed=0)


@pytest.mark.parametrize(
    "rows, step, due, expected",
    [
        ("2,20,1.5,,\n", 20, [1, 2], True),
        ("2,20,1.5,,\n2,20,,0.25,0.5\n", 20, [1, 2], False),
        ("1,10,,0.25,0.5\n2,20,1.5,,\n", 20, [1, 2], True),
        ("2,20,1.5,,\n2,20,,0.25", 20, [1, 2], True),  # cut off by a kill
        ("2,20,1.5,,\n", 20, [1, 3], False),  # the epoch has no evaluation
        ("2,20,1.5,,\n", 20, [], False),
        ("2,15,1.5,,\n", 15, [1, 2], False),  # within an epoch
        (None, 20, [1, 2], True),
    ],
)
def test_an_evaluation_is_missing_if_metrics_csv_lacks_its_row(rows, step, due, expected, tmp_path):
    if rows is not None:
        (tmp_path / "metrics.csv").write_text(HEADER + rows)
    assert lacks_evaluation(tmp_path, state(step), due) == expected


def test_a_damaged_row_is_no_evaluation(tmp_path):
    (tmp_path / "metrics.csv").write_bytes(HEADER.encode() + b"1,10,,0.25,0.5\n" + b"\0" * 20 + b"\n\xff,20,,0.5,0.5")
    assert not lacks_evaluation(tmp_path, state(10), [1, 2])
    assert not lacks_evaluation(tmp_path, state(20), [1, 2])
    (tmp_path / "metrics.csv").write_bytes(b"\0" * 99)
    assert lacks_evaluation(tmp_path, state(10), [1, 2])


def test_a_completed_training_is_refused(tmp_path):
    refuse_completed(state(19), epochs=2, path=tmp_path)
    with pytest.raises(UserError, match="2 of 2"):
        refuse_completed(state(20), epochs=2, path=tmp_path)


def test_hosts_with_different_logs_are_refused(tmp_path):
    for num_lacking in (0, 4):
        refuse_unshared_file(tmp_path / "metrics.csv", num_lacking, world_size=4)
    with pytest.raises(UserError, match="metrics.csv"):
        refuse_unshared_file(tmp_path / "metrics.csv", 2, world_size=4)
