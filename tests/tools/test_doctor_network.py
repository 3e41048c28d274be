"""The doctor's checks of launch variables, rank tables and settings of HCCL."""

import pytest
from doctor_machines import with_environment, write_file, write_rank_table

from doctor_checks import network
from doctor_checks.finding import FAULT, OK, WARNING


def test_variables_of_launchers(machine):
    assert network.check_launch_variables(machine) == []
    assert network.check_launch_variables(with_environment(machine, RANK_SIZE="1")) == []
    (finding,) = network.check_launch_variables(with_environment(machine, MS_WORKER_NUM="8"))
    assert finding.status == FAULT and "8" in finding.found and "unset MS_WORKER_NUM" in finding.advice


def check_table(machine, folder):
    (finding,) = network.check_rank_tables(with_environment(machine, RANK_TABLE_FILE="/table.json"), folder)
    return finding


def test_rank_table_of_the_environment(machine, tmp_path):
    assert check_table(machine, tmp_path).status == FAULT  # does not exist
    write_rank_table(machine.root / "table.json", "192.168.100.101", "192.168.101.101")
    finding = check_table(machine, tmp_path)
    assert finding.status == WARNING and "/etc/hccn.conf" in finding.found and "unset" in finding.advice
    write_rank_table(machine.root / "table.json", "192.168.100.101", "192.168.101.101", "192.168.102.101")
    assert check_table(machine, tmp_path).status == FAULT and "device 2" in check_table(machine, tmp_path).found
    write_rank_table(machine.root / "table.json", None, None)  # HCCL needs no addresses on one server
    assert check_table(machine, tmp_path).status == WARNING
    (machine.root / "table.json").write_text("{")
    assert check_table(machine, tmp_path).status == FAULT and "JSON" in check_table(machine, tmp_path).found


def test_the_server_that_agrees_best_is_compared(machine, tmp_path):
    ours = [("0", "192.168.100.101"), ("1", "192.168.101.99")]
    others = [("0", "192.168.100.102"), ("1", "192.168.101.102")]
    servers = [
        {
            "server_id": f"10.0.0.{number}",
            "device": [
                {"device_id": device, "device_ip": address, "rank_id": str(2 * number + int(device))}
                for device, address in devices
            ],
        }
        for number, devices in enumerate((others, ours))
    ]
    table = {"version": "1.0", "server_count": "2", "server_list": servers, "status": "completed"}
    (machine.root / "table.json").write_text(str(table).replace("'", '"'))
    found = check_table(machine, tmp_path).found
    assert "192.168.101.99" in found and "192.168.100.102" not in found


def test_table_without_hccn_conf_is_not_compared(machine, tmp_path):
    write_rank_table(tmp_path / "hccl_1p_0_127.0.0.1.json", "10.0.0.1")
    assert network.check_rank_tables(machine, tmp_path)[0].status == WARNING
    machine.path("/etc/hccn.conf").unlink()
    (finding,) = network.check_rank_tables(machine, tmp_path)
    assert finding.status == OK and "/etc/hccn.conf" in finding.found


@pytest.mark.parametrize(
    "name, value, status",
    [
        ("HCCL_CONNECT_TIMEOUT", "600", OK),
        ("HCCL_CONNECT_TIMEOUT", "60", FAULT),
        ("HCCL_CONNECT_TIMEOUT", "10m", FAULT),
        ("HCCL_EXEC_TIMEOUT", "0", OK),
        ("HCCL_IF_BASE_PORT", "80", FAULT),
        ("HCCL_BUFFSIZE", "0", FAULT),
        ("HCCL_WHITELIST_DISABLE", "1", OK),
        ("HCCL_SOCKET_IFNAME", "eth", OK),
        ("HCCL_SOCKET_IFNAME", "ib0,eth0", OK),
        ("HCCL_SOCKET_IFNAME", "=eth", FAULT),
        ("HCCL_SOCKET_IFNAME", "=eth0", OK),
        ("HCCL_SOCKET_IFNAME", "^eth", OK),
        ("HCCL_SOCKET_IFNAME", "enp", FAULT),
    ],
)
def test_hccl_settings(machine, name, value, status):
    (finding,) = network.check_hccl_settings(with_environment(machine, **{name: value}))
    assert finding.status == status and value in finding.found
    assert finding.what == (name if status == FAULT else "HCCL settings")


def test_whitelist_needs_its_file(machine):
    (finding,) = network.check_hccl_settings(with_environment(machine, HCCL_WHITELIST_DISABLE="0"))
    assert finding.status == FAULT and finding.what == "HCCL_WHITELIST_FILE"


def test_python_on_path(machine, tmp_path):
    assert network.check_python_on_path(machine).status == OK
    other = write_file(tmp_path, "/bin/python", "#!/bin/sh\n")
    other.chmod(0o755)
    finding = network.check_python_on_path(with_environment(machine, PATH=str(other.parent)))
    assert finding.status == WARNING and finding.found == str(other) and "activate" in finding.advice
    assert network.check_python_on_path(with_environment(machine, PATH=None)).status == WARNING
