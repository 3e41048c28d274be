"""Check of rank tables: tables that HCCL accepts are accepted, and each kind of mistake is reported."""

import pytest

from rank_table_check import Server, check_table
from ssd.errors import UserError


def two_servers():
    """Return a table with 4 ranks: devices 0 and 1 of two servers."""
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


def test_servers_and_devices_of_a_table():
    table = two_servers()
    table["server_list"][1]["device"].reverse()
    assert check_table(table, "t") == [
        Server("10.0.0.1", [(0, 0), (1, 1)]),
        Server("10.0.0.2", [(2, 0), (3, 1)]),
    ]
    table["server_list"].reverse()
    assert [server.server_id for server in check_table(table, "t")] == ["10.0.0.2", "10.0.0.1"]


def test_optional_keys_and_several_addresses_are_accepted():
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


def interleave_ranks(table):
    first, second = (entry["device"] for entry in table["server_list"])
    first[1]["rank_id"], second[0]["rank_id"] = "2", "1"


MISTAKES = {  # name: (change of two_servers(), start of the error after the file name)
    "version": (change("version", "1.2"), 'version: got "1.2"'),
    "status": (change("status", "initializing"), 'status: got "initializing"'),
    "no status": (lambda table: table.pop("status"), "status: "),
    "server_count": (change("server_count", "1"), 'server_count: got "1"'),
    "count is a number": (change("server_count", 2), "server_count: got 2"),
    "no server_list": (lambda table: table.pop("server_list"), "server_list: "),
    "empty server_list": (change("server_list", []), "server_list: got []"),
    "a server is a string": (change("server_list", ["a", "b"]), "server_list[0].server_id: "),
    "no server_id": (change_server("server_id", None), "server_list[0].server_id: "),
    "long server_id": (change_server("server_id", "n" * 65), "server_list[0].server_id: got 65 "),
    "same server_id": (change_server("server_id", "10.0.0.2"), 'server_id: "10.0.0.2" '),
    "no devices": (change_server("device", []), "server_list[0].device: got []"),
    "a device is a number": (change_server("device", [1]), "server_list[0].device[0].device_id: "),
    "device_id is a number": (change_device("device_id", 1), "server_list[0].device[1].device_id: got 1,"),
    "device_id too high": (change_device("device_id", "16"), 'server_list[0].device[1].device_id: got "16"'),
    "device_id negative": (change_device("device_id", "-1"), 'server_list[0].device[1].device_id: got "-1"'),
    "same device_id": (change_device("device_id", "0"), "server_list[0].device[1].device_id: device 0 "),
    "no address": (drop_device_key("device_ip"), "server_list[1].device[0].device_ip: "),
    "not an address": (change_device("device_ip", "192.168.1"), 'server_list[0].device[1].device_ip: got "192.168.1"'),
    "same address": (
        change_device("device_ip", "192.168.1.0", server=1),
        "server_list[1].device[1].device_ip: 192.168.1.0 ",
    ),
    "no rank_id": (drop_device_key("rank_id"), "server_list[1].device[0].rank_id: "),
    "rank_id is not a number": (change_device("rank_id", "one"), 'server_list[0].device[1].rank_id: got "one"'),
    "same rank_id": (change_device("rank_id", "0"), "rank_id: rank 1 "),
    "missing rank": (change_device("rank_id", "4", server=1), "rank_id: rank 3 "),
    "interleaved ranks": (interleave_ranks, "rank_id: got 0 2 1 3 "),
    "ranks against the order of servers": (swap_servers, "rank_id: got 2 3 0 1 "),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_reported(mistake):
    table = two_servers()
    check_table(table, "table.json")
    change_table, message = MISTAKES[mistake]
    change_table(table)
    with pytest.raises(UserError) as error:
        check_table(table, "table.json")
    assert str(error.value).startswith(f"table.json: {message}")
