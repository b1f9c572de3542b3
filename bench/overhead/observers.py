"""What observes the loads: nobody, KuMon, or the tools of libbpf-tools that give the same data."""

import contextlib
import json
import subprocess
import time
from pathlib import Path

from process import Process

# KuMon's runqlat, runqslower, cputime, exec, exit, biolatency, bitesize and tcplife, with its default intervals.
ORIGINALS = [
    "runqlat 10",
    "runqslower 10000",
    "cpudist -P 10",
    "cpudist -O -P 10",
    "execsnoop",
    "exitsnoop",
    "biolatency -D -F 10",
    "bitesize 10",
    "tcplife",
]
# Need tracepoints on system calls, so they are off by default. filelife's original is made of kprobes, which not every
# kernel has (this bench leaves it out); filegone's and dbslower's are only in bcc, which compiles with kernel headers.
FILE_METRICS = {name: {"enabled": True, "max_rows_per_second": 0} for name in ("filelife", "filegone")}
# The originals write each event, and so does KuMon here: the default budgets would leave out most of what the loads make.
ALL_ROWS = {name: {"max_rows_per_second": 0} for name in ("exec", "exit", "runqslower", "tcplife", "dbslower")}
# Some originals attach through tracefs. A mount of their own leaves the machine's as they are.
PRIVATE_TRACEFS = (
    "mountpoint -q /sys/kernel/tracing || mount -t tracefs tracefs /sys/kernel/tracing; "
    "mountpoint -q /sys/kernel/debug || mount -t debugfs debugfs /sys/kernel/debug; "
    'exec "$@"'
)
START_LIMIT = 30  # seconds
# Loading, and what follows the first look at all processes, isn't the cost of observing.
SETTLE = 2


def bare(_folder):
    return contextlib.nullcontext([])


def kumon(program):
    return lambda folder: _kumon(program, folder, ALL_ROWS)


def kumon_with_files(program):
    return lambda folder: _kumon(program, folder, ALL_ROWS | FILE_METRICS)


@contextlib.contextmanager
def _kumon(program, folder, collectors):
    config = {"path": {part: f"{folder}/{part}" for part in ("spool", "state")}, "collectors": collectors}
    (folder / "kumon.yml").write_text(json.dumps(config))  # JSON is YAML
    options = ["--config", folder / "kumon.yml"]
    with Process(with_tracefs([program, "collect", *options]), folder) as process:
        _wait([process], lambda: _collects(program, options, process))
        yield [process]


def _collects(program, options, process):
    said = subprocess.run([program, "status", "--json", *options], capture_output=True, check=False).stdout
    status = json.loads(said or "{}").get("collect")
    if status and status["failed"]:
        raise SystemExit(f"kumon collect leaves some out, so that nothing compares: {status['failed']}")
    return bool(status) and bool(program_ids([process]))


@contextlib.contextmanager
def originals(folder):
    with contextlib.ExitStack() as stack:
        processes = []
        for number, line in enumerate(ORIGINALS):
            place = folder / str(number)
            place.mkdir()
            # They write into a file, as KuMon does.
            processes.append(stack.enter_context(Process(with_tracefs(line.split()), place)))
        _wait(processes, lambda: all(program_ids([process]) for process in processes))
        yield processes


def with_tracefs(command):
    return ["unshare", "--mount", "sh", "-c", PRIVATE_TRACEFS, "sh", *command]


def _wait(processes, ready):
    deadline = time.monotonic() + START_LIMIT
    while not ready():
        for process in processes:
            if process.poll() or time.monotonic() > deadline:
                raise SystemExit(f"{process.command[-2:]} doesn't start: {process.output()}")
        time.sleep(0.1)
    time.sleep(SETTLE)


def program_ids(processes):
    """The BPF programs that the processes hold open, by themselves or by a link."""
    ids = set()
    for process in processes:
        with contextlib.suppress(FileNotFoundError):
            for file in Path(f"/proc/{process.pid}/fdinfo").iterdir():
                ids |= {int(line.split()[1]) for line in _lines(file) if line.startswith("prog_id:")}
    return ids


def _lines(file):
    try:
        return file.read_text().splitlines()
    except FileNotFoundError:  # closed meanwhile
        return []
