"""HCCL's rank table, version 1.0: its format, and whether a file has it.

A JSON file from which every rank knows all NPUs, their addresses and their ranks. Every value is a text, numbers too:
HCCL refuses bare ones.

    version       "1.0"
    status        "completed"; HCCL waits while it is "initializing"
    server_count  length of server_list
    server_list   servers, each with
      server_id     its address, or another name of at most 64 characters; no two alike
      host_nic_ip   "reserve"; stands in MindSpore's tables, HCCL does without it
      device        devices, each with
        device_id   physical number in its server: 0 to 7, to 15 in servers with two modules; no two alike in one
        device_ip   address of the device's own network card, IPv4 or IPv6, or several with commas between; no two
                    alike. HCCL fails at start where it is not the card's. A table of one server may leave it out.
        rank_id     0 to the number of all devices less 1, each once; those of a server follow one another

Sources of names and rules: "Rank Table Configuration" for Atlas training, A2 and A3 products in CANN's HCCL user guide;
the page "rank table Startup" of MindSpore's tutorials, which also asks that the ranks of several servers follow the
dictionary order of server_id. Texts for numbers and the limit of 16 devices are from HCCL's own reader,
topoinfo_ranktableConcise.cc. Super pods (version 1.2) are not known here.
"""

from __future__ import annotations

import ipaddress
import json
import re
from pathlib import Path
from typing import NamedTuple, NoReturn

from ssd.errors import UserError

MAX_DEVICES = 16  # of a server
MEND = "mend the table, or write it anew with tools/rank_table.py"


class Server(NamedTuple):
    server_id: str
    devices: list[tuple[int, int]]  # (rank id, device id), by rank


def refuse(where: str, got: object, rule: str, what_to_do: str = MEND) -> NoReturn:
    """UserError in one line; `got` None stands for nothing at all."""
    got = "nothing" if got is None else str(got)
    raise UserError(f"{where}: got {got[:60]}, expected {rule}; {what_to_do}")


def read_table(path: Path) -> object:
    """The JSON of a file. UserError where there is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        refuse(str(path), error.strerror, "a rank table", "set RANK_TABLE_FILE, or write one with tools/rank_table.py")
    except ValueError as error:
        refuse(str(path), f"no JSON ({error})", "a rank table")


def check_table(table: object, where: str) -> list[Server]:
    """The servers of a rank table, in the order of server_list. `where`, the file's name, opens each message.

    UserError for a table that HCCL or MindSpore would not take.
    """
    if not isinstance(table, dict):
        refuse(where, quoted(table), "an object with server_list")
    for name, wanted in (("version", "1.0"), ("status", "completed")):
        if table.get(name) != wanted:
            refuse(f"{where}: {name}", quoted(table.get(name)), f'"{wanted}"')
    entries = list_of(table, "server_list", f"{where}: ")
    if table.get("server_count") != str(len(entries)):
        refuse(f"{where}: server_count", quoted(table.get("server_count")), f'"{len(entries)}", as in server_list')
    taken: set[str] = set()
    servers = [
        check_server(entry, f"{where}: server_list[{index}].", taken, needs_address=len(entries) > 1)
        for index, entry in enumerate(entries)
    ]
    check_ranks(servers, where)
    return servers


def check_server(entry: object, where: str, taken: set[str], needs_address: bool) -> Server:
    """The server of an entry of server_list. The addresses of its devices are added to those already `taken`."""
    server_id = text_of(entry, "server_id", where)
    if not 0 < len(server_id) <= 64:
        refuse(f"{where}server_id", f"{len(server_id)} characters", "1 to 64")
    devices: list[tuple[int, int]] = []
    for index, device in enumerate(list_of(entry, "device", where)):
        here = f"{where}device[{index}]."
        device_id = number_of(device, "device_id", here, MAX_DEVICES)
        if device_id in [other for _, other in devices]:
            refuse(f"{here}device_id", f"{device_id} again", "no two alike in a server")
        devices.append((number_of(device, "rank_id", here, 10**6), device_id))
        if "device_ip" in device or needs_address:
            check_addresses(text_of(device, "device_ip", here), f"{here}device_ip", taken)
    return Server(server_id, sorted(devices))


def check_addresses(text: str, where: str, taken: set[str]) -> None:
    """UserError unless a device_ip has valid addresses, none of them `taken`, to which they are added."""
    for address in text.split(","):
        try:
            found = str(ipaddress.ip_address(address))
        except ValueError:
            refuse(where, quoted(address), "the address of the device's network card, address_N in /etc/hccn.conf")
        if found in taken:
            refuse(where, f"{found} again", "an address of its own for each device")
        taken.add(found)


def check_ranks(servers: list[Server], where: str) -> None:
    """UserError unless server ids differ, and rank ids are complete and in the order of the servers' ids."""
    names = [server.server_id for server in servers]
    for name in names:
        if names.count(name) > 1:
            refuse(f"{where}: server_id", f"{quoted(name)} {names.count(name)} times", "no two alike")
    ranks = [rank for server in sorted(servers) for rank, _ in server.devices]
    missing = sorted(set(range(len(ranks))) - set(ranks))
    if missing:
        rule = f"each of 0 to {len(ranks) - 1} once"
        refuse(f"{where}: rank_id", f"no {missing[0]} among {len(ranks)} devices", rule)
    if ranks != sorted(ranks):
        rule = "ranks that run on from server to server, in the dictionary order of server_id"
        refuse(f"{where}: rank_id", f"{' '.join(map(str, ranks))} in that order", rule)


def quoted(value: object) -> str | None:
    """A value as it stands in the file, None for a missing one."""
    return None if value is None else json.dumps(value, ensure_ascii=False)


def text_of(entry: object, name: str, where: str) -> str:
    value = entry.get(name) if isinstance(entry, dict) else None
    if not isinstance(value, str):
        refuse(where + name, quoted(value), "a text, in quotes")
    return value


def number_of(entry: object, name: str, where: str, limit: int) -> int:
    text = text_of(entry, name, where)
    if not re.fullmatch("[0-9]{1,7}", text) or int(text) >= limit:
        refuse(where + name, quoted(text), f'a whole number from "0" to "{limit - 1}"')
    return int(text)


def list_of(entry: object, name: str, where: str) -> list:
    value = entry.get(name) if isinstance(entry, dict) else None
    if not isinstance(value, list) or not value:
        refuse(where + name, quoted(value), "a list with at least one entry")
    return value
