"""The rows of a node's day, as the collecting side leaves them in the spool."""

import json
import random
import socket
from datetime import datetime, timedelta, timezone

from agent import PROJECT

WORDS = ("read", "write", "closed", "collect", "ship", "exec", "exit", "sda", "bash", "make", "postgres")


def write_rows(spool, share=1.0):
    """The files of a day at the rates that elk/ilm/row_sizes.json assumes, or of a share of it; the number of rows."""
    rates = json.loads((PROJECT / "elk/ilm/row_sizes.json").read_text())["rows_per_day"]
    end, total = datetime.now(timezone.utc), 0
    for number, (metric, per_day) in enumerate(rates.items()):
        rows = round(per_day * share)
        text = (PROJECT / f"csv-schemas/{metric}.json").read_text()
        schema = json.loads(text)
        fields = schema["fields"]
        (spool / metric).mkdir(parents=True)
        # Without the columns that the build adds (csv-schemas/implied) it is one of an older version.
        (spool / metric / f"schema-v{schema['version']}.json").write_text(text)
        sample = [",".join(value(field) for field in fields[1:]) for _ in range(1000)]
        path = spool / metric / f"{metric}-{number:028x}.v{schema['version']}.csv"
        with open(path, "w", encoding="utf-8") as file:
            file.write(",".join(field["name"] for field in fields) + "\n")
            for row in range(rows):
                at = end - timedelta(days=1) * (1 - row / rows)
                file.write(f"{at:%Y-%m-%dT%H:%M:%S.%fZ},{sample[row % 1000]}\n")
        total += rows
    return total


def value(field):
    name, kind = field["name"], field["type"]
    if name == "host_name":
        return socket.gethostname()
    if name == "rows_lost":
        return ""
    if kind in ("integer", "number"):
        return str(random.randrange(1, 1 << 20))
    if kind == "boolean":
        return "true"
    if "address" in name or name.endswith("_ip"):
        return "127.0.0.1"
    return random.choice(WORDS)
