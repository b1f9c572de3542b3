"""A program under test: what it costs, and that it ends."""

import os
import resource
import signal
import subprocess
import time
from pathlib import Path

STOP_LIMIT = 30  # seconds from SIGTERM to SIGKILL


class Process:
    """Runs while the `with` block does. Its costs are those of one process, without its children's."""

    def __init__(self, command, folder, environment=None):
        self.command, self.folder = command, folder
        self.environment = {**os.environ, **(environment or {})}
        # A developer's setting: with it each error of a Rust program walks the stack, which maps 1 to 2 MB of its file.
        self.environment.pop("RUST_BACKTRACE", None)
        self.cpu_seconds = None

    def __enter__(self):
        with open(self.folder / "output", "ab") as output:
            self.process = subprocess.Popen(
                self.command, cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        self.pid = self.process.pid
        return self

    def __exit__(self, *_):
        self.stop()

    def poll(self):
        """Whether it has ended: None while it runs. Leaves it to stop() to reap it, for the sake of its times."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)

    def cpu_now(self):
        """Seconds on a CPU so far, of all its threads, ended ones too (clock_getcpuclockid(3))."""
        return time.clock_gettime(~self.pid << 3 | 2)

    def memory(self, key):
        """MiB; `VmHWM` is the most that was resident, `VmRSS` what is now (proc_pid_status(5))."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(key + ":"):
                return int(line.split()[1]) / 1024
        raise SystemExit(f"{self.command[0]} has ended: {self.output()}")

    def stop(self):
        """Ends it; `cpu_seconds` is then what it took from its start to its end."""
        if self.cpu_seconds is not None:
            return
        os.kill(self.pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_LIMIT
        while self.poll() is None:
            if time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
            time.sleep(0.01)
        _, status, used = os.wait4(self.pid, 0)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        self.cpu_seconds = used.ru_utime + used.ru_stime

    def output(self):
        return (self.folder / "output").read_text(errors="replace")[-2000:]


def machine_busy():
    """Seconds that the machine's cores were not idle, since it started (proc_stat(5))."""
    user, nice, system, _idle, _iowait, irq, softirq, *_ = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def own_cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
