"""Trainings of several ranks under msrun: equal weights on all ranks, output of rank 0 only, and a common end."""

import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest

from make_shapes import make_shapes
from msrun_job import REAL_MSRUN, ROOT, Job, failure_line
from soaks.hosts import two_hosts
from ssd.data.readers.coco import read_coco

pytestmark = pytest.mark.slow

SSD = ROOT / "examples" / "det" / "ssd"
JOBS = ROOT / "tests" / "jobs"
VALIDATION = ["--eval_while_train", "true", "--eval_start_epoch", "6", "--min_score", "0"]


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Shards of 16 training and 3 validation images. 3 is odd, so two ranks share one validation image."""
    from ssd.data.mindrecord import convert

    folder = tmp_path_factory.mktemp("msrun")
    make_shapes(folder / "coco", train=16, val=3, size=96, seed=1)
    splits = [
        read_coco(folder / "coco" / "annotations" / f"instances_{name}.json", folder / "coco" / name)
        for name in ("train2017", "val2017")
    ]
    convert(*splits, folder / "records", overwrite=False, num_workers=2)
    return folder / "records"


def train_arguments(records, checkpoints):
    """Return arguments of train.py for 6 epochs of 4 steps on two ranks. Both parameters are folders.

    Of 24 steps, 8 update the weights. Only every third epoch ends with an update.
    """
    folders = ["--config", ROOT / "tests" / "tiny.yaml", "--data_dir", records, "--ckpt_save_dir", checkpoints]
    keys = "--batch_size 2 --log_interval 1 --epoch_size 6 --warmup_epochs 0 --lr 0.01 --ema_decay 0.9"
    return [*folders, *keys.split(), "--accumulate_steps", "3"]


@pytest.fixture(scope="module")
def full_run(records, tmp_path_factory):
    """The job of an uninterrupted run of 6 epochs of 4 steps on two ranks, and its folder of checkpoints."""
    folder = tmp_path_factory.mktemp("full_run")
    train = [JOBS / "hashed_training.py", *train_arguments(records, folder / "ckpt"), *VALIDATION]
    job = Job(folder / "logs", train, msrun=REAL_MSRUN)
    try:
        job.wait(300)
    finally:
        job.kill()
    assert job.process.returncode == 0, job.all_output()
    return job, folder / "ckpt"


def expect_equal_checkpoints(first, second):
    """Compare parameters, optimizer state and best scores after the last epoch of two training runs, bit for bit."""
    import mindspore as ms

    contents = [ms.load_checkpoint(str(folder / "ssd-6.ckpt")) for folder in (first, second)]
    assert contents[0].keys() == contents[1].keys()
    for name in contents[0]:
        values = [content[name] for content in contents]
        assert np.array_equal(*(value if isinstance(value, str) else value.asnumpy() for value in values)), name


def test_ranks_end_with_equal_weights_and_statistics(full_run):
    job, _ = full_run
    for name in ("weights", "statistics"):
        pattern = re.compile(rf"^{name}: (\d+ \w{{64}})$", re.MULTILINE)
        checksums = [pattern.findall(job.log(f"worker_{rank}")) for rank in (0, 1)]
        assert len(checksums[0]) == 1 and checksums[0] == checksums[1], name


def test_late_averages_of_statistics_equal_those_after_each_step(full_run, records, tmp_path, start):
    """Both contain the EMA of the statistics too. Ranks see different images, so their statistics differ meanwhile."""
    import mindspore as ms

    command = [JOBS / "hashed_training.py", *train_arguments(records, tmp_path / "ckpt"), *VALIDATION]
    job = start(command, AVERAGES="late")
    job.wait(300)
    test_ranks_end_with_equal_weights_and_statistics((job, None))
    expected, found = (ms.load_checkpoint(str(folder / "ssd-6.ckpt")) for folder in (full_run[1], tmp_path / "ckpt"))
    statistics = [name for name in expected if name.endswith(("moving_mean", "moving_variance"))]
    assert any(name.startswith("ema.") for name in statistics)
    for name, value in expected.items():
        if name in statistics:
            np.testing.assert_allclose(found[name].asnumpy(), value.asnumpy(), rtol=1e-6, atol=1e-6)
        elif not isinstance(value, str):
            assert np.array_equal(found[name].asnumpy(), value.asnumpy()), name


def test_only_rank_0_prints_and_writes(full_run):
    job, checkpoints = full_run
    assert "2 x CPU" in job.log("worker_0") and "epoch 6/6 step 4/4" in job.log("worker_0")
    lines = job.log("worker_1").splitlines()
    assert [line for line in lines if not line.startswith(("weights:", "statistics:", "[INFO] DISTRIBUTED"))] == []
    names = sorted(path.name for path in checkpoints.iterdir())
    assert names == ["best.ckpt", "last.ckpt", "metrics.csv", "ssd-5.ckpt", "ssd-6.ckpt", "tensorboard"]
    assert len(list((checkpoints / "tensorboard").iterdir())) == 1
    steps = [line.split(",")[1] for line in (checkpoints / "metrics.csv").read_text().splitlines()[1:]]
    assert steps == [str(step) for step in range(1, 25)] + ["24"]  # the last row is the validation's


def test_resumed_training_equals_an_uninterrupted_one(full_run, records, tmp_path, start):
    train = [SSD / "train.py", *train_arguments(records, tmp_path / "ckpt"), *VALIDATION]
    job = start(train, "stopped")
    job.wait_for("epoch 1/6 step 2/4")
    os.kill(job.rank_processes(1)[0], signal.SIGTERM)  # only to rank 1, which tells rank 0
    job.wait(60)
    assert job.process.returncode == 1, job.all_output()
    assert "Traceback" not in job.log("worker_0") + job.log("worker_1"), job.all_output()
    assert (tmp_path / "ckpt" / "last.ckpt").is_file()

    job = start([*train, "--resume"], "resumed")
    job.wait(120)
    assert job.process.returncode == 0, job.all_output()
    step = int(re.search(r"/last\.ckpt\b\D*(\d+)", job.log("worker_0"))[1])
    assert 2 <= step < 24
    expect_equal_checkpoints(full_run[1], tmp_path / "ckpt")


@pytest.fixture(scope="module")
def hosts():
    with two_hosts() as hosts:
        yield hosts or pytest.skip("this process may not create network namespaces")


def read_scores(checkpoints):
    """Return {metric: value} of the last validation in metrics.csv, for average precisions and recalls."""
    rows = [line.split(",") for line in (checkpoints / "metrics.csv").read_text().splitlines()]
    return {name: float(value) for name, value in zip(rows[0], rows[-1]) if re.match("A[PR]", name)}


def test_two_hosts_train_like_one(full_run, hosts, records, tmp_path, start):
    train = [SSD / "train.py", *train_arguments(records, tmp_path / "ckpt"), *VALIDATION]
    jobs = [start(train, f"host{host.node_rank}", host=host) for host in hosts]
    for job in jobs:
        job.wait(150)
        assert job.process.returncode == 0, job.all_output()
    assert "2 x CPU" in jobs[0].log("worker_0") and "epoch" not in jobs[1].log("worker_1")
    expect_equal_checkpoints(full_run[1], tmp_path / "ckpt")
    assert read_scores(full_run[1]) == read_scores(tmp_path / "ckpt")


def test_killed_rank_on_one_host_ends_the_other_host(hosts, records, tmp_path, start):
    train = [SSD / "train.py", *train_arguments(records, tmp_path / "ckpt"), *VALIDATION]
    jobs = [start(train, f"host{host.node_rank}", host=host) for host in hosts]
    jobs[0].wait_for("epoch 1/6 step 1/4")
    os.kill(jobs[1].rank_processes(1)[1], signal.SIGKILL)
    for job in jobs:
        job.wait(60)
    assert [job.process.returncode for job in jobs] == [1, 1], "\n".join(job.all_output() for job in jobs)
    assert re.search(failure_line(jobs[1], 1, "SIGKILL"), jobs[1].console(), re.MULTILINE)
    assert re.search(failure_line(jobs[0], 0, "(code 1|SIGTERM), .*another host"), jobs[0].console(), re.MULTILINE)


def test_two_ranks_evaluate_like_one_process(full_run, records, tmp_path, start):
    evaluate = [SSD / "eval.py", *train_arguments(records, full_run[1]), "--min_score", "0", "--output_dir"]
    result = subprocess.run([sys.executable, *map(str, evaluate), tmp_path / "one"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    job = start([*evaluate, tmp_path / "two"])
    job.wait(120)
    assert job.process.returncode == 0, job.all_output()
    assert "mAP: " in job.log("worker_0") and "mAP: " not in job.log("worker_1")
    one, two = (json.loads((tmp_path / name / "predictions.json").read_text()) for name in ("one", "two"))
    assert one == two and {detection["image_id"] for detection in one} == {17, 18, 19}
    # The scores that training recorded belong to the checkpoint that it kept.
    metrics = json.loads((tmp_path / "one" / "metrics.json").read_text())
    recorded = read_scores(full_run[1])
    assert {name: float(f"{metrics[name]:.7g}") for name in recorded} == recorded  # metrics.csv has 7 digits
    assert 0 < metrics["AP"] < 1


def test_one_process_resumes_a_training_of_two_ranks(full_run, records, tmp_path):
    """A batch of 4 on one device has the same images as 2 on each of two, though BatchNorm sees them together."""
    arguments = [*map(str, train_arguments(records, tmp_path / "ckpt")), "--resume", str(full_run[1] / "ssd-5.ckpt")]
    arguments[arguments.index("--batch_size") + 1] = "4"
    result = subprocess.run([sys.executable, str(SSD / "train.py"), *arguments], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "1 x CPU" in result.stdout and re.search(r"/ssd-5\.ckpt\b.*\b20\b", result.stdout)
    steps = [line.split(",")[1] for line in (tmp_path / "ckpt" / "metrics.csv").read_text().splitlines()[1:]]
    assert steps == ["21", "22", "23", "24"] and (tmp_path / "ckpt" / "ssd-6.ckpt").is_file()


def test_rank_0_moves_no_files_before_all_ranks_are_ready(records, tmp_path, start):
    """Rank 1 is late and then fails, while rank 0 waits in a collective."""
    (tmp_path / "ckpt").mkdir()
    (tmp_path / "ckpt" / "ssd-1.ckpt").touch()
    job = start([JOBS / "prepared_training.py", *train_arguments(records, tmp_path / "ckpt")], FAILING_RANK="1")
    job.wait(60)
    assert job.process.returncode == 1
    assert re.search(failure_line(job, 1, "code 2"), job.console(), re.MULTILINE), job.all_output()
    names = sorted(path.name for path in (tmp_path / "ckpt").iterdir())
    assert names in (["ssd-1.ckpt"], [".ckpt_save_dir.lock", "ssd-1.ckpt"])  # a killed rank leaves the lock file


def test_a_signal_during_an_evaluation_ends_it_on_all_ranks(full_run, records, tmp_path, start):
    """The rank with the signal stops after an image, and waits until the other rank has evaluated its 2 images.

    Without --join, because msrun would pass the signal on.
    """
    arguments = [*train_arguments(records, tmp_path / "ckpt"), *VALIDATION, "--resume", full_run[1] / "ssd-6.ckpt"]
    job = start([JOBS / "prepared_training.py", *arguments], SECONDS_PER_IMAGE="3", join=False)
    job.wait_for("evaluating", ranks=[0, 1])
    os.kill(job.rank_processes(1)[0], signal.SIGTERM)
    job.wait(30)
    for rank in (0, 1):
        log = job.log(f"worker_{rank}")
        assert log.count("evaluating\n") == 1 and log.endswith("\ninterrupted\n"), job.all_output()


def test_killed_rank_ends_a_training(records, tmp_path, start):
    train = [SSD / "train.py", *train_arguments(records, tmp_path / "ckpt"), *VALIDATION]
    job = start(train, msrun=REAL_MSRUN)
    job.wait_for("epoch 1/6 step 1/4")
    os.kill(job.rank_processes(1)[1], signal.SIGKILL)
    job.wait(30)
    assert job.process.returncode == 1
    assert re.search(failure_line(job, 1, "SIGKILL"), job.console(), re.MULTILINE), job.all_output()
