"""Memory of the host: what the kernel has available, limited by control groups of both versions and their parents."""

import pytest

from ssd.runtime.host_memory import available_host_memory


@pytest.fixture
def read(tmp_path):
    """read(meminfo, memberships, {path: text}) is the memory that such a system has available."""

    def write_and_read(meminfo=None, memberships=None, limits=None):
        (tmp_path / "proc/self").mkdir(parents=True)
        files = {"proc/meminfo": meminfo, "proc/self/cgroup": memberships}
        files |= {f"cgroup/{path}": text for path, text in (limits or {}).items()}
        for path, text in files.items():
            if text is not None:
                (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / path).write_text(text)
        return available_host_memory(tmp_path / "proc", tmp_path / "cgroup")

    return write_and_read


MEMINFO = "MemTotal:       24684356 kB\nMemFree:         3456 kB\nMemAvailable:   20000 kB\nHugePages_Total:       0\n"


def test_available_memory_of_the_kernel(read):
    assert read(MEMINFO) == 20_480_000


def test_nothing_is_known(read):
    assert read() is None


def test_malformed_files_are_ignored(read):
    assert read("MemAvailable: much\n", "0::/\n", {"memory.max": "all\n"}) is None


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


def test_this_machine():
    assert available_host_memory() > 100 * 2**20
