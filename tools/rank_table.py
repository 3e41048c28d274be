"""Write or check a rank table, the file that lists the NPUs of a job for HCCL:

    python tools/rank_table.py                                      devices 0 to 7, addresses from /etc/hccn.conf
    python tools/rank_table.py --devices 0,1,2,3                    hccl_4p_0123_127.0.0.1.json, for DEVICE_NUM=4
    python tools/rank_table.py --devices 0,1 --device_ips 192.168.100.101,192.168.101.101
    python tools/rank_table.py --server_ip 10.0.0.1 10.0.0.2 --hccn_conf first.conf second.conf
    python tools/rank_table.py --check FILE [--ranks 8] [--list]    the check that ascend8p.sh runs before training

The options --devices, --hccn_conf and --device_ips take one value per server, in the order of --server_ip. A single
value of --devices applies to all servers.
Ranks are numbered in the lexicographic order of the server addresses, as MindSpore requires. Device addresses must be
correct, otherwise HCCL fails at start. For a single server, HCCL needs no device addresses: set --device_ips none.

rank_table_check.py documents the format and its sources. The page "rank table Startup" of MindSpore's tutorials
documents the lines address_N=… in /etc/hccn.conf. The default file names are the same as those of hccl_tools.py and
merge_hccl.py in MindSpore's models repository.
"""

from __future__ import annotations

if __name__ == "__main__":
    from ssd.startup import prepare_process

    prepare_process()  # before slow imports, so that Ctrl-C ends these cleanly

import argparse
import ipaddress
import json
import re
from collections.abc import Iterable
from pathlib import Path

from rank_table_check import Server, check_table, read_table, refuse
from ssd.errors import exit_cleanly, os_reason

HCCN_ADVICE = "Configure the addresses with hccn_tool, set --hccn_conf to another file, or set --device_ips."


def create_table(servers: Iterable[tuple[str, list[int], list[str]]]) -> dict:
    """Return a rank table, with ranks in the lexicographic order of the server addresses.

    servers: (server address, device ids, device addresses) of each server; the list of device addresses may be empty
        if there is only one server
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


def read_hccn_addresses(path: Path) -> dict[int, str]:
    """Return {device id: IP address} from the lines address_N=… of a server's hccn.conf.

    Raises UserError if the file cannot be read.
    """
    try:
        content = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        refuse(str(path), f"the file with the device addresses cannot be read ({os_reason(error)})", HCCN_ADVICE)
    lines = re.findall(r"^[ \t]*address_([0-9]+)[ \t]*=[ \t]*(\S+)", content, re.MULTILINE)
    return {int(device_id): address for device_id, address in lines}


def read_hccn_conf(path: Path, device_ids: list[int]) -> list[str]:
    """Read the IP addresses of some devices from a server's hccn.conf.

    path: path of hccn.conf
    device_ids: ids of the devices to look up
    Raises UserError if the file cannot be read or a device has no address.
    """
    addresses = read_hccn_addresses(path)
    for device_id in device_ids:
        if device_id not in addresses:
            refuse(str(path), f"the line address_{device_id}=… is missing", HCCN_ADVICE)
    return [addresses[device_id] for device_id in device_ids]


def check_one_per_server(option: str, values: list, servers: list[str]) -> None:
    """Raise UserError if the number of values of an option differs from the number of servers."""
    if len(values) != len(servers):
        problem = f"the number of values is {len(values)}, but the number of servers in --server_ip is {len(servers)}"
        advice = f"Set {option} to one value per server. Separate servers by spaces, and devices by commas."
        refuse(option, problem, advice)


def parse_devices(text: str) -> list[int]:
    """Parse device ids separated by commas. Raises UserError if the text has another format."""
    if not re.fullmatch("[0-9]{1,2}(,[0-9]{1,2})*", text):
        refuse("--devices", f"{text!r} is not a list of device ids", "Set, for example, --devices 0,1,2,3.")
    return [int(number) for number in text.split(",")]


def table_from_arguments(args: argparse.Namespace) -> dict:
    """Return the rank table that the command line describes. Raises UserError if an option has an invalid value."""
    servers = args.server_ip
    for server_ip in servers:
        try:
            ipaddress.ip_address(server_ip)
        except ValueError:
            refuse("--server_ip", f"{server_ip!r} is not an IP address", "Set, for example, --server_ip 10.0.0.1.")
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
            problem = (
                f"the number of addresses is {len(addresses)}, but the number of devices is {len(ids)} ({devices})"
            )
            refuse("--device_ips", problem, "Set one address for each device, separated by commas.")
    return create_table(zip(servers, device_ids, device_ips))


def write_table(table: dict, out: Path | None, overwrite: bool) -> tuple[Path, list[Server]]:
    """Check a rank table, write the table to a file, and return the path of the file and the servers of the table.

    table: rank table
    out: path of the file, or a folder for a file with the default name; None for the current folder
    overwrite: True to replace an existing file
    Raises UserError if the table is not valid or the file cannot be written.
    """
    servers = check_table(table, "new rank table")
    device_ids = [device_id for server in servers for _, device_id in server.devices]
    name = f"hccl_{len(servers)}s_{len(device_ids)}p.json"
    if len(servers) == 1:
        name = f"hccl_{len(device_ids)}p_{''.join(map(str, device_ids))}_{servers[0].server_id}.json"
    path = Path(name) if out is None else out / name if out.is_dir() else out
    try:
        with path.open("w" if overwrite else "x", encoding="utf-8") as file:
            file.write(json.dumps(table, indent=4) + "\n")
    except FileExistsError:
        refuse(str(path), "the file already exists", "Set --overwrite to replace the file, or choose another --out.")
    except OSError as error:
        refuse(str(path), f"the file cannot be written ({os_reason(error)})", "Choose another --out.")
    return path, servers


def choose_server(servers: list[Server], index: str) -> Server:
    """Return the server at an index of server_list.

    servers: servers of the rank table
    index: index as text, from "0"; "" if not set, which is valid if there is only one server
    Raises UserError if the index is not valid.
    """
    if not index and len(servers) == 1:
        return servers[0]
    if not re.fullmatch("[0-9]{1,6}", index) or int(index) >= len(servers):
        problem = f"{f'got {index}' if index else 'not set'}, expected 0 to {len(servers) - 1}"
        refuse("SERVER_INDEX", problem, "Set SERVER_INDEX or --list to the index of this host in server_list.")
    return servers[int(index)]


def summarize_servers(servers: list[Server]) -> str:
    """Return a text with the range of ranks, and with the id and devices of each server."""
    parts = [f"{server.server_id} ({' '.join(str(device) for _, device in server.devices)})" for server in servers]
    return f"ranks 0 to {sum(len(server.devices) for server in servers) - 1}, on the devices of {', '.join(parts)}"


def check_file(path: Path, num_ranks: int | None, server_index: str | None) -> str:
    """Check a rank table, and return the text that --check prints.

    path: path of the rank table
    num_ranks: expected number of devices of the table, or of the server at `server_index`; None for any number
    server_index: index of a server as text; "" for the only server; None for a summary of all servers
    For one server, the text has a line "RANK DEVICE NUMBER_OF_RANKS" for each rank of the server. NUMBER_OF_RANKS
    counts the ranks of all servers.
    Raises UserError if the table or an argument is not valid.
    """
    servers = check_table(read_table(path), str(path))
    chosen = servers if server_index is None else [choose_server(servers, server_index)]
    devices = [device for server in chosen for device in server.devices]
    if num_ranks is not None and len(devices) != num_ranks:
        problem = f"number of devices: got {len(devices)}, expected {num_ranks}, the number of ranks to start"
        refuse(str(path), problem, f"Use another rank table, or set DEVICE_NUM={len(devices)}.")
    if server_index is None:
        return f"{path}: {summarize_servers(servers)}"
    total = sum(len(server.devices) for server in servers)
    return "\n".join(f"{rank} {device_id} {total}" for rank, device_id in devices)


def parse_args() -> argparse.Namespace:
    """Parse the command line, and reject options that cannot be combined."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--devices", nargs="+", metavar="N,N", help="device ids of each server, in the order of ranks [0 to 7]")
    add("--server_ip", nargs="+", metavar="IP", help="IP address of each server [127.0.0.1]")
    add("--hccn_conf", nargs="+", metavar="FILE", help="path of each server's hccn.conf [/etc/hccn.conf]")
    add(
        "--device_ips",
        nargs="+",
        metavar="IP,IP",
        help="device addresses of each server, instead of the addresses in hccn.conf",
    )
    add("--out", type=Path, help="output file, or folder for a file with a name such as hccl_2p_01_127.0.0.1.json [.]")
    add("--overwrite", action="store_true", help="replace an existing file")
    add("--check", type=Path, metavar="FILE", help="check a rank table instead of writing one")
    help_ranks = "for --check: expected number of devices in the table, or in the server of --list"
    add("--ranks", type=int, metavar="N", help=help_ranks)
    help_list = "for --check: print RANK DEVICE NUMBER_OF_RANKS for each rank of the server with this index, from 0"
    add("--list", nargs="?", const="", metavar="INDEX", help=help_list)
    args = parser.parse_args()
    write_options = [args.devices, args.server_ip, args.hccn_conf, args.device_ips, args.out, args.overwrite or None]
    if args.check is not None and any(value is not None for value in write_options):
        parser.error("--check can be combined only with --ranks and --list. Remove all other options.")
    if args.check is None and (args.ranks, args.list) != (None, None):
        parser.error("--ranks and --list need --check. Add --check FILE, or remove these options.")
    if args.hccn_conf and args.device_ips:
        parser.error("--hccn_conf and --device_ips cannot be combined. Remove one of these options.")
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
