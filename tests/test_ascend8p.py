"""ascend8p.sh with a fake Python: environment and arguments of the ranks, refused settings, signals and failures."""

import json
import os
import signal

import pytest

from ascend8p_sandbox import Ascend8pSandbox, all_exited, is_running, logged_processes

pytestmark = pytest.mark.slow


@pytest.fixture
def sandbox(tmp_path):
    sandbox = Ascend8pSandbox(tmp_path)
    yield sandbox
    for process in sandbox.started:  # still running after a failed test
        if process.poll() is None:
            process.kill()
            process.communicate()
    logs = "".join(file.read_text() for file in sandbox.folder.rglob("*.log"))
    for process in logged_processes(logs):
        if is_running(process):
            os.kill(process, signal.SIGKILL)


# --- environment and arguments of the ranks ---


def test_eight_ranks_and_the_default_recipe(sandbox):
    sandbox.write_table("--device_ips none")
    code, out, err = sandbox.run()
    assert (code, err) == (0, "") and all(f"rank {rank}: " in out for rank in range(8))
    for rank in range(8):
        assert sandbox.log(rank) == (
            f"device_num 8 rank_size 8 device_id {rank} rank_id {rank}"
            f" table {sandbox.folder}/hccl_8p_01234567_127.0.0.1.json\n"
            "<-u><examples/det/ssd/train.py><--config><examples/det/ssd/ssd_mobilenetv2.yaml>\n"
        )


def test_four_ranks_with_a_recipe_and_options(sandbox, tmp_path_factory):
    sandbox.write_table("--devices 0,1,2,3 --device_ips none")
    arguments = ["recipe.yaml", "--lr", "0.1", "--image_size", "[96, 96]", "--data_dir", ""]
    code, _, err = sandbox.run(*arguments, DEVICE_NUM="4", cwd=tmp_path_factory.mktemp("elsewhere"))
    assert (code, err) == (0, "")
    assert sorted(path.name for path in sandbox.folder.glob("*.log")) == [f"train_rank{rank}.log" for rank in range(4)]
    for rank in range(4):
        environment, passed_arguments = sandbox.log(rank).splitlines()
        assert environment == (
            f"device_num 4 rank_size 4 device_id {rank} rank_id {rank}"
            f" table {sandbox.folder}/hccl_4p_0123_127.0.0.1.json"
        )
        assert passed_arguments.endswith("<--config><recipe.yaml><--lr><0.1><--image_size><[96, 96]><--data_dir><>")


def test_options_without_a_recipe(sandbox):
    sandbox.write_table("--devices 0 --device_ips none")
    assert sandbox.run("--lr", "0.1", DEVICE_NUM="1")[0] == 0
    assert sandbox.log(0).endswith("<--config><examples/det/ssd/ssd_mobilenetv2.yaml><--lr><0.1>\n")


def test_devices_are_those_of_the_table(sandbox):
    sandbox.write_table("--devices 6,4 --device_ips none", out="mine.json")
    assert sandbox.run(DEVICE_NUM="2", RANK_TABLE_FILE="mine.json")[0] == 0
    assert sandbox.log(0).startswith("device_num 2 rank_size 2 device_id 6 rank_id 0 ")
    assert sandbox.log(1).startswith("device_num 2 rank_size 2 device_id 4 rank_id 1 ")


def test_each_of_two_hosts_starts_its_own_ranks_and_keeps_the_logs_of_the_other(sandbox):
    servers = "--server_ip 10.0.0.1 10.0.0.2 --devices 4,5 0,1"
    sandbox.write_table(f"{servers} --device_ips 1.0.0.1,1.0.0.2 1.0.0.3,1.0.0.4", out="both.json")
    settings = {"DEVICE_NUM": "2", "RANK_TABLE_FILE": str(sandbox.folder / "both.json")}
    code, _, err = sandbox.run(**settings)
    assert code == 2 and "SERVER_INDEX: " in err and "0 to 1" in err
    assert sandbox.run(SERVER_INDEX="1", **settings)[0] == 0
    assert not (sandbox.folder / "train_rank0.log").exists()
    assert sandbox.run(SERVER_INDEX="0", **settings)[0] == 0
    environments = [sandbox.log(rank).split(" table")[0] for rank in range(4)]
    assert environments == [
        f"device_num 2 rank_size 4 device_id {device} rank_id {rank}" for rank, device in enumerate([4, 5, 0, 1])
    ]
    assert not (sandbox.folder / "logs").exists()


def test_logs_of_previous_runs_are_archived(sandbox):
    sandbox.write_table("--devices 0,1 --device_ips none")
    for lr in ("1", "2", "3"):
        code, out, _ = sandbox.run("--lr", lr, DEVICE_NUM="2")
        assert code == 0 and ("logs/earlier" in out) == (lr != "1")
    for rank in range(2):
        archived = [(sandbox.folder / f"logs/earlier-{i}/train_rank{rank}.log").read_text() for i in (1, 2)]
        assert [text.splitlines()[1][-3:] for text in [*archived, sandbox.log(rank)]] == ["<1>", "<2>", "<3>"]


# --- mistakes, before any rank starts ---


def table_json(**changes):
    """Return the JSON text of a rank table with 2 devices. changes: values of top-level keys"""
    table = {"version": "1.0", "server_count": "1", "status": "completed"}
    devices = [{"device_id": str(i), "rank_id": str(i)} for i in range(2)]
    return json.dumps({**table, "server_list": [{"server_id": "node_0", "device": devices}], **changes})


MISTAKES = {  # name: (content of the rank table or None, environment, parts of the error)
    "no table": (None, {}, ["hccl_2p_01_127.0.0.1.json: ", "no such file", "tools/rank_table.py"]),
    "not JSON": ("{", {}, ["table.json: ", "JSON"]),
    "no server_list": ("{}", {}, ["table.json: version: "]),
    "server_list empty": (table_json(server_list=[]), {}, ["server_list: got []"]),
    "fewer ranks than devices": (table_json(), {"DEVICE_NUM": "1"}, ["got 2, expected 1", "DEVICE_NUM=2"]),
    "more ranks than devices": (table_json(), {"DEVICE_NUM": "8"}, ["got 2, expected 8"]),
    "a rank missing": (table_json().replace('"rank_id": "1"', '"rank_id": "2"'), {}, ["rank_id: rank 1 "]),
    "not a number of devices": (table_json(), {"DEVICE_NUM": "all"}, ["DEVICE_NUM: 'all' "]),
    "not a number of seconds": (table_json(), {"GRACE_SECONDS": "-1"}, ["GRACE_SECONDS: '-1' "]),
    "no such host": (table_json(), {"SERVER_INDEX": "1"}, ["SERVER_INDEX: got 1"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_reported_in_one_line_and_no_rank_starts(mistake, sandbox):
    content, settings, parts = MISTAKES[mistake]
    settings = {"DEVICE_NUM": "2", **settings}
    if content is not None:
        (sandbox.folder / "table.json").write_text(content)
        settings["RANK_TABLE_FILE"] = "table.json"
    code, out, err = sandbox.run(**settings)
    assert (code, out) == (2, "") and not list(sandbox.folder.glob("*.log"))
    assert err.startswith("error: ") and len(err.splitlines()) == 1
    for part in parts:
        assert part in err


# --- how ranks end ---


def test_the_first_failure_stops_all_ranks_and_its_code_and_log_are_shown(sandbox):
    sandbox.write_table("--devices 0,1,2 --device_ips none")
    process = sandbox.start(DEVICE_NUM="3", STAY="1", FAIL_RANK="1")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 7
    lines = err.splitlines()
    assert lines[0].startswith("error: rank 1 ") and " 7;" in lines[0] and "train_rank1.log" in lines[0]
    assert lines[1:21] == [f"line {i}" for i in range(11, 31)]
    assert len(lines) == 22 and "SIGTERM" in lines[21] and " 0 2;" in lines[21] and " 30 s" in lines[21]
    assert len(sandbox.processes([0, 2])) == 4 and all_exited(sandbox.processes([0, 2]))


def test_a_rank_killed_by_a_signal_has_failed(sandbox):
    sandbox.write_table("--devices 0,1 --device_ips none")
    process = sandbox.start(DEVICE_NUM="2", STAY="1")
    sandbox.wait_for_log([0, 1], "child")
    os.kill(sandbox.processes([1])[0], signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + 9
    assert err.startswith("error: rank 1 ") and " 137;" in err and "train_rank1.log:\ndevice_num 2 " in err
    assert "Killed" not in err  # bash's own message
    assert sandbox.log(0).endswith("saved after TERM\n")
    assert all_exited(sandbox.processes([0, 1]))


@pytest.mark.parametrize("name, code", [("INT", 130), ("TERM", 143), ("HUP", 129)])
def test_signals_are_passed_to_every_rank(name, code, sandbox):
    sandbox.write_table("--devices 0,1,2,3 --device_ips none")
    process = sandbox.start(DEVICE_NUM="4", STAY="1")
    sandbox.wait_for_log(range(4), "child")
    assert all(map(is_running, sandbox.processes(range(4)))) and len(sandbox.processes(range(4))) == 8
    os.killpg(process.pid, signal.Signals[f"SIG{name}"])
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert f"SIG{name}" in err and " 0 1 2 3;" in err and " 30 s" in err and len(err.splitlines()) == 1
    for rank in range(4):
        assert sandbox.log(rank).count("saved after") == 1 and f"saved after {name}\n" in sandbox.log(rank)
    assert all_exited(sandbox.processes(range(4)))


def test_a_rank_that_ignores_signals_is_killed_after_the_grace_period(sandbox):
    sandbox.write_table("--devices 0,1 --device_ips none")
    process = sandbox.start(DEVICE_NUM="2", STAY="1", DEAF_RANK="0", GRACE_SECONDS="1")
    sandbox.wait_for_log([0, 1], "child")
    process.terminate()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143
    assert [line.partition(" did")[0] for line in err.splitlines()[1:]] == ["rank 0"]
    assert sandbox.log(0).endswith("ignored TERM\n") and sandbox.log(1).endswith("saved after TERM\n")
    assert all_exited(sandbox.processes([0, 1]))


def test_a_second_ctrl_c_kills_at_once(sandbox):
    sandbox.write_table("--devices 0,1 --device_ips none")
    process = sandbox.start(DEVICE_NUM="2", STAY="1", DEAF_RANK="1", GRACE_SECONDS="600")
    sandbox.wait_for_log([0, 1], "child")
    os.killpg(process.pid, signal.SIGINT)
    sandbox.wait_for_log([0], "saved after INT")
    sandbox.wait_for_log([1], "ignored INT")
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and err.splitlines()[-1].startswith("rank 1 ")
    assert all_exited(sandbox.processes([0, 1]))


# --- two jobs at a time ---


def test_a_second_job_with_the_same_logs_is_refused_while_ranks_run(sandbox):
    sandbox.write_table("--devices 0,1 --device_ips none")
    process = sandbox.start(DEVICE_NUM="2", STAY="1")
    sandbox.wait_for_log([0, 1], "child")
    for is_killed in (False, True):
        if is_killed:  # its ranks go on
            process.kill()
            process.communicate()
        code, out, err = sandbox.run(DEVICE_NUM="2")
        assert (code, out) == (2, "") and err.startswith("error: train_rank0.log: ") and err.count("\n") == 1
        assert f"process {process.pid} " in err and "child" in sandbox.log(0)
    for rank_or_child in sandbox.processes([0, 1]):
        os.kill(rank_or_child, signal.SIGKILL)
    assert all_exited(sandbox.processes([0, 1]))
    assert sandbox.run(DEVICE_NUM="2")[0] == 0
