"""A real Elasticsearch for a benchmark, see elk/fixture/es9."""

import base64
import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

from agent import PROJECT

FIXTURE = PROJECT / "elk/fixture/es9"
PASSWORD = "kumon-bench"
LIMIT = 60  # seconds for one request


class Elasticsearch:
    """A real node on 127.0.0.1 with its files in the folder, stopped at the end."""

    def __init__(self, folder, heap="512m"):
        self.folder, self.heap = folder, heap

    def __enter__(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        # Whoever is the guardian's child is stopped with it, however this benchmark ends.
        environment = {**os.environ, "PASSWORD": PASSWORD, "HEAP": self.heap, "GUARDIAN": str(os.getpid())}
        start = [FIXTURE / "start", f"{self.folder}/node", str(port)]
        subprocess.run(start, env=environment, stdout=subprocess.DEVNULL, check=True)
        self.url = f"http://127.0.0.1:{port}"
        return self

    def __exit__(self, *_):
        subprocess.run([FIXTURE / "stop", f"{self.folder}/node"], stdout=subprocess.DEVNULL, check=True)

    def cpu_now(self):
        """Seconds on a CPU so far, of all its threads (clock_getcpuclockid(3))."""
        pid = int((Path(self.folder) / "node/pid").read_text())
        return time.clock_gettime(~pid << 3 | 2)

    def output(self):
        """What `output.elasticsearch` takes to ship there."""
        password = Path(self.folder) / "password"
        password.write_text(PASSWORD)
        return {"hosts": [self.url], "username": "elastic", "password_file": str(password)}

    def request(self, method, path, body=None):
        """Status and answer, an object."""
        request = urllib.request.Request(
            f"{self.url}/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Content-Type": "application/json",
                "Authorization": "Basic " + base64.b64encode(f"elastic:{PASSWORD}".encode()).decode(),
            },
        )
        # A proxy in the environment has no business with 127.0.0.1.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=LIMIT) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)
