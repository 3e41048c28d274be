"""Several ranks under MindSpore's msrun: they learn the same, one of them writes, and they end together."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from make_shapes import make_shapes
from msrun_job import ROOT, Job, two_hosts
from ssd.data.readers.coco import read_coco

SSD = ROOT / "examples" / "det" / "ssd"
JOBS = ROOT / "tests" / "jobs"
SMALL = ["--batch_size", "2", "--log_interval", "1"]
EVALUATING = ["--eval_while_train", "true", "--eval_start_epoch", "6", "--min_score", "0"]


@pytest.fixture
def start(tmp_path):
    """start(words, **of Job) -> a job whose processes are gone after the test, whatever becomes of it"""
    jobs = []

    def start_job(words, name="logs", **settings):
        jobs.append(Job(tmp_path / name, words, **settings))
        return jobs[-1]

    yield start_job
    for job in jobs:
        job.kill()


@pytest.mark.parametrize("join", [True, False])
@pytest.mark.parametrize("death, rank", [("killed", 0), ("killed", 1), ("mistake", 1)])
def test_a_failed_rank_ends_all_and_is_named(death, rank, join, start):
    job = start([JOBS / "waiting.py"], join=join, FAILING=str(rank) if death == "mistake" else "")
    job.wait_for("working", ranks=[0, 1])
    if death == "killed":
        os.kill(job.of_rank(rank)[1], signal.SIGKILL)
    job.end(20)
    assert job.process.returncode == (1 if join else 0), job.logs()  # without --join msrun knows no end
    how = "SIGKILL" if death == "killed" else "exit code 2"
    told = f"Error: rank {rank} was ended by {how}; its log is {job.log_dir}/worker_{rank}.log"
    assert told in job.log("scheduler"), job.logs()
    if join:
        assert told in job.said(), job.logs()
    if death == "mistake":
        assert "error: data_dir: got a folder" in job.log("worker_1")
    other = job.log(f"worker_{1 - rank}").splitlines()
    # With --join msrun ends the other's stand-in, and this one has no collective to wait in, as real ranks have.
    assert other[1:] in (["saved", "interrupted"], [f"ended, because of another rank: {told}"])


SIGNALS = {
    "SIGTERM to msrun": lambda job: job.process.terminate(),
    "Ctrl-C": lambda job: os.killpg(job.process.pid, signal.SIGINT),
    "SIGTERM to ranks": lambda job: [os.kill(job.of_rank(rank)[0], signal.SIGTERM) for rank in (0, 1)],
    "msrun killed": lambda job: job.process.kill(),
}


@pytest.mark.parametrize("name", SIGNALS)
def test_signals_reach_all_ranks_and_nothing_is_left(name, start):
    job = start([JOBS / "waiting.py"])
    job.wait_for("working", ranks=[0, 1])
    SIGNALS[name](job)
    job.end(20)
    # msrun itself calls its end by Ctrl-C a success.
    assert job.process.returncode == {"SIGTERM to msrun": -15, "Ctrl-C": 0, "msrun killed": -9}.get(name, 1)
    for rank in (0, 1):
        assert job.log(f"worker_{rank}") == "working\nsaved\ninterrupted\n"
    assert "Error: rank" not in job.log("scheduler")


def test_a_second_signal_ends_at_once(start):
    """Rank 0 does not come to an end of a step: it is stopped, as one that waits for a disk is."""
    job = start([JOBS / "waiting.py"], join=False)
    job.wait_for("working", ranks=[0, 1])
    stand_in, work = job.of_rank(0)
    os.kill(work, signal.SIGSTOP)
    os.kill(stand_in, signal.SIGTERM)
    time.sleep(1)
    assert work in job.processes()
    os.kill(stand_in, signal.SIGTERM)
    os.kill(job.of_rank(1)[0], signal.SIGTERM)
    job.end(10)
    assert "saved" not in job.log("worker_0")


def test_one_worker_works_alone(start):
    """msrun starts the command as its scheduler, too, which must not train beside it."""
    job = start([JOBS / "waiting.py"], workers=1)
    job.wait_for("working")
    deadline = time.monotonic() + 10
    while "MS_SCHED 0" in job.processes().values():
        assert time.monotonic() < deadline
    assert sorted(job.processes().values()) == ["MS_WORKER 0"] * 2 + ["msrun", "tail"]
    job.process.terminate()
    job.end(20)
    assert job.log("worker_0") == "working\nsaved\ninterrupted\n" and "working" not in job.log("scheduler")


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Shards of 16 training and 3 validation images: on two ranks one gets an image that the other has, too."""
    from ssd.data.mindrecord import convert

    folder = tmp_path_factory.mktemp("msrun")
    make_shapes(folder / "coco", train=16, val=3, size=96, seed=1)
    splits = [
        read_coco(folder / "coco" / "annotations" / f"instances_{name}.json", folder / "coco" / name)
        for name in ("train2017", "val2017")
    ]
    convert(*splits, folder / "records", overwrite=False, num_workers=2)
    return folder / "records"


def recipe(records, ckpt):
    where = ["--config", ROOT / "tests" / "tiny.yaml", "--data_dir", records, "--ckpt_save_dir", ckpt]
    return [*where, *SMALL, "--epoch_size", "6", "--warmup_epochs", "0", "--lr", "0.01"]


@pytest.fixture(scope="module")
def never_stopped(records, tmp_path_factory):
    """A training of 6 epochs of 4 steps on two ranks: its job, and its folder of checkpoints."""
    folder = tmp_path_factory.mktemp("never_stopped")
    job = Job(folder / "logs", [JOBS / "hashed_training.py", *recipe(records, folder / "ckpt"), *EVALUATING])
    try:
        job.end(300)
    finally:
        job.kill()
    assert job.process.returncode == 0, job.logs()
    return job, folder / "ckpt"


def expect_equal(*folders):
    """All parameters at the end of two trainings, what their optimisers remember, and best figures, bit for bit."""
    import mindspore as ms

    ends = [ms.load_checkpoint(str(folder / "ssd-6.ckpt")) for folder in folders]
    assert ends[0].keys() == ends[1].keys()
    for name in ends[0]:
        first, second = (end[name] if isinstance(end[name], str) else end[name].asnumpy() for end in ends)
        assert np.array_equal(first, second), name


def test_ranks_have_learnt_the_same(never_stopped):
    job, _ = never_stopped
    for what in ("learnt", "statistics"):
        sums = [re.findall(rf"^{what}: (\d+ \w{{64}})$", job.log(f"worker_{rank}"), re.MULTILINE) for rank in (0, 1)]
        assert len(sums[0]) == 1 and sums[0] == sums[1], what


def test_rank_0_alone_speaks_and_writes(never_stopped):
    job, ckpt = never_stopped
    assert "2 x CPU" in job.log("worker_0") and "epoch 6/6 step 4/4" in job.log("worker_0")
    lines = job.log("worker_1").splitlines()
    assert [line for line in lines if not line.startswith(("learnt:", "statistics:", "[INFO] DISTRIBUTED"))] == []
    names = sorted(path.name for path in ckpt.iterdir())
    assert names == ["best.ckpt", "last.ckpt", "metrics.csv", "ssd-5.ckpt", "ssd-6.ckpt", "tensorboard"]
    assert len(list((ckpt / "tensorboard").iterdir())) == 1
    steps = [line.split(",")[1] for line in (ckpt / "metrics.csv").read_text().splitlines()[1:]]
    assert steps == [str(step) for step in range(1, 25)] + ["24"]  # the last one is the evaluation's


def test_stopped_and_resumed_ends_as_never_stopped(never_stopped, records, tmp_path, start):
    train = [SSD / "train.py", *recipe(records, tmp_path / "ckpt"), *EVALUATING]
    job = start(train, "stopped")
    job.wait_for("epoch 1/6 step 2/4")
    os.kill(job.of_rank(1)[0], signal.SIGTERM)  # to one rank, of which the other hears
    job.end(60)
    assert job.process.returncode == 1 and "Traceback" not in job.log("worker_0") + job.log("worker_1"), job.logs()
    assert (tmp_path / "ckpt" / "last.ckpt").is_file()

    job = start([*train, "--resume"], "resumed")
    job.end(120)
    assert job.process.returncode == 0, job.logs()
    after = int(re.search(r"going on from \S+last.ckpt after step (\d+)", job.log("worker_0"))[1])
    assert 2 <= after < 24
    expect_equal(never_stopped[1], tmp_path / "ckpt")


@pytest.fixture(scope="module")
def hosts():
    with two_hosts() as hosts:
        yield hosts or pytest.skip("this process may not make network namespaces")


def figures(folder):
    """Precisions and recalls as an evaluation in training has recorded them."""
    lines = [line.split(",") for line in (folder / "metrics.csv").read_text().splitlines()]
    return {name: float(value) for name, value in zip(lines[0], lines[-1]) if re.match("A[PR]", name)}


def test_two_hosts_train_as_one_does(never_stopped, hosts, records, tmp_path, start):
    train = [SSD / "train.py", *recipe(records, tmp_path / "ckpt"), *EVALUATING]
    jobs = [start(train, f"host{host.rank}", host=host) for host in hosts]
    for job in jobs:
        job.end(150)
        assert job.process.returncode == 0, job.logs()
    assert "2 x CPU" in jobs[0].log("worker_0") and "epoch" not in jobs[1].log("worker_1")
    expect_equal(never_stopped[1], tmp_path / "ckpt")
    assert figures(never_stopped[1]) == figures(tmp_path / "ckpt")


def test_a_rank_killed_on_one_host_ends_the_other(hosts, records, tmp_path, start):
    train = [SSD / "train.py", *recipe(records, tmp_path / "ckpt"), *EVALUATING, "--epoch_size", "500"]
    jobs = [start(train, f"host{host.rank}", host=host) for host in hosts]
    jobs[0].wait_for("epoch 1/500 step 2/4")
    os.kill(jobs[1].of_rank(1)[1], signal.SIGKILL)
    seconds = max(job.end(60) for job in jobs)
    assert [job.process.returncode for job in jobs] == [1, 1], f"{seconds} s\n" + "\n".join(job.logs() for job in jobs)
    assert "Error: rank 1 was ended by SIGKILL; its log is " in jobs[1].said()
    assert "Error: rank 0 was ended by exit code 1, perhaps because one on another host was; its log" in jobs[0].said()


def test_two_ranks_evaluate_as_one_process_does(never_stopped, records, tmp_path, start):
    evaluate = [SSD / "eval.py", *recipe(records, never_stopped[1]), "--min_score", "0", "--output_dir"]
    one = subprocess.run([sys.executable, *map(str, evaluate), tmp_path / "one"], capture_output=True, text=True)
    assert one.returncode == 0, one.stderr
    job = start([*evaluate, tmp_path / "two"])
    job.end(120)
    assert job.process.returncode == 0, job.logs()
    assert "mAP: " in job.log("worker_0") and "mAP: " not in job.log("worker_1")
    results = [json.loads((tmp_path / name / "predictions.json").read_text()) for name in ("one", "two")]
    assert results[0] == results[1] and {result["image_id"] for result in results[0]} == {17, 18, 19}
    # And the checkpoint that two ranks kept is the detector that they scored.
    metrics = json.loads((tmp_path / "one" / "metrics.json").read_text())
    in_training = figures(never_stopped[1])
    assert {name: float(f"{metrics[name]:.7g}") for name in in_training} == in_training  # metrics.csv has 7 digits
    assert 0 < metrics["AP"] < 1


def test_a_training_of_two_ranks_goes_on_alone(never_stopped, records, tmp_path):
    """A batch of four for one instead of two each: the same images, though BatchNorm sees them together."""
    words = [*map(str, recipe(records, tmp_path / "ckpt")), "--resume", str(never_stopped[1] / "ssd-5.ckpt")]
    words[words.index("--batch_size") + 1] = "4"
    result = subprocess.run([sys.executable, str(SSD / "train.py"), *words], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert re.search(r"on 1 x CPU: .* 4 steps of 4 images, going on from \S+/ssd-5.ckpt after step 20", result.stdout)
    steps = [line.split(",")[1] for line in (tmp_path / "ckpt" / "metrics.csv").read_text().splitlines()[1:]]
    assert steps == ["21", "22", "23", "24"] and (tmp_path / "ckpt" / "ssd-6.ckpt").is_file()


def test_a_killed_rank_ends_a_training(records, tmp_path, start):
    job = start([SSD / "train.py", *recipe(records, tmp_path / "ckpt"), *EVALUATING])
    job.wait_for("epoch 1/6 step 1/4")
    os.kill(job.of_rank(1)[-1], signal.SIGKILL)
    job.end(30)
    assert job.process.returncode == 1
    assert re.search(r"Error: rank 1 was ended by SIGKILL; its log is \S+/worker_1.log", job.said()), job.logs()
