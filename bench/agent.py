"""What the benchmarks share: a `kumon run` of the release build with folders of its own."""

import json
import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
# Where speed isn't measured, another build will do.
KUMON = Path(os.environ.get("KUMON", PROJECT / "target/release/kumon"))


class Agent:
    """Runs while the `with` block does; its spool and state are deleted afterwards."""

    def __init__(self, output=None, collectors=None):
        self.output, self.collectors = output, collectors

    def __enter__(self):
        if os.geteuid() != 0:
            raise SystemExit("loading BPF programs needs root: run this with sudo")
        if not KUMON.exists():
            raise SystemExit(f"{KUMON} is missing: cargo build --release --locked -p kumon")
        self.folder = tempfile.TemporaryDirectory(prefix="kumon-bench-")
        self.config = Path(self.folder.name) / "kumon.yml"
        config = {"path": {part: f"{self.folder.name}/{part}" for part in ("spool", "state")}}
        if self.output:
            config["output"] = self.output
        if self.collectors:
            config["collectors"] = self.collectors
        self.config.write_text(json.dumps(config))  # JSON is YAML
        if self.output:
            code, said = self.run("setup")
            if code != 0:
                raise SystemExit(f"kumon setup failed:\n{said}")
        self.log = open(Path(self.folder.name) / "log", "w+", encoding="utf-8")
        self.process = subprocess.Popen([KUMON, "run", "--config", self.config], stdout=self.log, stderr=self.log)
        try:
            self._wait_until_healthy()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.folder.cleanup()

    def run(self, *arguments):
        """Another command of the same configuration; its exit code and output."""
        command = [KUMON, *arguments, "--config", self.config]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    def _wait_until_healthy(self):
        deadline = time.monotonic() + 60
        while self.run("status")[0] != 0:
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.log.seek(0)
                raise SystemExit(f"kumon run does not get healthy:\n{self.log.read()}{self.run('status')[1]}")
            time.sleep(0.2)


def percentile(sorted_values, percent):
    """The nearest rank."""
    rank = max(1, -(-len(sorted_values) * percent // 100))
    return sorted_values[int(rank) - 1]
