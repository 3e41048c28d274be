"""Check whether this machine can train, and say what to do:

    python tools/doctor.py                                  packages, host, and the NPUs if the machine has any
    python tools/doctor.py --device Ascend                  NPUs, driver and CANN too; a fault if there is no NPU
    python tools/doctor.py --config RECIPE [--key value …]  also the recipe, its data, its weights and the disk

Each line has a status (ok, warning, fault, or n/a for not applicable), what was checked and what was found. Lines that
are not ok say what to do. With --config, recipe keys on the command line override the recipe, as in train.py.
The exit code is 1 if there is a fault. Nothing is changed on the machine.
"""

from __future__ import annotations

if __name__ == "__main__":
    import doctor_checks  # noqa: F401  finds the package, also before it is installed
    from ssd.startup import prepare_process

    prepare_process()  # before slow imports, so that Ctrl-C ends these cleanly

import argparse
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from doctor_checks import ascend, cann, host, network, recipe, versions
from doctor_checks.finding import FAULT, NOT_APPLICABLE, OK, Finding, format_finding, summarize
from doctor_checks.machine import Machine
from ssd.errors import UserError, exit_cleanly
from ssd.runtime.heartbeat import report_silence
from ssd.runtime.log import set_up_logging

ROOT = Path(__file__).resolve().parents[1]  # folder of ascend8p.sh


def examine(
    machine: Machine, device: str | None, config: str | None = None, arguments: Sequence[str] = ()
) -> Iterator[tuple[str, list[Finding]]]:
    """Yield the title and the findings of each section of the report, each as soon as it is known.

    machine: machine to check
    device: "CPU" or "Ascend", the device for training; None for the recipe's device, or else the machine's
    config: YAML file of a recipe, or None
    arguments: recipe keys and values of the command line, which override those of the recipe
    """
    has_npus = bool(ascend.find_devices(machine))
    cfg, recipe_finding = None, None
    if config is not None:
        cfg, recipe_finding = recipe.load_recipe(config, list(arguments), device)
    device = device or (cfg.device_target if cfg else "Ascend" if has_npus else "CPU")

    packages = versions.check_packages(machine, versions.read_pins())
    has_mindspore = machine.find_version("mindspore") is not None
    if has_mindspore:
        packages.append(versions.check_computation(machine, "CPU"))
        has_mindspore = packages[-1].status != FAULT
    yield "Python packages", [versions.check_python(), *packages]

    if device == "Ascend":
        yield from examine_ascend(machine, has_npus=has_npus, has_mindspore=has_mindspore)
    else:
        found = "not checked, because the CPU trains" if has_npus else "no /dev/davinci*, so the CPU trains"
        advice = "`--device Ascend` checks NPUs, driver and CANN."
        yield "Ascend", [Finding(NOT_APPLICABLE, what="NPU", found=found, advice=advice)]

    settings = network.check_launch_variables(machine)
    if device == "Ascend":
        settings += network.check_rank_tables(machine, ROOT)
        settings += [network.check_python_on_path(machine), *network.check_hccl_settings(machine)]
    found = "no variables of a launcher are left in this shell"
    yield "Distributed training", settings or [Finding(OK, what="environment variables", found=found)]

    yield "Host", check_host(machine, device, checkpoint_folder=Path(cfg.ckpt_save_dir) if cfg else None)

    if recipe_finding:
        findings = [recipe_finding]
        if cfg:
            findings += recipe.check_recipe(cfg, has_mindspore)
        yield "Recipe", findings


def examine_ascend(machine: Machine, has_npus: bool, has_mindspore: bool) -> Iterator[tuple[str, list[Finding]]]:
    """Yield the sections about NPUs and CANN.

    has_npus: True if the machine has NPUs
    has_mindspore: True if MindSpore works on the CPU
    """
    hardware = ascend.check_devices(machine)
    if has_npus:
        hardware.append(ascend.check_npu_smi(machine))
    hardware += ascend.check_driver(machine, cann.find_cann_version(machine))
    yield "Ascend hardware", hardware
    software = [cann.check_cann_version(machine, machine.find_version("mindspore"))]
    software += [*cann.check_modules(machine), *cann.check_environment(machine)]
    if has_mindspore:
        software.append(versions.check_computation(machine, "Ascend"))
    yield "CANN", software


def check_host(machine: Machine, device: str, checkpoint_folder: Path | None) -> list[Finding]:
    """Check the host.

    device: "CPU" or "Ascend", the device that trains
    checkpoint_folder: folder of the recipe's checkpoints, whose disk is checked with the recipe; None without a recipe
    """
    findings = [
        host.check_cpu_kernels(machine, device),
        host.check_shared_memory(host.disk_size(machine.path("/dev/shm"))),
    ]
    if checkpoint_folder is None:
        findings.append(host.check_free_disk(shutil.disk_usage(Path.cwd()).free, Path.cwd()))
    findings.append(host.check_open_files(host.open_file_limit()))
    checkpoints = checkpoint_folder.glob("*.ckpt") if checkpoint_folder else []
    findings.append(host.check_clock(host.newest_time([*host.package_files(), *checkpoints])))
    return findings


def parse_args() -> tuple[argparse.Namespace, list[str]]:
    """Parse the command line. Returns the options, and the arguments that override recipe keys."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    help_device = "device for training [the recipe's device, or else Ascend if the machine has NPUs]"
    parser.add_argument("--device", "--device_target", choices=("Ascend", "CPU"), help=help_device)
    parser.add_argument("-c", "--config", metavar="RECIPE", help="YAML file of a recipe, to check the recipe too")
    help_verbose = "log more details, with the time and module of each message"
    parser.add_argument("-v", "--verbose", action="store_true", help=help_verbose)
    args, rest = parser.parse_known_args()
    if rest and args.config is None:
        raise UserError(f"command line: {rest[0]!r} is not a known option. To override recipe keys, add --config.")
    return args, rest


@exit_cleanly
@report_silence
def main() -> None:
    args, rest = parse_args()
    if args.verbose:
        set_up_logging(verbose=True)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    findings: list[Finding] = []
    for title, section in examine(Machine(), args.device, config=args.config, arguments=rest):
        lines = [format_finding(finding, width) for finding in section]
        print(f"{title}\n" + "\n".join(lines) + "\n", flush=True)
        findings += section
    print(summarize(findings))
    sys.exit(int(any(finding.status == FAULT for finding in findings)))


if __name__ == "__main__":
    main()
