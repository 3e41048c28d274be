"""The doctor's checks of CPU kernels, shared memory, disk, open files and clock."""

from pathlib import Path

import pytest
from doctor_machines import with_environment, write_file

from doctor_checks import host
from doctor_checks.finding import FAULT, NOT_APPLICABLE, OK, WARNING

GB = 10**9


@pytest.mark.parametrize(
    "flags, isa, device, status",
    [
        ("avx2 avx512f", None, "CPU", OK),  # ssd/__init__.py sets AVX2
        ("avx2 avx512f", "AVX2", "CPU", OK),
        ("avx2 avx512f", "ALL", "CPU", WARNING),
        ("avx2 avx512f", "AVX512_CORE", "CPU", WARNING),
        ("avx2 avx512f", "ALL", "Ascend", NOT_APPLICABLE),
        ("avx2", "ALL", "CPU", OK),
    ],
)
def test_cpu_kernels(machine, flags, isa, device, status):
    write_file(machine.root, "/proc/cpuinfo", f"flags : fpu {flags}\n")
    finding = host.check_cpu_kernels(with_environment(machine, ONEDNN_MAX_CPU_ISA=isa), device)
    assert finding.status == status


def test_shared_memory():
    assert host.check_shared_memory(64 * 2**20).status == WARNING  # Docker's default
    assert "0.1 GB" in host.check_shared_memory(64 * 2**20).found
    assert host.check_shared_memory(8 * GB).status == OK and host.check_shared_memory(None).status == WARNING
    assert host.disk_size(Path("/nowhere")) is None and host.disk_size(Path("/")) > 0


def test_disk_and_open_files():
    assert host.check_free_disk(9 * GB, Path("a")).status == WARNING
    assert host.check_free_disk(11 * GB, Path("a")).status == OK
    assert host.check_open_files(1024).status == WARNING and host.check_open_files(4096).status == OK
    assert host.check_open_files(-1).status == OK


def test_clock():
    day = 86400
    assert host.check_clock(newest=100 * day, now=101 * day).status == OK
    assert host.check_clock(newest=100 * day, now=100 * day - 30).status == OK  # a file server's clock
    behind = host.check_clock(newest=100 * day, now=90 * day)
    assert behind.status == FAULT and "1970-04-01" in behind.found and "1970-04-11" in behind.expected
    assert host.check_clock(newest=100 * day, now=5000 * day).status == WARNING
    assert host.check_clock(host.newest_time(host.package_files())).status == OK


def test_newest_time_of_files(tmp_path):
    assert host.newest_time([tmp_path / "absent"]) == 0
    path = write_file(tmp_path, "a", "")
    assert host.newest_time([path, tmp_path / "absent"]) == path.stat().st_mtime
    names = {path.name for path in host.package_files()}
    assert {"errors.py", "trainer.py", "version.py"} <= names
