"""Tests of tools/soak.py: comparison of runs, lines through samples, and what is found after a job has ended."""

import os
import random
import signal
import socket
import subprocess
import sys
import uuid

import numpy as np
import pytest
from mindspore import Parameter, save_checkpoint

from soaks import leftovers, marked_processes
from soaks.compare import compare_checkpoints, compare_metrics, last_logged_step, saved_step
from soaks.hosts import two_hosts
from soaks.lines import fit_line
from soaks.samples import Samples
from soaks.two_ranks import choose_victims


def write_checkpoint(folder, weight, step=4):
    folder.mkdir()
    parameters = [{"name": "weight", "data": Parameter(np.float32([weight]))}]
    save_checkpoint(parameters, str(folder / "last.ckpt"), append_dict={"training_state": f'{{"step": {step}}}'})
    return folder / "last.ckpt"


def test_checkpoints_are_compared_to_the_last_bit(tmp_path):
    first, same = write_checkpoint(tmp_path / "a", 1), write_checkpoint(tmp_path / "b", 1)
    assert compare_checkpoints(first, same) == [] and saved_step(tmp_path / "b") == 4
    other = write_checkpoint(tmp_path / "c", np.nextafter(np.float32(1), np.float32(2)))
    (difference,) = compare_checkpoints(first, other)
    assert "last.ckpt" in difference and "1 of 2" in difference and "'weight'" in difference


def test_last_logged_step_ignores_a_truncated_row(tmp_path):
    assert last_logged_step(tmp_path) == saved_step(tmp_path) == 0
    (tmp_path / "metrics.csv").write_text("epoch,step,loss\n1,3,0.5\n1,4,0.5\n1,")
    assert last_logged_step(tmp_path) == 4


@pytest.mark.parametrize(
    "rows, place",
    [
        ("1,3,0.5,9\n2,6,0.4,9\n", None),  # times differ, and epoch 3 is left out
        ("1,3,0.5,7\n2,6,0.3,7\n", "step 6 in loss"),
        ("1,3,0.5,7\n1,3,0.5,7\n2,6,0.4,7\n", "step 6 in epoch, step, loss"),  # a step twice
        ("1,3,0.5,7\n", "has 1 rows up to epoch 2, expected 2"),
    ],
)
def test_metrics_must_be_those_of_an_uninterrupted_run(rows, place, tmp_path):
    for name, text in (("expected", "1,3,0.5,7\n2,6,0.4,7\n3,9,0.3,7\n"), ("found", rows)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.csv").write_text(f"epoch,step,loss,images_per_second\n{text}")
    found = compare_metrics(tmp_path / "expected", tmp_path / "found", last_epoch=2)
    assert (found == []) if place is None else (place in found[0])


def test_processes_with_different_offsets_share_a_slope():
    first = ([0, 1800, 3600, 5400], [999, 115, 130, 145])  # 30 per hour after the warm-up
    second = ([1800, 3600, 5400, 7200], [215, 230, 245, 260])
    line = fit_line([first, second, ([0, 1800], [1, 2])], warm_up_seconds=1800)
    assert line.per_hour == pytest.approx(30) and line.error == pytest.approx(0, abs=1e-9)
    assert (line.processes, line.hours, line.mean) == (2, 1.5, pytest.approx(1340 / 7))
    assert line.grows(16) and not line.grows(46)  # 45 in 1.5 hours
    assert line.grows(16, known_per_hour=19) and not line.grows(16, known_per_hour=20)  # 16.5 and 15 of another cause
    assert fit_line([([0, 60], [1, 2])], warm_up_seconds=0) is None


def test_noise_is_no_growth():
    rng = np.random.default_rng(0)
    seconds = np.arange(0, 600, 5)
    noise = fit_line([(seconds, 400 + rng.normal(0, 10, len(seconds)))], warm_up_seconds=0)
    leak = fit_line([(seconds, 400 + seconds / 10 + rng.normal(0, 10, len(seconds)))], warm_up_seconds=0)
    assert not noise.grows(1) and leak.grows(16) and leak.per_hour == pytest.approx(360, rel=0.2)


def test_growing_memory_and_open_files_are_faults(capsys):
    samples = Samples()
    mark = uuid.uuid4().hex
    with start_sleeping(mark):
        for _ in range(3):
            samples.take(mark)
        marked_processes.kill_processes(mark)
    (life,) = samples.lives.values()
    assert life.name == "sleep" and len(life.files) == 3 and 0 < life.memory_mib[0] < 50
    life.seconds, life.memory_mib, life.files = [0, 60, 120], [400, 430, 460], [10, 20, 30]
    memory, files = samples.report("service", warm_up_seconds=0)
    assert "memory of sleep" in memory and "1800" in memory and "open files of sleep" in files and "600" in files
    assert "+1800.0 ± 0.0 MiB/h" in capsys.readouterr().out
    (files,) = samples.report("service", warm_up_seconds=0, known_growth={"sleep": 1700.0})
    assert "open files of sleep" in files


def start_sleeping(mark):
    return subprocess.Popen(["sleep", "60"], env={**os.environ, marked_processes.VARIABLE: mark})


def test_processes_are_found_by_their_mark_and_killed():
    mark = uuid.uuid4().hex
    with start_sleeping(mark) as process:
        assert marked_processes.find_processes(mark) == {process.pid: "sleep"}
        assert marked_processes.wait_until_gone(mark, seconds=0.2) == {process.pid: "sleep"}
        marked_processes.kill_processes(mark)
        assert process.wait() == -signal.SIGKILL and marked_processes.wait_until_gone(mark, seconds=1) == {}


def test_children_of_supervisors_do_the_work_of_ranks():
    own, parent = os.getpid(), os.getppid()
    roles = marked_processes.name_ranks({own: "MS_WORKER 1", parent: "MS_WORKER 1", 1: "MS_SCHED None"})
    assert roles == {own: "rank 1", parent: "supervisor of rank 1", 1: "supervisor of scheduler"}
    assert marked_processes.name_ranks({own: "msrun", parent: "msrun"}) == {own: "msrun", parent: "msrun"}


def test_ranks_scheduler_and_msrun_are_killed_in_turn():
    victims = choose_victims(2, random.Random(0))
    chosen = [next(victims) for _ in range(24)]
    kinds = [role.removeprefix("supervisor of ").partition(" ")[0] for (role, _), _ in chosen]
    assert kinds == ["rank", "scheduler", "msrun"] * 8
    assert len({victim for victim in chosen if "rank" in victim[0][0]}) == 8  # two ranks, two processes, two signals
    assert {host for (role, host), _ in chosen if role == "msrun"} == {0, 1}


def test_temporary_files_are_found(tmp_path, monkeypatch):
    monkeypatch.setattr(leftovers, "SHARED_FOLDERS", (tmp_path,))
    monkeypatch.setattr(leftovers.tempfile, "gettempdir", lambda: str(tmp_path))
    (tmp_path / "before").touch()
    found = leftovers.Leftovers()
    assert found.find() == []
    (tmp_path / "after").touch()
    (text,) = found.find()
    assert str(tmp_path / "after") in text


def test_unfinished_files_are_found(tmp_path):
    for name in ("ckpt/.unfinished-last.ckpt", "ckpt/.ckpt_save_dir.lock", "core.7", "ckpt/last.ckpt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [text.split()[0].rpartition("/")[2] for text in leftovers.find_unfinished(tmp_path)]
    assert sorted(found) == [".ckpt_save_dir.lock", ".unfinished-last.ckpt", "core.7"]


def test_open_sockets_are_found_and_closed_ones_not():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            assert len(leftovers.find_sockets(port)) == 3  # listening, and both ends of the connection
    assert leftovers.find_sockets(port) == []


def test_help_states_the_parts_and_the_duration():
    script = leftovers.Path(leftovers.__file__).parents[1] / "soak.py"
    result = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True)
    assert result.returncode == 0 and "15 minutes" in result.stdout and "{device,ranks,service}" in result.stdout


def test_hosts_of_killed_processes_are_removed():
    with subprocess.Popen(["true"]) as ended:
        pass
    name = f"ssd{ended.pid}a"
    with two_hosts() as hosts:
        if hosts is None:
            pytest.skip("this process may not create network namespaces")
    subprocess.run(["ip", "netns", "add", name], check=True)
    with two_hosts() as hosts:
        listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout.split()
        assert name not in listed and {host.prefix[-1] for host in hosts} <= set(listed)
