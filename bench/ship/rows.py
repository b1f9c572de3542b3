"""The rows that are shipped: a web server's log, about 260 bytes a row as NDJSON, the same content as CSV."""

import datetime
import random

# What a CSV file doesn't say by itself: columns in order, with their Frictionless types.
COLUMNS = {
    "@timestamp": "datetime",
    "seq": "integer",
    "service": "string",
    "method": "string",
    "path": "string",
    "status": "integer",
    "duration_us": "number",
    "bytes": "integer",
    "client": "string",
    "agent": "string",
}
SCHEMA = {"name": "bench", "fields": [{"name": name, "type": type} for name, type in COLUMNS.items()]}

SERVICES = ["checkout", "catalogue", "accounts", "search", "payments"]
METHODS = ["GET", "GET", "GET", "POST", "PUT", "DELETE"]
STATUSES = [200, 200, 200, 201, 204, 304, 404, 500]
AGENTS = [
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)",
    "Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101",
    "curl/7.88.1",
]
NDJSON = (
    '{"@timestamp":"%s","seq":%d,"service":"%s","method":"%s","path":"%s","status":%d,'
    '"duration_us":%.2f,"bytes":%d,"client":"%s","agent":"%s"}\n'
)
CSV = '%s,%d,%s,%s,%s,%d,%.2f,%d,%s,"%s"\n'


def write(folder, count):
    """Writes rows.ndjson and rows.csv; every run gets the same ones."""
    with open(folder / "rows.ndjson", "w", encoding="ascii") as ndjson, open(folder / "rows.csv", "w", encoding="ascii") as csv:
        csv.write(",".join(COLUMNS) + "\n")
        for values in rows(count):
            ndjson.write(NDJSON % values)
            csv.write(CSV % values)


def rows(count, first=0):
    pick = random.Random(first)
    time = datetime.datetime(2026, 11, 20, 12)
    for number in range(first, first + count):
        time += datetime.timedelta(microseconds=pick.randrange(50, 900))
        yield (
            time.isoformat(timespec="microseconds") + "Z",
            number,
            pick.choice(SERVICES),
            pick.choice(METHODS),
            f"/api/v1/orders/{pick.randrange(10_000_000):07}/items",
            pick.choice(STATUSES),
            pick.expovariate(1 / 2500),
            pick.randrange(200, 90_000),
            f"10.{pick.randrange(256)}.{pick.randrange(256)}.{pick.randrange(256)}",
            pick.choice(AGENTS),
        )


def row_of_now(number, now):
    """A row that says when it was written (ns since 1970)."""
    return f'{{"@timestamp":"2026-11-20T12:00:00.000000Z","seq":{number},"sent":{now},"service":"checkout"}}\n'
