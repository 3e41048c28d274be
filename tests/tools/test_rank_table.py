"""Rank tables written by the command, exactly in HCCL's format, and the output of --check."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parents[2] / "tools" / "rank_table.py"
# The example of MindSpore's tutorial "rank table Startup", with addresses instead of its placeholders.
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
    """run("--devices 0,1") runs the tool in tmp_path."""

    def run_tool(arguments):
        command = [sys.executable, str(TOOL), *arguments.split()]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)

    return run_tool


def assert_refused(result, parts):
    """Assert that a run failed with one line on stderr that contains all parts."""
    assert result.returncode == 2 and result.stdout == "", result.stdout + result.stderr
    assert len(result.stderr.splitlines()) == 1 and result.stderr.startswith("error: "), result.stderr
    for part in parts:
        assert part in result.stderr


def test_addresses_are_read_from_hccn_conf(run, tmp_path):
    (tmp_path / "hccn.conf").write_text(HCCN_CONF)
    result = run("--devices 0,1 --hccn_conf hccn.conf")
    assert result.returncode == 0 and result.stderr == ""
    assert result.stdout.startswith("hccl_2p_01_127.0.0.1.json: ranks 0 to 1")
    assert json.loads((tmp_path / "hccl_2p_01_127.0.0.1.json").read_text()) == TWO_DEVICES


def test_eight_devices_by_default(run, tmp_path):
    addresses = [f"192.168.{100 + i % 4}.{101 + i // 4}" for i in range(8)]
    assert run(f"--device_ips {','.join(addresses)}").returncode == 0
    written = json.loads((tmp_path / "hccl_8p_01234567_127.0.0.1.json").read_text())
    devices = written["server_list"][0]["device"]
    assert [device["device_ip"] for device in devices] == addresses
    assert [device["rank_id"] for device in devices] == [device["device_id"] for device in devices] == list("01234567")


def test_ranks_follow_the_order_of_devices(run, tmp_path):
    assert run("--devices 6,4 --device_ips none --server_ip 10.0.0.7").returncode == 0
    written = json.loads((tmp_path / "hccl_2p_64_10.0.0.7.json").read_text())
    assert written["server_list"][0]["device"] == [
        {"device_id": "6", "rank_id": "0"},
        {"device_id": "4", "rank_id": "1"},
    ]


def test_ranks_follow_the_dictionary_order_of_servers(run, tmp_path):
    (tmp_path / "nine.conf").write_text("address_0=192.168.0.9\naddress_1=192.168.1.9\n")
    (tmp_path / "ten.conf").write_text("address_0=192.168.0.10\naddress_1=192.168.1.10\n")
    arguments = "--server_ip 10.0.0.9 10.0.0.10 --devices 0,1 --hccn_conf nine.conf ten.conf --out cluster.json"
    assert run(arguments).returncode == 0
    ten, nine = json.loads((tmp_path / "cluster.json").read_text())["server_list"]
    assert (ten["server_id"], nine["server_id"]) == ("10.0.0.10", "10.0.0.9")
    assert [device["device_ip"] for device in ten["device"]] == ["192.168.0.10", "192.168.1.10"]
    assert [device["rank_id"] for device in ten["device"] + nine["device"]] == ["0", "1", "2", "3"]
    # The same table from the servers in the other order, and with addresses instead of files.
    device_ips = "192.168.0.10,192.168.1.10 192.168.0.9,192.168.1.9"
    assert run(f"--server_ip 10.0.0.10 10.0.0.9 --devices 0,1 0,1 --device_ips {device_ips}").returncode == 0
    assert (tmp_path / "hccl_2s_4p.json").read_text() == (tmp_path / "cluster.json").read_text()


def test_only_overwrite_replaces_an_existing_file(run, tmp_path):
    (tmp_path / "tables").mkdir()
    arguments = "--devices 3 --device_ips none --out tables"
    assert run(arguments).returncode == 0
    file = tmp_path / "tables" / "hccl_1p_3_127.0.0.1.json"
    file.write_text("mine")
    assert_refused(run(arguments), [file.name, "--overwrite"])
    assert file.read_text() == "mine"
    assert run(f"{arguments} --overwrite").returncode == 0
    assert json.loads(file.read_text())["server_list"][0]["device"] == [{"device_id": "3", "rank_id": "0"}]


MISTAKES = {  # name: (arguments, parts of the error)
    "no hccn.conf": ("--hccn_conf absent.conf", ["absent.conf", "no such file", "--device_ips"]),
    "a device without address": ("--hccn_conf hccn.conf --devices 0,2", ["hccn.conf: ", "address_2"]),
    "too few addresses": ("--devices 0,1,2 --device_ips 1.1.1.1,1.1.1.2", ["--device_ips: ", " 2, ", " 3 (0,1,2)"]),
    "not an address": ("--devices 0,1 --device_ips 1.1.1.1,1.1.1", ["device[1].device_ip", '"1.1.1"']),
    "a device twice": ("--devices 1,1 --device_ips none", ["device[1].device_id: "]),
    "a device too high": ("--devices 16 --device_ips none", ['"16"', '"15"']),
    "not a device": ("--devices 0-3 --device_ips none", ["--devices", "'0-3'"]),
    "not a server's address": ("--devices 0 --device_ips none --server_ip node", ["--server_ip", "'node'"]),
    "one file for two servers": ("--server_ip 1.0.0.1 1.0.0.2 --hccn_conf hccn.conf", ["--hccn_conf", " 1, ", " 2. "]),
    "no addresses of two servers": ("--server_ip 1.0.0.1 1.0.0.2 --device_ips none", ["--device_ips", " 1, ", " 2. "]),
    "one address for two servers": (
        "--server_ip 1.1.1.1 1.1.1.2 --devices 0 --device_ips 1.0.0.1 1.0.0.1",
        ["[1].device[0].device_ip: "],
    ),
    "a server twice": (
        "--server_ip 1.1.1.1 1.1.1.1 --devices 0 --device_ips 1.0.0.1 1.0.0.2",
        ["server_id: ", '"1.1.1.1"', " 2 "],
    ),
    "no such folder": ("--devices 0 --device_ips none --out absent/table.json", ["absent/table.json", "--out"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_nothing_is_written_after_a_mistake(mistake, run, tmp_path):
    (tmp_path / "hccn.conf").write_text(HCCN_CONF)
    arguments, parts = MISTAKES[mistake]
    assert_refused(run(arguments), parts)
    assert [path.name for path in tmp_path.iterdir()] == ["hccn.conf"]


def test_check_prints_ranks_and_devices(run):
    device_ips = "1.0.0.1,1.0.0.2 1.0.0.3,1.0.0.4"
    arguments = f"--server_ip 10.0.0.1 10.0.0.2 --devices 0,1 --device_ips {device_ips} --out table.json"
    assert run(arguments).returncode == 0
    summary = run("--check table.json --ranks 4").stdout
    for part in ("table.json: ranks 0 to 3", "10.0.0.1 (0 1)", "10.0.0.2 (0 1)"):
        assert part in summary
    assert run("--check table.json --ranks 2 --list 1").stdout == "2 0 4\n3 1 4\n"
    assert_refused(run("--check table.json --ranks 8"), ["table.json: ", "got 4, expected 8"])
    assert_refused(run("--check table.json --ranks 4 --list 1"), ["got 2, expected 4", "DEVICE_NUM=2"])
    assert_refused(run("--check table.json --list"), ["SERVER_INDEX: ", "0 to 1"])
    assert_refused(run("--check table.json --list 2"), ["SERVER_INDEX: got 2, expected 0 to 1"])


def test_check_needs_a_readable_file(run, tmp_path):
    assert_refused(run("--check absent.json"), ["absent.json: ", "no such file"])
    (tmp_path / "half.json").write_text(json.dumps(TWO_DEVICES)[:100])
    assert_refused(run("--check half.json"), ["half.json: ", "JSON"])
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00")
    assert_refused(run("--check bytes.json"), ["bytes.json: ", "JSON"])
    (tmp_path / "list.json").write_text("[]")
    assert_refused(run("--check list.json"), ["list.json: got []"])


def test_options_for_writing_and_for_checking_cannot_be_combined(run, tmp_path):
    (tmp_path / "table.json").write_text(json.dumps(TWO_DEVICES))
    for arguments in ("--check table.json --devices 0", "--ranks 2", "--list"):
        result = run(arguments)
        assert result.returncode == 2 and "--check" in result.stderr and not result.stdout
    assert len(list(tmp_path.iterdir())) == 1
