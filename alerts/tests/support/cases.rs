//! Rows, and which groups they make which alert fire for: the same whoever evaluates.

use kumon_alerts::{Alert, Selection, alerts};
use serde_json::{Value, json};

use super::{alert, row};

pub(crate) struct Case {
    pub(crate) alert: Alert,
    pub(crate) rows: Vec<Value>,
    /// The groups that fire, sorted.
    pub(crate) fires: Vec<&'static str>,
}

/// The rows of one metric serve all cases of it that come later, too.
pub(crate) fn cases() -> Vec<Case> {
    let selection = Selection { folder: "/nowhere".into(), ..Selection::default() };
    let defaults = alerts(&selection, &[]).usable;
    let default = |name: &str| defaults.iter().find(|alert| alert.name == name).unwrap().clone();
    let own = |name: &str, text: &str| alert(name, &format!("title: a\nseverity: info\n{text}"));
    let many = |count: usize, fields: Value| (0..count).map(move |_| row(30, &fields));
    let case = |alert, rows: Vec<Value>, fires: &[&'static str]| Case { alert, rows, fires: fires.to_vec() };

    let runqlat = |host: &str, p99: i64, sum: i64| {
        row(
            60,
            &json!({
                "host.name": host, "kumon.interval": 10_000_000_000_i64, "kumon.runqlat.key": "all",
                "kumon.runqlat.count": 100, "kumon.runqlat.sum": sum, "kumon.runqlat.p99": p99,
            }),
        )
    };
    let biolatency = |host: &str, disk: &str, operation: &str, p99: i64| {
        row(
            60,
            &json!({
                "host.name": host, "kumon.disk.name": disk, "kumon.disk.operation": operation,
                "kumon.biolatency.p99": p99,
            }),
        )
    };
    let tcp = |host: &str, end: &str| json!({"host.name": host, "kumon.tcplife.end": end});
    let drop = |reason: &str, class: &str, count: i64| {
        let place = json!({
            "host.name": "a", "kumon.drop.reason": reason, "kumon.drop.class": class, "kumon.drop.count": count,
        });
        row(60, &place)
    };
    let agent = |host: &str, component: &str, seconds: i64, lost: Value| {
        row(
            seconds,
            &json!({"host.name": host, "kumon.agent.component": component, "kumon.agent.lost": lost}),
        )
    };
    let filesystem = |point: &str, seconds: i64, used: f64, inodes: f64, read_only: bool, turned: bool| {
        row(
            seconds,
            &json!({
                "host.name": "full", "system.filesystem.mount_point": point, "system.filesystem.used.pct": used,
                "kumon.filesystem.inodes_used.pct": inodes, "kumon.filesystem.read_only": read_only,
                "kumon.filesystem.turned_read_only": turned,
            }),
        )
    };
    let container = |cgroup: &str, periods: i64, throttled: i64, oom_kills: i64| {
        row(
            60,
            &json!({
                "host.name": "a", "kumon.cgroup.path": cgroup, "kumon.container.cpu.periods": periods,
                "kumon.container.cpu.throttled.periods": throttled,
                "kumon.container.memory.oom_kills": oom_kills,
            }),
        )
    };
    let of_disk =
        row(60, &json!({"host.name": "a", "kumon.cgroup.path": "/disk", "container.disk.read.bytes": 1}));
    let cpu = |host: &str, name: &str, used: f64| {
        row(60, &json!({"host.name": host, "kumon.cpu.name": name, "system.cpu.total.norm.pct": used}))
    };
    let memory = |host: &str, seconds: i64, used: f64, stalled: i64| {
        row(
            seconds,
            &json!({
                "host.name": host, "kumon.interval": 10_000_000_000_i64, "system.memory.actual.used.pct": used,
                "kumon.memory.pressure.full": stalled,
            }),
        )
    };
    vec![
        case(
            default("cpu-usage"),
            vec![
                cpu("busy", "all", 0.99),
                cpu("busy", "all", 0.93),
                cpu("half", "all", 0.5),
                cpu("half", "0", 1.0),
            ],
            &["host.name=busy"],
        ),
        case(
            default("memory-usage"),
            vec![
                memory("full", 30, 0.99, 0),
                memory("full", 90, 0.96, 0),
                memory("peak", 30, 0.99, 0),
                memory("peak", 90, 0.4, 900_000_000),
                memory("stalled", 30, 0.9, 1_500_000_000),
                memory("stalled", 90, 0.9, 700_000_000),
            ],
            &["host.name=full"],
        ),
        case(default("memory-pressure"), vec![], &["host.name=stalled"]),
        case(
            default("container-throttled"),
            vec![
                container("/busy", 100, 20, 0),
                container("/busy", 100, 40, 0),
                container("/idle", 100, 20, 0),
                container("/without a quota", 0, 0, 1),
                of_disk,
            ],
            &["host.name=a, kumon.cgroup.path=/busy"],
        ),
        case(default("container-oom"), vec![], &["host.name=a, kumon.cgroup.path=/without a quota"]),
        case(
            default("packet-drops"),
            vec![
                drop("SOCKET_RCVBUFF", "real", 700),
                drop("SOCKET_RCVBUFF", "real", 400),
                drop("QDISC_DROP", "real", 900),
                drop("NO_SOCKET", "real", 100_000),
                drop("NETFILTER_DROP", "real", 100_000),
                drop("QUEUE_PURGE", "benign", 100_000),
            ],
            &["host.name=a, kumon.drop.reason=SOCKET_RCVBUFF"],
        ),
        case(
            default("run-queue-latency"),
            vec![
                runqlat("busy", 70_000_000, 5000),
                runqlat("busy", 40_000_000, 5000),
                runqlat("idle", 900_000, 100),
            ],
            &["host.name=busy"],
        ),
        case(
            own(
                "ratio",
                "metric: runqlat\naggregation: sum(kumon.runqlat.sum) / sum(kumon.runqlat.count)\nthreshold: '>= 50'\ngroup_by: [host.name]\n",
            ),
            vec![],
            &["host.name=busy"],
        ),
        case(
            own(
                "percentile",
                "metric: runqlat\naggregation: percentile(kumon.runqlat.p99, 50)\nthreshold: '< 1ms'\ngroup_by: [host.name]\n",
            ),
            vec![],
            &["host.name=idle"],
        ),
        case(
            default("disk-latency"),
            vec![
                biolatency("db", "sda", "write", 300_000_000),
                biolatency("db", "sdb", "flush", 900_000_000),
                biolatency("db", "sdb", "read", 1_000_000),
            ],
            &["host.name=db, kumon.disk.name=sda"],
        ),
        case(
            default("slow-queries"),
            many(
                11,
                json!({"host.name": "db", "service.type": "mariadb", "event.duration": 1_500_000_000_i64}),
            )
            .chain(many(
                11,
                json!({"host.name": "db", "service.type": "postgresql", "event.duration": 20_000_000}),
            ))
            .collect(),
            &["host.name=db, service.type=mariadb"],
        ),
        case(
            default("failed-execs"),
            many(501, json!({"host.name": "a", "event.action": "exec-failed"}))
                .chain(many(500, json!({"host.name": "b", "event.action": "exec-failed"})))
                .chain(many(501, json!({"host.name": "c", "event.action": "exec"})))
                .collect(),
            &["host.name=a"],
        ),
        case(
            own(
                "few-rows",
                "metric: exec\nquery: process.name:nobody\naggregation: count\nthreshold: '< 1'\n",
            ),
            vec![],
            &[""],
        ),
        case(
            own("too-old", "metric: exec\naggregation: count\nthreshold: '> 0'\nwindow: 10s\n"),
            vec![],
            &[],
        ),
        case(
            default("tcp-failures"),
            ["refused", "timed_out", "reset_by_peer", "failed"]
                .into_iter()
                .flat_map(|end| many(26, tcp("web", end)))
                .chain(many(200, tcp("ok", "closed")))
                .chain(many(200, tcp("ok", "reset")))
                .collect(),
            &["host.name=web"],
        ),
        case(
            default("agent-losses"),
            vec![
                agent("lossy", "collect", 20, json!(3)),
                agent("sound", "collect", 20, json!(0)),
                agent("gone", "collect", 3600, json!(null)),
                agent("gone", "ship", 20, json!(null)),
            ],
            &["host.name=lossy"],
        ),
        case(
            default("disk-space"),
            vec![
                filesystem("/", 30, 0.95, 0.2, false, false),
                filesystem("/", 90, 0.91, 0.2, false, false),
                filesystem("/peak", 30, 0.97, 0.2, false, false),
                filesystem("/peak", 90, 0.3, 0.2, false, false),
                filesystem("/image", 30, 1.0, 1.0, true, false),
                filesystem("/many", 30, 0.1, 0.93, false, false),
                filesystem("/broken", 30, 0.1, 0.1, true, true),
            ],
            &["host.name=full, system.filesystem.mount_point=/"],
        ),
        case(default("inodes"), vec![], &["host.name=full, system.filesystem.mount_point=/many"]),
        case(
            default("filesystem-read-only"),
            vec![],
            &["host.name=full, system.filesystem.mount_point=/broken"],
        ),
        case(default("node-silent"), vec![], &["host.name=gone"]),
        case(
            own(
                "storm",
                "metric: filelife\naggregation: count\nthreshold: '> 20'\ngroup_by: [host.name, process.name]\n",
            ),
            many(21, json!({"host.name": "build", "process.name": "cc1"})).collect(),
            &["host.name=build, process.name=cc1"],
        ),
    ]
}
