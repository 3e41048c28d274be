"""Write and check rank tables, the files from which HCCL knows the NPUs of a launch:

    python tools/rank_table.py                                      devices 0 to 7, addresses from /etc/hccn.conf
    python tools/rank_table.py --devices 0,1,2,3                    hccl_4p_0123_127.0.0.1.json, for DEVICE_NUM=4
    python tools/rank_table.py --devices 0,1 --device_ips 192.168.100.101,192.168.101.101
    python tools/rank_table.py --server_ip 10.0.0.1 10.0.0.2 --hccn_conf first.conf second.conf
    python tools/rank_table.py --check FILE [--ranks 8] [--list]    what ascend8p.sh asks before it starts anything

Each option takes one value for each server, in the order of --server_ip; --devices may be one for all. Ranks run on
over the servers in the dictionary order of their addresses, as MindSpore asks. Addresses of devices are never made up:
HCCL fails at start with a wrong one. `--device_ips none` leaves them out, which HCCL allows with one server.

rank_table_check.py has the format and its sources. The lines address_N=… of /etc/hccn.conf are from the page "rank
table Startup" of MindSpore's tutorials, the names of the files from hccl_tools.py and merge_hccl.py of its models.
"""

from __future__ import annotations

import argparse
import ipaddress
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples" / "det" / "ssd"))  # where the package is

from rank_table_check import Server, check_table, read_table, refuse  # noqa: E402
from ssd.errors import exit_cleanly  # noqa: E402


def make_table(servers: Iterable[tuple[str, list[int], list[str]]]) -> dict:
    """The table of (server address, device ids, device addresses or none at all); ranks by address of the server."""
    entries, rank = [], 0
    for server_ip, devices, addresses in sorted(servers):
        entry = {"server_id": server_ip, "device": [], "host_nic_ip": "reserve"}
        for index, device in enumerate(devices):
            address = {"device_ip": addresses[index]} if addresses else {}
            entry["device"].append({"device_id": str(device), **address, "rank_id": str(rank)})
            rank += 1
        entries.append(entry)
    return {"version": "1.0", "server_count": str(len(entries)), "server_list": entries, "status": "completed"}


def read_hccn_conf(path: Path, devices: list[int]) -> list[str]:
    """The address of each device's network card, from the lines address_N=… of a server's hccn.conf."""
    rule = "the address of each device's network card"
    instead = "set it with hccn_tool, name a copy with --hccn_conf, or give --device_ips (none, with one server)"
    try:
        content = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        refuse(str(path), error.strerror, rule, instead)
    found = dict(re.findall(r"^[ \t]*address_([0-9]+)[ \t]*=[ \t]*(\S+)", content, re.MULTILINE))
    for device in devices:
        if str(device) not in found:
            refuse(str(path), f"no address_{device}", rule, instead)
    return [found[str(device)] for device in devices]


def one_each(option: str, values: list, servers: list[str]) -> list:
    if len(values) != len(servers):
        rule = f"{len(servers)}, one for each server in the order of --server_ip"
        refuse(option, f"{len(values)}", rule, "put spaces between servers and commas between devices")
    return values


def parse_devices(text: str) -> list[int]:
    if not re.fullmatch("[0-9]{1,2}(,[0-9]{1,2})*", text):
        refuse("--devices", repr(text), "numbers with commas between", "write them so: 0,1,2,3")
    return [int(number) for number in text.split(",")]


def table_from(args: argparse.Namespace) -> dict:
    """The table that the command line asks for."""
    servers = args.server_ip
    for server_ip in servers:
        try:
            ipaddress.ip_address(server_ip)
        except ValueError:
            refuse("--server_ip", repr(server_ip), "an address such as 10.0.0.1", "give the server's own")
    devices = [parse_devices(text) for text in args.devices]
    devices = one_each("--devices", devices * len(servers) if len(devices) == 1 else devices, servers)
    if args.device_ips == ["none"] and len(servers) == 1:
        return make_table([(servers[0], devices[0], [])])
    if args.device_ips is None:
        files = one_each("--hccn_conf", args.hccn_conf or ["/etc/hccn.conf"], servers)
        addresses = [read_hccn_conf(Path(file), numbers) for file, numbers in zip(files, devices)]
        return make_table(zip(servers, devices, addresses))
    addresses = [text.split(",") for text in one_each("--device_ips", args.device_ips, servers)]
    for numbers, given in zip(devices, addresses):
        if len(given) != len(numbers):
            rule = f"{len(numbers)}, one for each of the devices {','.join(map(str, numbers))}"
            refuse("--device_ips", f"{len(given)} addresses", rule, "give each, with commas between")
    return make_table(zip(servers, devices, addresses))


def write_table(table: dict, out: Path | None, overwrite: bool) -> tuple[Path, list[Server]]:
    """Check a table and write it: to the file `out`, or with its usual name into the folder `out`, or here."""
    servers = check_table(table, "the new table")
    devices = [device for server in servers for _, device in server.devices]
    name = f"hccl_{len(servers)}s_{len(devices)}p.json"
    if len(servers) == 1:
        name = f"hccl_{len(devices)}p_{''.join(map(str, devices))}_{servers[0].server_id}.json"
    path = Path(name) if out is None else out / name if out.is_dir() else out
    try:
        with path.open("w" if overwrite else "x", encoding="utf-8") as file:
            file.write(json.dumps(table, indent=4) + "\n")
    except FileExistsError:
        refuse(str(path), "a file that is there already", "a new one", "add --overwrite, or choose another --out")
    except OSError as error:
        refuse(str(path), error.strerror, "a file that can be written", "choose another --out")
    return path, servers


def choose_server(servers: list[Server], index: str) -> Server:
    """The server with this place in server_list, from "0"; "" is the only one."""
    if not index and len(servers) == 1:
        return servers[0]
    if not re.fullmatch("[0-9]{1,6}", index) or int(index) >= len(servers):
        rule = f"0 to {len(servers) - 1}, this host's place in server_list"
        refuse("SERVER_INDEX", index or None, rule, "set it on each host, or give it to --list")
    return servers[int(index)]


def describe(servers: list[Server]) -> str:
    parts = [f"{server.server_id} ({' '.join(str(device) for _, device in server.devices)})" for server in servers]
    return f"ranks 0 to {sum(len(server.devices) for server in servers) - 1}, on the devices of {', '.join(parts)}"


def check_file(path: Path, ranks: int | None, index: str | None) -> str:
    """What --check prints: a description of the table, or with `index` the numbers of each rank of that server."""
    servers = check_table(read_table(path), str(path))
    chosen = servers if index is None else [choose_server(servers, index)]
    pairs = [pair for server in chosen for pair in server.devices]
    if ranks is not None and len(pairs) != ranks:
        what_to_do = f"take another table, or set DEVICE_NUM={len(pairs)}"
        refuse(str(path), f"{len(pairs)} devices", f"{ranks}, one for each rank to start", what_to_do)
    if index is None:
        return f"{path}: {describe(servers)}"
    size = sum(len(server.devices) for server in servers)
    return "\n".join(f"{rank} {device} {size}" for rank, device in pairs)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--devices", nargs="+", metavar="N,N", help="numbers of a server's devices, in the order of ranks [0 to 7]")
    add("--server_ip", nargs="+", metavar="IP", help="address of each server [127.0.0.1]")
    add("--hccn_conf", nargs="+", metavar="FILE", help="hccn.conf of each server [/etc/hccn.conf]")
    add("--device_ips", nargs="+", metavar="IP,IP", help="instead: addresses of each server's devices, or none")
    add("--out", type=Path, help="file or folder to write to [the usual name, here]")
    add("--overwrite", action="store_true", help="replace a file that is there")
    add("--check", type=Path, metavar="FILE", help="check a table and write nothing")
    add("--ranks", type=int, metavar="N", help="with --check: devices that it must have, with --list on that server")
    help_list = "with --check: print rank, device and number of all ranks for a server, by its place from 0"
    add("--list", nargs="?", const="", metavar="INDEX", help=help_list)
    args = parser.parse_args()
    to_write = [args.devices, args.server_ip, args.hccn_conf, args.device_ips, args.out, args.overwrite or None]
    if args.check is not None and any(value is not None for value in to_write):
        parser.error("--check goes with --ranks and --list alone")
    if args.check is None and (args.ranks, args.list) != (None, None):
        parser.error("--ranks and --list go with --check")
    if args.hccn_conf and args.device_ips:
        parser.error("--hccn_conf and --device_ips: give one of them")
    args.devices = args.devices or ["0,1,2,3,4,5,6,7"]
    args.server_ip = args.server_ip or ["127.0.0.1"]
    return args


@exit_cleanly
def main() -> None:
    args = parse_args()
    if args.check is not None:
        print(check_file(args.check, args.ranks, args.list))
        return
    path, servers = write_table(table_from(args), args.out, args.overwrite)
    print(f"{path}: {describe(servers)}")


if __name__ == "__main__":
    main()
