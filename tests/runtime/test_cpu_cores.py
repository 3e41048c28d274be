"""The CPU cores of a rank, by affinity masks of all ranks, hosts and quotas of cgroups."""

import math
import os

import pytest

from msrun_job import ROOT, Job
from ssd.runtime import cpu_cores
from ssd.runtime.cpu_cores import (
    CpuLimits,
    available_cores,
    cgroup_quotas,
    pack_limits,
    read_cpu_limits,
    share_of_cores,
    unpack_limits,
    worker_count,
)

ALL = range(192)
HOSTS = {
    "taskset: 8 ranks share 16 cores": ([CpuLimits(7, range(16))] * 8, 2),
    "no mask: 8 ranks share the host": ([CpuLimits(7, ALL)] * 8, 24),
    "bind_core: each rank has its own 24 cores": ([CpuLimits(7, ALL[24 * i : 24 * i + 24]) for i in range(8)], 24),
    "bind_core without the cores of the scheduler": ([CpuLimits(7, ALL[3 * i : 3 * i + 3]) for i in range(8)], 3),
    "two hosts of 8 ranks": ([CpuLimits(host, ALL) for host in (7, -8) for _ in range(8)], 24),
    "three ranks on 8 cores": ([CpuLimits(7, range(8))] * 3, 8 / 3),
    "one rank": ([CpuLimits(7, ALL)], 192),
    "one rank with a quota": ([CpuLimits(7, ALL, quota=2.5, cgroup=3)], 2.5),
    "two ranks share a quota": ([CpuLimits(7, range(16), quota=2.5, cgroup=3)] * 2, 1.25),
    "two ranks in containers with a quota each": ([CpuLimits(7, range(16), quota=2.5, cgroup=i) for i in (3, 4)], 2.5),
    "a quota above the cores": ([CpuLimits(7, range(16), quota=100, cgroup=3)] * 4, 4),
    "equal numbers of cgroups on two hosts": ([CpuLimits(i, range(16), quota=2.5, cgroup=3) for i in (7, 8)], 2.5),
}


@pytest.mark.parametrize("name", HOSTS)
def test_ranks_share_cores(name):
    limits, expected = HOSTS[name]
    assert [share_of_cores(rank, limits) for rank in range(len(limits))] == pytest.approx([expected] * len(limits))


def test_masks_may_overlap_in_part():
    limits = [CpuLimits(7, {0, 1, 2, 3}), CpuLimits(7, {2, 3}), CpuLimits(8, {0, 1, 2, 3})]
    assert [share_of_cores(rank, limits) for rank in range(3)] == [3, 1, 4]


def test_24_cores_of_8_ranks_are_3_whole_cores():
    """A sum of 24 eighths in floating-point numbers might be below 3."""
    for ranks, cores in ((8, 24), (3, 24), (7, 49), (6, 192)):
        assert share_of_cores(0, [CpuLimits(7, range(cores))] * ranks) == cores / ranks


def test_unpack_inverts_pack():
    for limits in (
        CpuLimits(-(2**62) - 1, frozenset({0, 5, 191, 8191}), quota=2.5, cgroup=2**40 + 3),
        CpuLimits(2**62, frozenset({1})),
    ):
        message = pack_limits(limits)
        assert message.dtype == "int32" and message.shape == (262,)
        assert unpack_limits(message) == limits
        assert unpack_limits(message[::-1][::-1]) == limits


def test_without_a_launcher_the_mask_of_this_process_counts(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 2, 5})
    assert available_cores() == min(3, read_cpu_limits().quota)
    assert read_cpu_limits().host == read_cpu_limits().host


# --- quotas of cgroups ---


@pytest.fixture
def cgroups(tmp_path):
    """cgroups({path: content}) writes files like those of /sys/fs/cgroup, and returns their folder."""

    def write(files):
        for name, content in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(content)
        return tmp_path

    return write


@pytest.fixture
def quotas(tmp_path_factory):
    """quotas(memberships, mounts) returns the quotas of a process whose files in /proc have these contents."""

    def read(memberships, mounts):
        process = tmp_path_factory.mktemp("proc") / "self"
        process.mkdir()
        (process / "cgroup").write_text(memberships)
        (process / "mountinfo").write_text(mounts)
        return list(cgroup_quotas(process.parent))

    return read


def mount(folder, root="/", kind="cgroup2", options="rw"):
    return f"41 31 0:38 {root} {folder} rw,relatime shared:9 - {kind} {kind} {options}\n"


def test_the_quotas_of_all_parents_are_found_in_v2(cgroups, quotas):
    folder = cgroups({"a/cpu.max": "250000 100000\n", "a/b/cpu.max": "max 100000\n", "a/b/c/cpu.max": "400000 100000"})
    found = dict(quotas("0::/a/b/c\n", mounts=mount(folder)))
    assert found == {2.5: (folder / "a").stat().st_ino, 4.0: (folder / "a/b/c").stat().st_ino}


def test_a_container_sees_its_cgroup_as_the_root(cgroups, quotas):
    folder = cgroups({"cpu.max": "150000 100000\n"})
    for path, root in (("/", "/"), ("/docker/12ab", "/docker/12ab"), ("/docker/12ab", "/elsewhere"), ("/../12ab", "/")):
        assert [quota for quota, _ in quotas(f"0::{path}\n", mounts=mount(folder, root))] == [1.5]


def test_quotas_are_found_in_v1(cgroups, quotas):
    folder = cgroups(
        {
            "cpu/a/cpu.cfs_quota_us": "300000\n",
            "cpu/a/cpu.cfs_period_us": "100000\n",
            "cpu/cpu.cfs_quota_us": "-1\n",
            "cpu/cpu.cfs_period_us": "100000\n",
        }
    )
    mounts = mount(folder / "cpu", kind="cgroup", options="rw,cpu,cpuacct")
    mounts += mount(folder / "memory", kind="cgroup", options="rw,memory") + mount(folder / "unified")
    memberships = "5:memory:/a\n3:cpu,cpuacct:/a\n1:name=systemd:/a\n0::/\n"
    assert quotas(memberships, mounts) == [(3.0, (folder / "cpu" / "a").stat().st_ino)]


def test_no_quota_without_cgroups_or_with_unknown_formats(cgroups, quotas, tmp_path):
    assert list(cgroup_quotas(tmp_path / "no_proc")) == []
    assert quotas("", mounts="") == quotas("0::/a\n", mounts=mount(cgroups({}))) == []
    assert quotas("none\n", mounts=mount(cgroups({"cpu.max": "100000 100000"}))) == []
    assert quotas("0::/\n", mounts=mount(cgroups({"cpu.max": "broken"}))) == []
    assert read_cpu_limits().quota <= math.inf


@pytest.mark.slow
def test_ranks_of_msrun_exchange_their_masks(tmp_path):
    """First both ranks have the same core, and later one each."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        pytest.skip("one core only")
    variables = {"CORES": f"{cores[0]} {cores[0]}", "LATER_CORES": f"{cores[0]} {cores[1]}"}
    job = Job(tmp_path / "logs", [ROOT / "tests" / "jobs" / "print_cores.py"], **variables)
    try:
        job.wait(100)
        quota = read_cpu_limits().quota / 2
        for rank in (0, 1):
            for name, expected in ((f"rank {rank}", 0.5), (f"rank {rank}, later", 1.0)):
                line = f"{name}: {min(expected, quota):.3f} cores"
                assert line in job.log(f"worker_{rank}"), job.all_output()
    finally:
        job.kill()


def test_worker_count(monkeypatch):
    monkeypatch.setattr(cpu_cores, "available_cores", lambda: 6.0)
    assert worker_count(4) == 4 and worker_count(100) == 6
    assert worker_count(4, num_cores=2.9) == 2 and worker_count(4, num_cores=0.5) == 1
