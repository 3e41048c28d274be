"""The check of rank tables: what HCCL allows is allowed, and each way to break a table is told."""

import pytest

from rank_table_check import Server, check_table
from ssd.errors import UserError


def two_servers():
    """4 ranks: devices 0 and 1 of each of two servers."""
    entries = [
        {
            "server_id": f"10.0.0.{server + 1}",
            "device": [
                {"device_id": str(i), "device_ip": f"192.168.{i}.{server}", "rank_id": str(2 * server + i)}
                for i in range(2)
            ],
            "host_nic_ip": "reserve",
        }
        for server in range(2)
    ]
    return {"version": "1.0", "server_count": "2", "server_list": entries, "status": "completed"}


def test_a_table_gives_its_servers_with_devices_by_rank():
    table = two_servers()
    table["server_list"][1]["device"].reverse()
    assert check_table(table, "t") == [
        Server("10.0.0.1", [(0, 0), (1, 1)]),
        Server("10.0.0.2", [(2, 0), (3, 1)]),
    ]
    table["server_list"].reverse()
    assert [server.server_id for server in check_table(table, "t")] == ["10.0.0.2", "10.0.0.1"]


def test_what_hccl_allows_is_allowed():
    table = {**two_servers(), "server_count": "1", "server_list": two_servers()["server_list"][:1]}
    first, second = table["server_list"][0]["device"]
    del table["server_list"][0]["host_nic_ip"], first["device_ip"], second["device_ip"]
    table["server_list"][0]["server_id"] = "node_0"
    second["device_id"] = "15"
    assert check_table(table, "t") == [Server("node_0", [(0, 0), (1, 15)])]
    first["device_ip"], second["device_ip"] = "fe80::1", "192.168.0.1,fe80::2"
    check_table(table, "t")


def change(key, value):
    return lambda table: table.update({key: value})


def change_server(key, value, server=0):
    return lambda table: table["server_list"][server].update({key: value})


def change_device(key, value, device=1, server=0):
    return lambda table: table["server_list"][server]["device"][device].update({key: value})


def drop_device_key(key):
    return lambda table: table["server_list"][1]["device"][0].pop(key)


def swap_servers(table):
    first, second = table["server_list"]
    first["server_id"], second["server_id"] = second["server_id"], first["server_id"]


def mix_ranks(table):
    first, second = (entry["device"] for entry in table["server_list"])
    first[1]["rank_id"], second[0]["rank_id"] = "2", "1"


BROKEN = {  # of two_servers(): how, and what the message says after the file's name
    "version": (change("version", "1.2"), 'version: got "1.2", expected "1.0"'),
    "status": (change("status", "initializing"), 'status: got "initializing", expected "completed"'),
    "no status": (lambda table: table.pop("status"), "status: got nothing"),
    "server_count": (change("server_count", "1"), 'server_count: got "1", expected "2"'),
    "count is a number": (change("server_count", 2), "server_count: got 2"),
    "no server_list": (lambda table: table.pop("server_list"), "server_list: got nothing"),
    "empty server_list": (change("server_list", []), "server_list: got []"),
    "a server is a text": (change("server_list", ["a", "b"]), "server_list[0].server_id: got nothing"),
    "no server_id": (change_server("server_id", None), "server_list[0].server_id: got nothing"),
    "long server_id": (change_server("server_id", "n" * 65), "server_list[0].server_id: got 65 characters"),
    "same server_id": (change_server("server_id", "10.0.0.2"), 'server_id: got "10.0.0.2" 2 times'),
    "no devices": (change_server("device", []), "server_list[0].device: got []"),
    "a device is a number": (change_server("device", [1]), "server_list[0].device[0].device_id: got nothing"),
    "device_id is a number": (change_device("device_id", 1), "device[1].device_id: got 1, expected a text"),
    "device_id too high": (change_device("device_id", "16"), 'device[1].device_id: got "16"'),
    "device_id negative": (change_device("device_id", "-1"), 'device[1].device_id: got "-1"'),
    "same device_id": (change_device("device_id", "0"), "server_list[0].device[1].device_id: got 0 again"),
    "no address": (drop_device_key("device_ip"), "server_list[1].device[0].device_ip: got nothing"),
    "not an address": (change_device("device_ip", "192.168.1"), 'device[1].device_ip: got "192.168.1"'),
    "same address": (change_device("device_ip", "192.168.1.0", server=1), "[1].device_ip: got 192.168.1.0 again"),
    "no rank_id": (drop_device_key("rank_id"), "server_list[1].device[0].rank_id: got nothing"),
    "rank_id is no number": (change_device("rank_id", "one"), 'device[1].rank_id: got "one"'),
    "same rank_id": (change_device("rank_id", "0"), "rank_id: got no 1 among 4 devices, expected each of 0 to 3"),
    "a rank left out": (change_device("rank_id", "4", server=1), "rank_id: got no 3 among 4 devices"),
    "ranks mixed": (mix_ranks, "rank_id: got 0 2 1 3 in that order"),
    "ranks against the order of servers": (swap_servers, "rank_id: got 2 3 0 1 in that order"),
}


@pytest.mark.parametrize("way", BROKEN)
def test_a_broken_table_is_refused(way):
    broken = two_servers()
    check_table(broken, "table.json")
    spoil, message = BROKEN[way]
    spoil(broken)
    with pytest.raises(UserError) as caught:
        check_table(broken, "table.json")
    assert str(caught.value).startswith("table.json: ") and message in str(caught.value)
