"""Check HCCL rank tables, version 1.0.

A rank table is a JSON file that lists all NPUs of a job with their addresses and ranks. All numbers are written as
strings, because HCCL rejects JSON numbers.

    version       "1.0"
    status        "completed"; HCCL waits while the status is "initializing"
    server_count  number of servers
    server_list   list of servers, each with these keys:
      server_id     IP address of the server, or another unique name of at most 64 characters
      host_nic_ip   "reserve"; MindSpore writes this key, but HCCL does not need it
      device        list of devices, each with these keys:
        device_id   physical id of the device, unique in its server: 0 to 7, or 0 to 15 on servers with 16 devices
        device_ip   unique IPv4 or IPv6 address of the device's network card, or several addresses separated by commas.
                    HCCL fails at start if an address is wrong. Optional in a table with one server.
        rank_id     unique rank, from 0 to the number of all devices minus 1; the ranks of a server are consecutive

Sources: "Rank Table Configuration" for Atlas training, A2 and A3 products in CANN's HCCL user guide, and the page "rank
table Startup" of MindSpore's tutorials. The tutorials require ranks in the lexicographic order of server_id. Numbers as
strings and the limit of 16 devices come from HCCL's parser, topoinfo_ranktableConcise.cc. Tables of super pods (version
1.2) are not supported.
"""

from __future__ import annotations

import ipaddress
import json
import re
from pathlib import Path
from typing import NamedTuple, NoReturn

from ssd.errors import UserError, os_reason
from ssd.runtime.read_json import read_json

MAX_DEVICES_PER_SERVER = 16
ADVICE = "Correct the rank table, or create another table with tools/rank_table.py."


class Server(NamedTuple):
    """One server of a rank table.

    server_id: id of the server in the table
    devices: (rank id, device id) pairs, sorted by rank
    """

    server_id: str
    devices: list[tuple[int, int]]


def refuse(place: str, problem: str, advice: str = ADVICE) -> NoReturn:
    """Raise UserError with the message `<place>: <problem>. <advice>`."""
    raise UserError(f"{place}: {problem}. {advice}")


def refuse_value(place: str, value: object, expected: str) -> NoReturn:
    """Raise UserError for a wrong value of a rank table.

    place: file and key of the value
    value: wrong value; None if the value is missing
    expected: description of the expected value
    """
    refuse(place, f"{'the value is missing' if value is None else f'got {format_json(value)}'}, expected {expected}")


def format_json(value: object) -> str:
    """Format a value as JSON, and keep at most 60 characters."""
    return json.dumps(value, ensure_ascii=False)[:60]


def read_table(path: Path) -> object:
    """Read a rank table from a JSON file. Raises UserError if the file cannot be read or is not valid JSON."""
    try:
        return read_json(path)
    except OSError as error:
        advice = "Write a rank table with tools/rank_table.py, or set RANK_TABLE_FILE to an existing rank table."
        refuse(str(path), f"the rank table cannot be read ({os_reason(error)})", advice)
    except ValueError as error:
        refuse(str(path), f"the file is not valid JSON ({error})")


def check_table(table: object, place: str) -> list[Server]:
    """Check a rank table, and return its servers in the order of server_list.

    table: content of the JSON file
    place: path of the JSON file, for messages
    Raises UserError if HCCL or MindSpore would reject the table.
    """
    if not isinstance(table, dict):
        refuse_value(place, table, "a JSON object with the key server_list")
    for key, expected in (("version", "1.0"), ("status", "completed")):
        if table.get(key) != expected:
            refuse_value(f"{place}: {key}", table.get(key), f'"{expected}"')
    entries = get_list(table, "server_list", f"{place}: ")
    if table.get("server_count") != str(len(entries)):
        expected = f'"{len(entries)}", the length of server_list'
        refuse_value(f"{place}: server_count", table.get("server_count"), expected)
    seen_addresses: set[str] = set()
    servers = []
    for index, entry in enumerate(entries):
        prefix = f"{place}: server_list[{index}]."
        servers.append(check_server(entry, prefix, seen_addresses, needs_address=len(entries) > 1))
    check_ranks(servers, place)
    return servers


def check_server(entry: object, prefix: str, seen_addresses: set[str], needs_address: bool) -> Server:
    """Check one entry of server_list, and return the server.

    entry: entry of server_list
    prefix: file and position of the entry, to which messages append a key
    seen_addresses: device addresses of the previous servers; the addresses of this server are added
    needs_address: True if each device needs a device_ip
    Raises UserError if a value is missing or not valid.
    """
    server_id = get_text(entry, "server_id", prefix)
    if not 0 < len(server_id) <= 64:
        refuse(f"{prefix}server_id", f"got {len(server_id)} characters, expected 1 to 64")
    devices: list[tuple[int, int]] = []
    for index, device in enumerate(get_list(entry, "device", prefix)):
        device_prefix = f"{prefix}device[{index}]."
        device_id = get_number(device, "device_id", device_prefix, limit=MAX_DEVICES_PER_SERVER)
        if device_id in [other for _, other in devices]:
            refuse(f"{device_prefix}device_id", f"device {device_id} occurs twice in this server")
        devices.append((get_number(device, "rank_id", device_prefix, limit=10**6), device_id))
        if "device_ip" in device or needs_address:
            text = get_text(device, "device_ip", device_prefix)
            check_addresses(text, f"{device_prefix}device_ip", seen_addresses)
    return Server(server_id, sorted(devices))


def check_addresses(text: str, place: str, seen_addresses: set[str]) -> None:
    """Check the IP addresses of one device, and add the addresses to `seen_addresses`.

    text: value of device_ip, addresses separated by commas
    place: file and position of the value, for messages
    seen_addresses: addresses of the previous devices
    Raises UserError if an address is not valid or not unique.
    """
    for part in text.split(","):
        try:
            address = str(ipaddress.ip_address(part))
        except ValueError:
            refuse_value(place, part, "the IP address of the device's network card (address_N in /etc/hccn.conf)")
        if address in seen_addresses:
            refuse(place, f"{address} occurs twice, but addresses must be unique")
        seen_addresses.add(address)


def check_ranks(servers: list[Server], place: str) -> None:
    """Raise UserError if a server id occurs twice, a rank is missing, or ranks are not in the order of server ids."""
    server_ids = [server.server_id for server in servers]
    for server_id in server_ids:
        if server_ids.count(server_id) > 1:
            count = server_ids.count(server_id)
            refuse(f"{place}: server_id", f"{format_json(server_id)} occurs {count} times, but ids must be unique")
    ranks = [rank for server in sorted(servers) for rank, _ in server.devices]
    missing = sorted(set(range(len(ranks))) - set(ranks))
    if missing:
        refuse(f"{place}: rank_id", f"rank {missing[0]} is missing, but ranks 0 to {len(ranks) - 1} must occur once")
    if ranks != sorted(ranks):
        order = " ".join(map(str, ranks))
        problem = f"got {order} in the lexicographic order of server_id, expected increasing ranks"
        refuse(f"{place}: rank_id", problem)


def get_value(entry: object, key: str) -> object:
    """Return the value of a key, or None if the key is missing or the entry is not a JSON object."""
    return entry.get(key) if isinstance(entry, dict) else None


def get_text(entry: object, key: str, prefix: str) -> str:
    """Return the string under a key of a JSON object. Raises UserError if the value is missing or not a string."""
    value = get_value(entry, key)
    if not isinstance(value, str):
        refuse_value(prefix + key, value, "a string in quotes")
    return value


def get_number(entry: object, key: str, prefix: str, limit: int) -> int:
    """Return the integer in the string under a key of a JSON object.

    Raises UserError if the value is not a string of digits, or if the integer is not in 0..limit - 1.
    """
    text = get_text(entry, key, prefix)
    if not re.fullmatch("[0-9]{1,7}", text) or int(text) >= limit:
        refuse_value(prefix + key, text, f'an integer from "0" to "{limit - 1}" in quotes')
    return int(text)


def get_list(entry: object, key: str, prefix: str) -> list:
    """Return the list under a key of a JSON object. Raises UserError if the list is missing or empty."""
    value = get_value(entry, key)
    if not isinstance(value, list) or not value:
        refuse_value(prefix + key, value, "a list with at least one entry")
    return value
