"""Write or check a rank table, the file from which HCCL reads the NPUs of a job:

    python tools/rank_table.py                                      devices 0 to 7, addresses from /etc/hccn.conf
    python tools/rank_table.py --devices 0,1,2,3                    hccl_4p_0123_127.0.0.1.json, for DEVICE_NUM=4
    python tools/rank_table.py --devices 0,1 --device_ips 192.168.100.101,192.168.101.101
    python tools/rank_table.py --server_ip 10.0.0.1 10.0.0.2 --hccn_conf first.conf second.conf
    python tools/rank_table.py --check FILE [--ranks 8] [--list]    the check that ascend8p.sh makes before it starts

Each option takes one value per server, in the order of --server_ip; a single value of --devices applies to all servers.
Ranks are numbered in the dictionary order of the server addresses, as MindSpore requires. The addresses of devices must
be real: HCCL fails at start if one is wrong. With a single server HCCL needs none: `--device_ips none`.

The format and its sources are in rank_table_check.py. The lines address_N=… of /etc/hccn.conf are from the page "rank
table Startup" of MindSpore's tutorials. File names are those of hccl_tools.py and merge_hccl.py in MindSpore's models
repository.
"""

from __future__ import annotations

import argparse
import ipaddress
import json
import re
from collections.abc import Iterable
from pathlib import Path

from rank_table_check import Server, check_table, read_table, refuse
from ssd.errors import exit_cleanly, os_reason


def create_table(servers: Iterable[tuple[str, list[int], list[str]]]) -> dict:
    """Return a rank table, with ranks in the dictionary order of the server addresses.

    servers: (server address, device ids, device addresses); no device addresses if HCCL needs none
    """
    entries, rank = [], 0
    for server_ip, device_ids, device_ips in sorted(servers):
        devices = []
        for index, device_id in enumerate(device_ids):
            address = {"device_ip": device_ips[index]} if device_ips else {}
            devices.append({"device_id": str(device_id), **address, "rank_id": str(rank)})
            rank += 1
        entries.append({"server_id": server_ip, "device": devices, "host_nic_ip": "reserve"})
    return {"version": "1.0", "server_count": str(len(entries)), "server_list": entries, "status": "completed"}


def read_hccn_conf(path: Path, device_ids: list[int]) -> list[str]:
    """Read the address of each device from the lines address_N=… of a server's hccn.conf. Raises UserError."""
    advice = "Set the addresses with hccn_tool, name a copy of the file with --hccn_conf, or give --device_ips."
    try:
        content = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        refuse(str(path), f"device addresses cannot be read: {os_reason(error)}", advice)
    addresses = dict(re.findall(r"^[ \t]*address_([0-9]+)[ \t]*=[ \t]*(\S+)", content, re.MULTILINE))
    for device_id in device_ids:
        if str(device_id) not in addresses:
            refuse(str(path), f"there is no line address_{device_id}", advice)
    return [addresses[str(device_id)] for device_id in device_ids]


def check_one_per_server(option: str, values: list, servers: list[str]) -> None:
    if len(values) != len(servers):
        problem = f"got {len(values)}, expected {len(servers)}, one for each server in --server_ip"
        refuse(option, problem, "Separate servers by spaces and devices by commas.")


def parse_devices(text: str) -> list[int]:
    if not re.fullmatch("[0-9]{1,2}(,[0-9]{1,2})*", text):
        refuse("--devices", f"{text!r} is not a list of device numbers", "Write it like this: 0,1,2,3.")
    return [int(number) for number in text.split(",")]


def table_from_arguments(args: argparse.Namespace) -> dict:
    """Return the rank table for the command line. Raises UserError."""
    servers = args.server_ip
    for server_ip in servers:
        try:
            ipaddress.ip_address(server_ip)
        except ValueError:
            refuse("--server_ip", f"{server_ip!r} is not an IP address", "Give the server's own, such as 10.0.0.1.")
    device_ids = [parse_devices(text) for text in args.devices]
    if len(device_ids) == 1:
        device_ids = device_ids * len(servers)
    check_one_per_server("--devices", device_ids, servers)
    if args.device_ips == ["none"] and len(servers) == 1:
        return create_table([(servers[0], device_ids[0], [])])
    if args.device_ips is None:
        files = args.hccn_conf or ["/etc/hccn.conf"]
        check_one_per_server("--hccn_conf", files, servers)
        device_ips = [read_hccn_conf(Path(file), ids) for file, ids in zip(files, device_ids)]
        return create_table(zip(servers, device_ids, device_ips))
    check_one_per_server("--device_ips", args.device_ips, servers)
    device_ips = [text.split(",") for text in args.device_ips]
    for ids, addresses in zip(device_ids, device_ips):
        if len(addresses) != len(ids):
            devices = ",".join(map(str, ids))
            problem = f"got {len(addresses)}, expected {len(ids)}, one for each of the devices {devices}"
            refuse("--device_ips", problem, "Separate addresses by commas.")
    return create_table(zip(servers, device_ids, device_ips))


def write_table(table: dict, out: Path | None, overwrite: bool) -> tuple[Path, list[Server]]:
    """Check a table and write it. Returns its path and servers. Raises UserError.

    out: file, or folder for a file with the usual name; None for the current folder
    """
    servers = check_table(table, "the new table")
    device_ids = [device_id for server in servers for _, device_id in server.devices]
    name = f"hccl_{len(servers)}s_{len(device_ids)}p.json"
    if len(servers) == 1:
        name = f"hccl_{len(device_ids)}p_{''.join(map(str, device_ids))}_{servers[0].server_id}.json"
    path = Path(name) if out is None else out / name if out.is_dir() else out
    try:
        with path.open("w" if overwrite else "x", encoding="utf-8") as file:
            file.write(json.dumps(table, indent=4) + "\n")
    except FileExistsError:
        refuse(str(path), "exists already", "Add --overwrite, or choose another --out.")
    except OSError as error:
        refuse(str(path), f"cannot be written: {os_reason(error)}", "Choose another --out.")
    return path, servers


def choose_server(servers: list[Server], index: str) -> Server:
    """Return the server at an index of server_list. index: a number from "0"; "" for the only server"""
    if not index and len(servers) == 1:
        return servers[0]
    if not re.fullmatch("[0-9]{1,6}", index) or int(index) >= len(servers):
        problem = f"{f'got {index}' if index else 'not set'}, expected 0 to {len(servers) - 1}"
        refuse("SERVER_INDEX", problem, "Set it on each host to its index in server_list, or give it to --list.")
    return servers[int(index)]


def summarize_servers(servers: list[Server]) -> str:
    parts = [f"{server.server_id} ({' '.join(str(device) for _, device in server.devices)})" for server in servers]
    return f"ranks 0 to {sum(len(server.devices) for server in servers) - 1}, on the devices of {', '.join(parts)}"


def check_file(path: Path, num_ranks: int | None, server_index: str | None) -> str:
    """Check a rank table, and return the text that --check prints. Raises UserError.

    num_ranks: expected number of devices, if not None
    server_index: with None the text is a summary; otherwise one line "rank device num_ranks" for each rank of the
        server with this index, where num_ranks counts all servers
    """
    servers = check_table(read_table(path), str(path))
    chosen = servers if server_index is None else [choose_server(servers, server_index)]
    devices = [device for server in chosen for device in server.devices]
    if num_ranks is not None and len(devices) != num_ranks:
        problem = f"number of devices: got {len(devices)}, expected {num_ranks}, one for each rank to start"
        refuse(str(path), problem, f"Use another table, or set DEVICE_NUM={len(devices)}.")
    if server_index is None:
        return f"{path}: {summarize_servers(servers)}"
    total = sum(len(server.devices) for server in servers)
    return "\n".join(f"{rank} {device_id} {total}" for rank, device_id in devices)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--devices", nargs="+", metavar="N,N", help="device numbers of each server, in the order of ranks [0 to 7]")
    add("--server_ip", nargs="+", metavar="IP", help="address of each server [127.0.0.1]")
    add("--hccn_conf", nargs="+", metavar="FILE", help="hccn.conf of each server [/etc/hccn.conf]")
    add("--device_ips", nargs="+", metavar="IP,IP", help="device addresses of each server instead of --hccn_conf")
    add("--out", type=Path, help="file or folder to write to [the usual file name in the current folder]")
    add("--overwrite", action="store_true", help="replace an existing file")
    add("--check", type=Path, metavar="FILE", help="check a table and write nothing")
    add("--ranks", type=int, metavar="N", help="with --check: required number of devices; with --list, on that server")
    help_list = "with --check: print rank, device and number of all ranks for the server at this index, from 0"
    add("--list", nargs="?", const="", metavar="INDEX", help=help_list)
    args = parser.parse_args()
    write_options = [args.devices, args.server_ip, args.hccn_conf, args.device_ips, args.out, args.overwrite or None]
    if args.check is not None and any(value is not None for value in write_options):
        parser.error("--check: only --ranks and --list can be combined with it")
    if args.check is None and (args.ranks, args.list) != (None, None):
        parser.error("--ranks and --list need --check")
    if args.hccn_conf and args.device_ips:
        parser.error("--hccn_conf and --device_ips cannot be combined")
    args.devices = args.devices or ["0,1,2,3,4,5,6,7"]
    args.server_ip = args.server_ip or ["127.0.0.1"]
    return args


@exit_cleanly
def main() -> None:
    args = parse_args()
    if args.check is not None:
        print(check_file(args.check, args.ranks, args.list))
        return
    path, servers = write_table(table_from_arguments(args), args.out, args.overwrite)
    print(f"{path}: {summarize_servers(servers)}")


if __name__ == "__main__":
    main()
