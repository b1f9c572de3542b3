"""The shippers that are compared, each set up as fast as it goes without losing rows."""

import json
import os
import shutil
from pathlib import Path

from rows import COLUMNS, SCHEMA


class KuMon:
    name = "KuMon"
    packages = ()
    formats = ("ndjson", "ndjson gzip", "csv")

    def __init__(self, program, _folder):
        # A copy: a build meanwhile must not replace it in mid-run.
        self.program = program

    def missing(self):
        return None

    def command(self, folder, sink, case):
        form, *gzip = case.split()
        rows = {"paths": [f"{folder}/in/*"], "format": form, "dataset": "bench"}
        if form == "csv":
            (folder / "schema.json").write_text(json.dumps(SCHEMA))
            rows["schema"] = f"{folder}/schema.json"
        config = {
            "path": {part: f"{folder}/{part}" for part in ("spool", "state")},
            "output": {"elasticsearch": {"hosts": [sink.url], "compression": "gzip" if gzip else "none"}},
            "inputs": [rows],
        }
        (folder / "kumon.yml").write_text(json.dumps(config))  # JSON is YAML
        return [self.program, "ship", "--config", folder / "kumon.yml"], {}


class Packaged:
    """A shipper from a distribution's package, installed or unpacked in a folder."""

    def __init__(self, _program, folder):
        self.root = folder
        here = folder / f"usr/sbin/{self.executable}" if folder else None
        self.program = str(here) if here and here.exists() else shutil.which(self.executable, path=search_path())
        self.unpacked = bool(self.program) and bool(folder) and self.program.startswith(str(folder))

    def missing(self):
        if self.program and self.modules():
            return None
        return f"{self.name} (packages {' '.join(self.packages)})"

    def modules(self):
        """The folder with the module that speaks HTTP."""
        base = self.root if self.unpacked else Path("/")
        return next((path.parent for path in sorted(base.glob(f"usr/lib/{self.module}"))), None)

    def environment(self):
        if not self.unpacked:
            return {}
        libraries = sorted({str(path.parent) for path in self.root.glob("usr/lib/**/*.so*")})
        return {"LD_LIBRARY_PATH": ":".join(libraries)}


class SyslogNg(Packaged):
    name = "syslog-ng"
    executable = "syslog-ng"
    packages = ("syslog-ng-core", "syslog-ng-mod-http")
    module = "syslog-ng/*/libhttp.so"
    # Its http() destination compresses from version 4 on.
    formats = ("ndjson", "csv")

    def command(self, folder, sink, case):
        (folder / "state").mkdir(exist_ok=True)
        parser = CSV_PARSER if case == "csv" else ""
        body = "$(format-json --subkeys row.)" if case == "csv" else "$MESSAGE"
        config = SYSLOG_NG.format(version=self.modules().name, folder=folder, url=sink.url, parser=parser, body=body)
        (folder / "syslog-ng.conf").write_text(config)
        state = [f"--persist-file={folder}/state/persist", f"--control={folder}/state/control"]
        state += [f"--pidfile={folder}/state/pid", f"--module-path={self.modules()}"]
        return [self.program, "--foreground", "--no-caps", f"--cfgfile={folder}/syslog-ng.conf", *state], self.environment()


SYSLOG_NG = """@version: {version}
options {{ stats-freq(0); log-msg-size(65536); use-dns(no); keep-hostname(yes); log-fifo-size(200000); }};
source rows {{
  wildcard-file(base-dir("{folder}/in") filename-pattern("*") max-files(200) flags(no-parse) follow-freq(1)
    log-fetch-limit(10000) log-iw-size(20000000));
}};
destination sink {{
  http(url("{url}/_bulk") method("POST") headers("Content-Type: application/x-ndjson") delimiter("\\n") body-suffix("\\n")
    body("{{\\"index\\":{{\\"_index\\":\\"bench\\"}}}}\\n{body}")
    batch-lines(5000) batch-bytes(10Mb) workers(2));
}};
log {{ source(rows); {parser} destination(sink); flags(flow-control); }};
"""
COLUMN_LIST = ", ".join(f'"{name}"' for name in COLUMNS)
CSV_PARSER = f"""parser {{ csv-parser(columns({COLUMN_LIST}) prefix("row.") delimiters(",") quotes('"') flags(escape-double-char)); }};"""


class Rsyslog(Packaged):
    name = "rsyslog"
    executable = "rsyslogd"
    packages = ("rsyslog", "rsyslog-elasticsearch")
    module = "*/rsyslog/omelasticsearch.so"
    # It has no parser of CSV with quotes, and its Elasticsearch output doesn't compress.
    formats = ("ndjson",)

    def command(self, folder, sink, _case):
        (folder / "state").mkdir(exist_ok=True)
        (folder / "rsyslog.conf").write_text(RSYSLOG % {"folder": folder, "host": sink.host, "port": sink.port})
        options = ["-n", "-f", folder / "rsyslog.conf", "-i", folder / "state/pid", "-M", self.modules()]
        return [self.program, *options], self.environment()


RSYSLOG = """
global(workDirectory="%(folder)s/state" maxMessageSize="64k")
module(load="imfile" mode="inotify")
module(load="omelasticsearch")
template(name="row" type="string" string="%%msg%%")
input(type="imfile" File="%(folder)s/in/*" Tag="row" ruleset="ship" addMetadata="off" persistStateInterval="1000")
ruleset(name="ship" queue.type="LinkedList" queue.size="200000" queue.dequeueBatchSize="5000"
        queue.workerThreads="2" queue.workerThreadMinimumMessages="20000") {
  action(type="omelasticsearch" server="%(host)s" serverport="%(port)s" template="row" searchIndex="bench" searchType=""
         bulkmode="on" maxbytes="10m" action.resumeRetryCount="-1" action.resumeInterval="2")
}
"""


def search_path():
    """With the folder for programs of the system, which users' paths lack."""
    return os.environ.get("PATH", "") + ":/usr/sbin"


ALL = (KuMon, SyslogNg, Rsyslog)
