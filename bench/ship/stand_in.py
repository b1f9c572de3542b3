"""The stand-in for Elasticsearch (sink/) as seen from the benchmark."""

import json
import subprocess
import time
import urllib.request
from pathlib import Path

CRATE = Path(__file__).resolve().parent / "sink"
PROGRAM = CRATE / "target/release/bulk-sink"
# A proxy in the environment has no business with 127.0.0.1.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def build():
    subprocess.run(["cargo", "build", "--release", "--locked", "--quiet"], cwd=CRATE, check=True)


class Sink:
    """Listens while the `with` block runs."""

    def __enter__(self):
        # It ends with its standard input: also when this program is killed.
        self.process = subprocess.Popen([PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        said = self.process.stdout.readline()
        if not said.startswith("listening on "):
            self.process.wait()
            raise SystemExit("the stand-in for Elasticsearch didn't start")
        self.url = "http://" + said.split()[-1]
        self.host, self.port = said.split()[-1].split(":")
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()

    def reset(self, rows):
        """Forgets everything and expects the rows 0 to `rows` - 1."""
        self._ask(f"/reset?rows={rows}")

    def wait(self, process, stalled_after=30):
        """Until all rows are there, the process has ended, or nothing has come for that many seconds."""
        seen, since = -1, time.monotonic()
        while process.poll() is None and time.monotonic() - since < stalled_after:
            # Waits in the stand-in: asking again and again would take time from the shipper.
            self._ask("/wait?seconds=1")
            report = self.report()
            if report["missing"] == 0:
                return
            if report["rows"] != seen:
                seen, since = report["rows"], time.monotonic()

    def report(self):
        return self._ask("/report")

    def _ask(self, path):
        with OPENER.open(self.url + path, timeout=60) as answer:
            return json.load(answer)
