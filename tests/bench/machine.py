"""What the figures are of: the machine, how busy it was with other things, and the versions of what was measured."""

import hashlib
import os
import pathlib
import platform
import re
import resource
import subprocess
import time

import servers


def description(place: servers.Place) -> dict:
    """The machine and the programs."""
    model = re.search(r"^model name\s*:\s*(.+)$", read("/proc/cpuinfo"), re.MULTILINE)
    total = re.search(r"^MemTotal:\s+(\d+) kB", read("/proc/meminfo"), re.MULTILINE)
    return {
        "date": time.strftime("%Y-%m-%d %H:%M:%S %Z"),
        "cpu": model[1] if model else platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "virtual": " hypervisor " in read("/proc/cpuinfo").replace("\n", " "),
        "memory_mib": int(total[1]) // 1024 if total else None,
        "kernel": f"{platform.system()} {platform.release()}",
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "versions": {
            "redis": said(["redis-server", "--version"]),
            "bellwether": bellwether(place.binary),
            "haproxy": said([servers.tool("haproxy"), "-v"]) if servers.tool("haproxy") else None,
            "twemproxy": said([servers.tool("twemproxy"), "-V"]) if servers.tool("twemproxy") else None,
        },
    }


def bellwether(binary: pathlib.Path) -> str | None:
    """The sidecar's version, and which build of it."""
    if not binary.is_file():
        return None
    return f"{said([str(binary), '--version'])}, SHA-256 {hashlib.sha256(binary.read_bytes()).hexdigest()[:16]}"


def spent() -> dict:
    """Seconds of the processors so far: all, idle, taken by the host for others, and had by this run's processes."""
    numbers = [int(number) for number in read("/proc/stat").splitlines()[0].split()[1:9]]
    ticks = os.sysconf("SC_CLK_TCK")
    ours = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {
        "all": sum(numbers) / ticks,
        "idle": (numbers[3] + numbers[4]) / ticks,
        "stolen": numbers[7] / ticks,
        "ours": sum(usage.ru_utime + usage.ru_stime for usage in ours),
    }


def said(command: list[str]) -> str:
    """What a program says of itself, in its first line."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = (done.stdout or done.stderr).splitlines()
    return lines[0].strip() if lines else "unknown"


def read(path: str) -> str:
    """A file of the kernel's, where there is one."""
    try:
        return pathlib.Path(path).read_text()
    except OSError:
        return ""
