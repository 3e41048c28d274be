"""The rank table launch with a stand-in for Python: what each rank is given, and how all of them end."""

import json
import os
import signal

import pytest

from launching import Launch, all_gone, is_alive, processes_of


@pytest.fixture
def launch(tmp_path):
    launch = Launch(tmp_path)
    yield launch
    for process in launch.started:  # what a failed test left
        if process.poll() is None:
            process.kill()
            process.communicate()
    logs = "".join(file.read_text() for file in launch.folder.rglob("*.log"))
    for process in processes_of(logs):
        if is_alive(process):
            os.kill(process, signal.SIGKILL)


# --- what ranks are given ---


def test_eight_ranks_have_the_published_environment_and_recipe(launch):
    launch.write_table("--device_ips", "none")
    code, said, complained = launch.run()
    assert (code, complained) == (0, "") and len(said.splitlines()) == 8
    for rank in range(8):
        assert launch.log(rank) == (
            f"device_num 8 rank_size 8 device_id {rank} rank_id {rank}"
            f" table {launch.folder}/hccl_8p_01234567_127.0.0.1.json\n"
            "<-u><examples/det/ssd/train.py><--config><examples/det/ssd/ssd_mobilenetv2.yaml>\n"
        )


def test_four_ranks_and_what_follows_the_recipe(launch, tmp_path_factory):
    launch.write_table("--devices", "0,1,2,3", "--device_ips", "none")
    words = ["recipe.yaml", "--lr", "0.1", "--image_size", "[96, 96]", "--data_dir", ""]
    code, said, complained = launch.run(*words, DEVICE_NUM="4", cwd=tmp_path_factory.mktemp("elsewhere"))
    assert (code, complained) == (0, "")
    assert sorted(path.name for path in launch.folder.glob("*.log")) == [f"train_rank{rank}.log" for rank in range(4)]
    for rank in range(4):
        given, arguments = launch.log(rank).splitlines()
        assert given == (
            f"device_num 4 rank_size 4 device_id {rank} rank_id {rank}"
            f" table {launch.folder}/hccl_4p_0123_127.0.0.1.json"
        )
        assert arguments.endswith("<--config><recipe.yaml><--lr><0.1><--image_size><[96, 96]><--data_dir><>")


def test_options_alone_go_to_the_published_recipe(launch):
    launch.write_table("--devices", "0", "--device_ips", "none")
    assert launch.run("--lr", "0.1", DEVICE_NUM="1")[0] == 0
    assert launch.log(0).endswith("<--config><examples/det/ssd/ssd_mobilenetv2.yaml><--lr><0.1>\n")


def test_devices_are_those_of_the_table(launch):
    launch.write_table("--devices", "6,4", "--device_ips", "none", out="mine.json")
    assert launch.run(DEVICE_NUM="2", RANK_TABLE_FILE="mine.json")[0] == 0
    assert launch.log(0).startswith("device_num 2 rank_size 2 device_id 6 rank_id 0 ")
    assert launch.log(1).startswith("device_num 2 rank_size 2 device_id 4 rank_id 1 ")


def test_each_of_two_hosts_starts_its_ranks_and_leaves_the_other_logs(launch):
    words = "--server_ip 10.0.0.1 10.0.0.2 --devices 4,5 0,1 --device_ips 1.0.0.1,1.0.0.2 1.0.0.3,1.0.0.4"
    launch.write_table(*words.split(), out="both.json")
    settings = {"DEVICE_NUM": "2", "RANK_TABLE_FILE": str(launch.folder / "both.json")}
    code, _, complained = launch.run(**settings)
    assert code == 2 and "SERVER_INDEX: got nothing, expected 0 to 1" in complained
    assert launch.run(SERVER_INDEX="1", **settings)[0] == 0
    assert not (launch.folder / "train_rank0.log").exists()
    assert launch.run(SERVER_INDEX="0", **settings)[0] == 0
    given = [launch.log(rank).split(" table")[0] for rank in range(4)]
    assert given == [
        f"device_num 2 rank_size 4 device_id {device} rank_id {rank}" for rank, device in enumerate([4, 5, 0, 1])
    ]
    assert not (launch.folder / "logs").exists()


def test_logs_of_earlier_runs_are_kept(launch):
    launch.write_table("--devices", "0,1", "--device_ips", "none")
    for lr in ("1", "2", "3"):
        code, said, _ = launch.run("--lr", lr, DEVICE_NUM="2")
        assert code == 0 and ("logs/earlier" in said) == (lr != "1")
    for rank in range(2):
        earlier = [(launch.folder / f"logs/earlier-{i}/train_rank{rank}.log").read_text() for i in (1, 2)]
        assert [text.splitlines()[1][-3:] for text in [*earlier, launch.log(rank)]] == ["<1>", "<2>", "<3>"]


# --- mistakes, before anything starts ---


def table_with(**changes):
    table = {"version": "1.0", "server_count": "1", "status": "completed"}
    devices = [{"device_id": str(i), "rank_id": str(i)} for i in range(2)]
    return json.dumps({**table, "server_list": [{"server_id": "node_0", "device": devices}], **changes})


REFUSED = {
    "no table": (None, {}, ["hccl_2p_01_127.0.0.1.json: got No such file", "tools/rank_table.py"]),
    "not JSON": ("{", {}, ["no JSON"]),
    "no server_list": ("{}", {}, ['version: got nothing, expected "1.0"']),
    "server_list empty": (table_with(server_list=[]), {}, ["server_list: got []"]),
    "fewer ranks than devices": (table_with(), {"DEVICE_NUM": "1"}, ["got 2 devices, expected 1", "DEVICE_NUM=2"]),
    "more ranks than devices": (table_with(), {"DEVICE_NUM": "8"}, ["got 2 devices, expected 8"]),
    "a rank missing": (table_with().replace('"rank_id": "1"', '"rank_id": "2"'), {}, ["rank_id: got no 1"]),
    "no number of devices": (table_with(), {"DEVICE_NUM": "all"}, ["DEVICE_NUM: got all"]),
    "no number of seconds": (table_with(), {"GRACE_SECONDS": "-1"}, ["GRACE_SECONDS: got -1"]),
    "no such host": (table_with(), {"SERVER_INDEX": "1"}, ["SERVER_INDEX: got 1"]),
}


@pytest.mark.parametrize("mistake", REFUSED)
def test_a_mistake_is_told_in_one_line_and_nothing_starts(mistake, launch):
    content, settings, parts = REFUSED[mistake]
    settings = {"DEVICE_NUM": "2", **settings}
    if content is not None:
        (launch.folder / "table.json").write_text(content)
        settings["RANK_TABLE_FILE"] = "table.json"
    code, said, complained = launch.run(**settings)
    assert (code, said) == (2, "") and not list(launch.folder.glob("*.log"))
    assert complained.startswith("error: ") and len(complained.splitlines()) == 1
    for part in (": got ", ", expected ", "; ", *parts):
        assert part in complained


# --- how ranks end ---


def test_the_first_failure_ends_all_and_gives_its_code_and_the_end_of_its_log(launch):
    launch.write_table("--devices", "0,1,2", "--device_ips", "none")
    process = launch.start(DEVICE_NUM="3", STAY="1", FAIL_RANK="1")
    said, complained = process.communicate(timeout=60)
    assert process.returncode == 7
    lines = complained.splitlines()
    assert lines[0] == "error: rank 1 ended with code 7; the end of train_rank1.log:"
    assert lines[1:21] == [f"line {i}" for i in range(11, 31)]
    assert lines[21:] == ["SIGTERM to ranks 0 2; in 30 s those left are killed"]
    assert len(launch.processes([0, 2])) == 4 and all_gone(launch.processes([0, 2]))


def test_a_rank_that_dies_of_a_signal_has_failed(launch):
    launch.write_table("--devices", "0,1", "--device_ips", "none")
    process = launch.start(DEVICE_NUM="2", STAY="1")
    launch.wait_for([0, 1], "child")
    os.kill(launch.processes([1])[0], signal.SIGKILL)
    _, complained = process.communicate(timeout=60)
    assert process.returncode == 128 + 9
    assert complained.startswith("error: rank 1 ended with code 137; the end of train_rank1.log:\ndevice_num 2 ")
    assert "Killed" not in complained  # bash's own words
    assert launch.log(0).endswith("saved after TERM\n")
    assert all_gone(launch.processes([0, 1]))


@pytest.mark.parametrize("name, code", [("INT", 130), ("TERM", 143), ("HUP", 129)])
def test_signals_reach_every_rank(name, code, launch):
    launch.write_table("--devices", "0,1,2,3", "--device_ips", "none")
    process = launch.start(DEVICE_NUM="4", STAY="1")
    launch.wait_for(range(4), "child")
    assert all(map(is_alive, launch.processes(range(4)))) and len(launch.processes(range(4))) == 8
    os.killpg(process.pid, signal.Signals[f"SIG{name}"])
    _, complained = process.communicate(timeout=60)
    assert process.returncode == code
    assert complained == f"SIG{name} to ranks 0 1 2 3; in 30 s those left are killed\n"
    for rank in range(4):
        assert launch.log(rank).count("saved after") == 1 and f"saved after {name}\n" in launch.log(rank)
    assert all_gone(launch.processes(range(4)))


def test_a_rank_that_does_not_leave_is_killed_after_the_grace(launch):
    launch.write_table("--devices", "0,1", "--device_ips", "none")
    process = launch.start(DEVICE_NUM="2", STAY="1", DEAF="0", GRACE_SECONDS="1")
    launch.wait_for([0, 1], "child")
    process.terminate()
    _, complained = process.communicate(timeout=60)
    assert process.returncode == 143
    assert complained.splitlines()[1:] == ["rank 0 did not leave and was killed"]
    assert launch.log(0).endswith("heard TERM\n") and launch.log(1).endswith("saved after TERM\n")
    assert all_gone(launch.processes([0, 1]))


def test_a_second_ctrl_c_kills_at_once(launch):
    launch.write_table("--devices", "0,1", "--device_ips", "none")
    process = launch.start(DEVICE_NUM="2", STAY="1", DEAF="1", GRACE_SECONDS="600")
    launch.wait_for([0, 1], "child")
    os.killpg(process.pid, signal.SIGINT)
    launch.wait_for([0], "saved after INT")
    launch.wait_for([1], "heard INT")
    os.killpg(process.pid, signal.SIGINT)
    _, complained = process.communicate(timeout=60)
    assert process.returncode == 130 and complained.endswith("rank 1 did not leave and was killed\n")
    assert all_gone(launch.processes([0, 1]))
