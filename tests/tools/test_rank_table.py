"""Rank tables as the command writes them, in HCCL's format to the letter, and what its --check prints."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parents[2] / "tools" / "rank_table.py"
# As MindSpore's tutorial "rank table Startup" has it, with addresses for its stars.
TWO_DEVICES = {
    "version": "1.0",
    "server_count": "1",
    "server_list": [
        {
            "server_id": "127.0.0.1",
            "device": [
                {"device_id": "0", "device_ip": "192.168.100.101", "rank_id": "0"},
                {"device_id": "1", "device_ip": "192.168.101.101", "rank_id": "1"},
            ],
            "host_nic_ip": "reserve",
        }
    ],
    "status": "completed",
}
HCCN_CONF = """address_0=192.168.100.101
netmask_0=255.255.255.0
netdetect_0=192.168.100.1
address_1=192.168.101.101
netmask_1=255.255.255.0
address_10=192.168.102.101
"""


@pytest.fixture
def run(tmp_path):
    """run("--devices", "0") starts the tool in tmp_path."""

    def run_tool(*words):
        command = [sys.executable, str(TOOL), *words]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)

    return run_tool


def expect_refusal(result, *parts):
    assert result.returncode == 2 and result.stdout == "", result.stdout + result.stderr
    assert len(result.stderr.splitlines()) == 1 and result.stderr.startswith("error: "), result.stderr
    for part in (": got ", ", expected ", "; ", *parts):
        assert part in result.stderr


def test_addresses_come_from_hccn_conf_and_the_file_has_the_published_form(run, tmp_path):
    (tmp_path / "hccn.conf").write_text(HCCN_CONF)
    result = run("--devices", "0,1", "--hccn_conf", "hccn.conf")
    assert result.returncode == 0 and result.stderr == ""
    assert result.stdout == "hccl_2p_01_127.0.0.1.json: ranks 0 to 1, on the devices of 127.0.0.1 (0 1)\n"
    assert json.loads((tmp_path / "hccl_2p_01_127.0.0.1.json").read_text()) == TWO_DEVICES


def test_eight_devices_have_the_name_that_the_launch_looks_for(run, tmp_path):
    addresses = [f"192.168.{100 + i % 4}.{101 + i // 4}" for i in range(8)]
    assert run("--device_ips", ",".join(addresses)).returncode == 0
    written = json.loads((tmp_path / "hccl_8p_01234567_127.0.0.1.json").read_text())
    devices = written["server_list"][0]["device"]
    assert [device["device_ip"] for device in devices] == addresses
    assert [device["rank_id"] for device in devices] == [device["device_id"] for device in devices] == list("01234567")


def test_ranks_follow_the_order_of_devices(run, tmp_path):
    assert run("--devices", "6,4", "--device_ips", "none", "--server_ip", "10.0.0.7").returncode == 0
    written = json.loads((tmp_path / "hccl_2p_64_10.0.0.7.json").read_text())
    assert written["server_list"][0]["device"] == [
        {"device_id": "6", "rank_id": "0"},
        {"device_id": "4", "rank_id": "1"},
    ]


def test_ranks_run_on_over_servers_in_dictionary_order(run, tmp_path):
    (tmp_path / "nine.conf").write_text("address_0=192.168.0.9\naddress_1=192.168.1.9\n")
    (tmp_path / "ten.conf").write_text("address_0=192.168.0.10\naddress_1=192.168.1.10\n")
    words = "--server_ip 10.0.0.9 10.0.0.10 --devices 0,1 --hccn_conf nine.conf ten.conf --out cluster.json"
    assert run(*words.split()).returncode == 0
    ten, nine = json.loads((tmp_path / "cluster.json").read_text())["server_list"]
    assert (ten["server_id"], nine["server_id"]) == ("10.0.0.10", "10.0.0.9")
    assert [device["device_ip"] for device in ten["device"]] == ["192.168.0.10", "192.168.1.10"]
    assert [device["rank_id"] for device in ten["device"] + nine["device"]] == ["0", "1", "2", "3"]
    # The same table from the servers in the other order, and with addresses instead of files.
    words = "--server_ip 10.0.0.10 10.0.0.9 --devices 0,1 0,1 --device_ips 192.168.0.10,192.168.1.10"
    assert run(*words.split(), "192.168.0.9,192.168.1.9").returncode == 0
    assert (tmp_path / "hccl_2s_4p.json").read_text() == (tmp_path / "cluster.json").read_text()


def test_an_existing_file_stays_unless_overwrite_is_given(run, tmp_path):
    target = tmp_path / "tables"
    target.mkdir()
    words = ["--devices", "3", "--device_ips", "none", "--out", str(target)]
    assert run(*words).returncode == 0
    file = target / "hccl_1p_3_127.0.0.1.json"
    file.write_text("mine")
    expect_refusal(run(*words), file.name, "--overwrite")
    assert file.read_text() == "mine"
    assert run(*words, "--overwrite").returncode == 0
    assert json.loads(file.read_text())["server_list"][0]["device"] == [{"device_id": "3", "rank_id": "0"}]


NOT_WRITTEN = {
    "no hccn.conf": ("--hccn_conf absent.conf", ["absent.conf", "No such file", "--device_ips"]),
    "a device without address": ("--hccn_conf hccn.conf --devices 0,2", ["hccn.conf", "no address_2"]),
    "too few addresses": ("--devices 0,1,2 --device_ips 1.1.1.1,1.1.1.2", ["--device_ips", "got 2", "expected 3"]),
    "not an address": ("--devices 0,1 --device_ips 1.1.1.1,1.1.1", ["device[1].device_ip", '"1.1.1"']),
    "a device twice": ("--devices 1,1 --device_ips none", ["device[1].device_id", "1 again"]),
    "a device too high": ("--devices 16 --device_ips none", ['"16"', '"15"']),
    "not a device": ("--devices 0-3 --device_ips none", ["--devices", "'0-3'"]),
    "not a server's address": ("--devices 0 --device_ips none --server_ip node", ["--server_ip", "'node'"]),
    "one file for two servers": ("--server_ip 1.0.0.1 1.0.0.2 --hccn_conf hccn.conf", ["--hccn_conf", "expected 2"]),
    "no addresses of two servers": ("--server_ip 1.0.0.1 1.0.0.2 --device_ips none", ["--device_ips", "expected 2"]),
    "one address for two servers": ("--server_ip 1.1.1.1 1.1.1.2 --devices 0 --device_ips 1.0.0.1 1.0.0.1", ["again"]),
    "a server twice": ("--server_ip 1.1.1.1 1.1.1.1 --devices 0 --device_ips 1.0.0.1 1.0.0.2", ["2 times"]),
    "no such folder": ("--devices 0 --device_ips none --out absent/table.json", ["absent/table.json", "--out"]),
}


@pytest.mark.parametrize("mistake", NOT_WRITTEN)
def test_mistakes_write_nothing(mistake, run, tmp_path):
    (tmp_path / "hccn.conf").write_text(HCCN_CONF)
    words, parts = NOT_WRITTEN[mistake]
    expect_refusal(run(*words.split()), *parts)
    assert [path.name for path in tmp_path.iterdir()] == ["hccn.conf"]


def test_check_tells_what_a_table_has(run):
    words = "--server_ip 10.0.0.1 10.0.0.2 --devices 0,1 --device_ips 1.0.0.1,1.0.0.2 1.0.0.3,1.0.0.4"
    assert run(*words.split(), "--out", "table.json").returncode == 0
    said = "table.json: ranks 0 to 3, on the devices of 10.0.0.1 (0 1), 10.0.0.2 (0 1)\n"
    assert run("--check", "table.json", "--ranks", "4").stdout == said
    assert run("--check", "table.json", "--ranks", "2", "--list", "1").stdout == "2 0 4\n3 1 4\n"
    expect_refusal(run("--check", "table.json", "--ranks", "8"), "table.json", "4 devices", "expected 8")
    expect_refusal(run("--check", "table.json", "--ranks", "4", "--list", "1"), "2 devices", "DEVICE_NUM=2")
    expect_refusal(run("--check", "table.json", "--list"), "SERVER_INDEX: got nothing", "0 to 1")
    expect_refusal(run("--check", "table.json", "--list", "2"), "SERVER_INDEX: got 2", "0 to 1")


def test_check_needs_a_readable_file(run, tmp_path):
    expect_refusal(run("--check", "absent.json"), "absent.json", "No such file")
    (tmp_path / "half.json").write_text(json.dumps(TWO_DEVICES)[:100])
    expect_refusal(run("--check", "half.json"), "half.json", "no JSON")
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00")
    expect_refusal(run("--check", "bytes.json"), "bytes.json", "no JSON")
    (tmp_path / "list.json").write_text("[]")
    expect_refusal(run("--check", "list.json"), "list.json: got []")


def test_options_of_writing_and_of_checking_do_not_mix(run, tmp_path):
    (tmp_path / "table.json").write_text(json.dumps(TWO_DEVICES))
    for words in (["--check", "table.json", "--devices", "0"], ["--ranks", "2"], ["--list"]):
        result = run(*words)
        assert result.returncode == 2 and "--check" in result.stderr and not result.stdout
    assert len(list(tmp_path.iterdir())) == 1
