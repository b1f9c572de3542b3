"""What is run bare and under observation: each load a command that does a fixed amount of work."""

import os
import resource
import shlex
import socket
import subprocess
import sys
import time

# One to three seconds each.
AMOUNTS = {
    "sched pipe": 1_000_000,
    "sched messaging": 800,
    "fork and exec": 4_000,
    "random reads": 100_000,
    "connections": 30_000,
    "getppid": 20_000_000,
    "open and close": 1_000_000,
}
PROGRAMS = {"perf": "linux-perf", "fio": "fio"}
FORK_EXEC = "i=0; while [ $i -lt {} ]; do /bin/true; i=$((i+1)); done"
# Some reads are under way at any time; the file is larger than what a disk's own cache makes instant.
READS = (
    "fio --name=reads --filename={folder}/reads --size=256M --io_size={bytes} --rw=randread --bs=4k --direct=1 "
    "--ioengine=libaio --iodepth=16 --randseed=7 --output=/dev/null"
)
# Fewer than there are ports: those of closed connections stay taken for a minute, by the listener's port.
CONNECTIONS_PER_LISTENER = 5_000


def commands(folder, scale):
    """By load. All on one core: else a run takes once or twice as long, as the scheduler happens to place it."""
    pinned = ["taskset", "--cpu-list", str(max(os.sched_getaffinity(0)))]
    amount = {name: max(1, int(full * scale)) for name, full in AMOUNTS.items()}
    loads = {
        "sched pipe": ["perf", "bench", "sched", "pipe", "-l", str(amount["sched pipe"])],
        "sched messaging": ["perf", "bench", "sched", "messaging", "-g", "5", "-l", str(amount["sched messaging"])],
        "fork and exec": ["sh", "-c", FORK_EXEC.format(amount["fork and exec"])],
        "random reads": shlex.split(READS.format(folder=folder, bytes=amount["random reads"] * 4096)),
        "connections": [sys.executable, __file__, "connect", str(amount["connections"])],
        "getppid": ["perf", "bench", "syscall", "basic", "-l", str(amount["getppid"])],
        "open and close": [sys.executable, __file__, "open_and_close", str(amount["open and close"])],
    }
    return {name: [*pinned, *command] for name, command in loads.items()}


def prepare(folder):
    """Lays the file out, which would otherwise fall on the first run."""
    run(["fio", "--name=reads", f"--filename={folder}/reads", "--size=256M", "--rw=write", "--bs=1M", "--output=/dev/null"])
    os.sync()


def run(command):
    """Seconds by the clock, and seconds on a CPU of it and its children."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
    wall, after = time.monotonic() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def connect(count):
    """TCP sessions over loopback, one after another, of 100 bytes each way."""
    while count > 0:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            for _ in range(min(count, CONNECTIONS_PER_LISTENER)):
                with socket.create_connection(listener.getsockname()) as client, listener.accept()[0] as server:
                    for sender, receiver in ((client, server), (server, client)):
                        sender.sendall(b"x" * 100)
                        receiver.recv(100)
        count -= CONNECTIONS_PER_LISTENER


def open_and_close(count):
    for _ in range(count):
        os.close(os.open("/dev/null", os.O_RDONLY))


if __name__ == "__main__":
    {"connect": connect, "open_and_close": open_and_close}[sys.argv[1]](int(sys.argv[2]))
