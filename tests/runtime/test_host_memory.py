"""Available memory of the host: MemAvailable of the kernel, and limits of cgroups v1 and v2 and of their parents."""

import pytest

from ssd.runtime.host_memory import available_host_memory


@pytest.fixture
def read(tmp_path):
    """read(meminfo, memberships, {path: text}) is the memory that such a system has available."""

    def write_and_read(meminfo=None, memberships=None, limits=None):
        (tmp_path / "proc/self").mkdir(parents=True)
        mounts = "".join(
            f"41 31 0:38 / {tmp_path / path} rw,relatime - {kind} {kind} rw,memory\n"
            for path, kind in (("cgroup", "cgroup2"), ("cgroup/memory", "cgroup"))
        )
        files = {"proc/meminfo": meminfo, "proc/self/cgroup": memberships, "proc/self/mountinfo": mounts}
        files |= {f"cgroup/{path}": text for path, text in (limits or {}).items()}
        for path, text in files.items():
            if text is not None:
                (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / path).write_text(text)
        return available_host_memory(tmp_path / "proc")

    return write_and_read


MEMINFO = "MemTotal:       24684356 kB\nMemFree:         3456 kB\nMemAvailable:   20000 kB\nHugePages_Total:       0\n"


def test_available_memory_of_the_kernel(read):
    assert read(MEMINFO) == 20_480_000


def test_memory_is_unknown_without_files(read):
    assert read() is None


def test_malformed_files_are_ignored(read):
    assert read("MemAvailable: much\n", "0::/\n", {"memory.max": "all\n"}) is None


def test_unknown_format_of_the_cgroups_is_no_limit(read):
    assert read(MEMINFO, "none\n", {"memory.max": "1000\n"}) == 20_480_000


@pytest.mark.parametrize(
    "limits, expected",
    [
        ({"a/b/memory.max": "1000\n"}, 1000),
        ({"a/b/memory.max": "max\n", "a/memory.max": "2000\n"}, 2000),
        ({"a/b/memory.max": "3000\n", "a/memory.max": "2000\n"}, 2000),
        ({"memory.max": "4000\n"}, 4000),  # a container, whose path is the one of the host
        ({"a/b/memory.max": "99999999999\n"}, 20_480_000),
        ({"a/b/memory.limit_in_bytes": "5\n", "memory/a/b/memory.limit_in_bytes": "6\n"}, 20_480_000),  # version 1
    ],
)
def test_limits_of_version_2(limits, expected, read):
    assert read(MEMINFO, "0::/a/b\n", limits) == expected


@pytest.mark.parametrize(
    "limits, expected",
    [
        ({"memory/a/memory.limit_in_bytes": "1000\n"}, 1000),
        ({"memory/memory.limit_in_bytes": "2000\n"}, 2000),
        ({"memory/a/memory.limit_in_bytes": "9223372036854771712\n"}, 20_480_000),  # no limit
        ({"memory/cpu/memory.limit_in_bytes": "3\n"}, 20_480_000),  # the path of another controller
    ],
)
def test_limits_of_version_1(limits, expected, read):
    assert read(MEMINFO, "5:cpu,cpuacct:/cpu\n4:memory:/a\n0::/\n", limits) == expected


def test_memory_of_this_machine_is_known():
    assert available_host_memory() > 100 * 2**20


@pytest.mark.parametrize("pages, expected", [(1000, 40_960_000 - 4096 * 1000), (20_000, 0)])
def test_the_address_space_is_a_limit(pages, expected, read, monkeypatch):
    monkeypatch.setattr("resource.getrlimit", lambda kind: (40_960_000, -1))
    monkeypatch.setattr("resource.getpagesize", lambda: 4096)
    monkeypatch.setattr("ssd.runtime.host_memory._available_memory", lambda meminfo: 10**12)
    statm = f"{pages} 200 100\n"
    assert read(MEMINFO, limits={"../proc/self/statm": statm}) == expected
