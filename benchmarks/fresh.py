"""A command in a process of its own: its seconds, its processor time, its peak memory, and what else ran meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from mitosight.outputs import versions

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
BUSY_CORES = 0.15  # of other work, from which a time is worth little
LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class Outcome:
    """What a process took.

    Attributes:
        spawned, ended: seconds of `time.monotonic`, which all processes of a machine share.
        cpu_seconds: user and system time of the process and of those that it waited for.
        peak_mb: highest resident memory (10^6 bytes) of the process, libraries included. Where it starts further
            processes, that of the largest one.
        others_before, others_during: cores that other work kept busy, in the second before and while it ran; None
            where the system does not say (it does on Linux).
        load: average number of running processes in the minute before.
    """

    spawned: float
    ended: float
    cpu_seconds: float
    peak_mb: float
    others_before: float | None
    others_during: float | None
    load: float

    @property
    def seconds(self) -> float:
        """From before its start until after its end."""
        return self.ended - self.spawned

    @property
    def disturbed(self) -> str:
        """A warning where other work was running, else nothing."""
        others = max(self.others_before or 0.0, self.others_during or 0.0)
        return f"other work kept {others:.1f} cores busy" if others > BUSY_CORES else ""


def run(command: Sequence[str], threads: int) -> Outcome:
    """Runs `command` on `threads` cores and waits; what it prints goes to stderr.

    The cores are set for the process itself where the system can, as not every runtime heeds OMP_NUM_THREADS.

    Raises:
        SystemExit: the command failed.
    """
    others_before, load = _others(LOOK_SECONDS), os.getloadavg()[0]
    environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads))}
    busy, spawned = _busy_seconds(), time.monotonic()
    process = subprocess.Popen(_pinned(command, threads), env=environment, stdout=sys.stderr)
    _, status, used = os.wait4(process.pid, 0)  # the usage of this child alone
    ended = time.monotonic()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"exit status {process.returncode}: {' '.join(command)}")
    cpu = used.ru_utime + used.ru_stime
    during = None
    if busy is not None:
        during = max(0.0, (_busy_seconds() or 0.0) - busy - cpu) / (ended - spawned)
    unit = 1 if sys.platform == "darwin" else 1024
    return Outcome(spawned, ended, cpu, used.ru_maxrss * unit / 1e6, others_before, during, load)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine(threads: int) -> dict[str, object]:
    """Processor, cores, threads, and versions, those of the runtimes too."""
    found: dict[str, str] = versions()
    for name in ("onnx", "onnxruntime", "openvino", "nncf"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return {"cpu": _processor(), "cores": cores(), "threads": threads, "versions": found}


def _pinned(command: Sequence[str], threads: int) -> list[str]:
    """The command on the first `threads` cores; as it is where that is all of them, or cannot be set."""
    if not hasattr(os, "sched_getaffinity") or threads >= cores():
        return list(command)
    chosen = sorted(os.sched_getaffinity(0))[:threads]
    start = f"import os, sys; os.sched_setaffinity(0, {chosen}); os.execv(sys.argv[1], sys.argv[1:])"
    return [sys.executable, "-S", "-c", start, *command]


def _others(seconds: float) -> float | None:
    """Cores that are busy now, while this process waits for `seconds`."""
    before, started = _busy_seconds(), time.monotonic()
    time.sleep(seconds)
    after = _busy_seconds()
    return None if before is None or after is None else (after - before) / (time.monotonic() - started)


def _busy_seconds() -> float | None:
    """Seconds in which cores were not idle, summed over cores, since the machine started."""
    try:
        fields = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:9]
    except OSError:
        return None
    user, nice, system, _, _, irq, soft_irq, steal = (int(field) for field in fields)
    return (user + nice + system + irq + soft_irq + steal) / os.sysconf("SC_CLK_TCK")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return os.uname().machine
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "not known")
