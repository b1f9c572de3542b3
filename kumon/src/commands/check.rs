//! `kumon check`: what this machine allows.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use kumon_bpf::collectors;

use super::table::Table;
use crate::config::Config;
use crate::dashboards;

/// Prints the machine's facts and each hook's strategy; fails when a metric can't be collected.
///
/// # Errors
/// When nobody reads the output.
pub(crate) fn check(config: &Config) -> io::Result<ExitCode> {
    let mut out = io::stdout().lock();
    let uname = rustix::system::uname();
    writeln!(
        out,
        "kernel         {} {}",
        uname.release().to_string_lossy(),
        uname.machine().to_string_lossy()
    )?;
    writeln!(
        out,
        "BTF            {}",
        if Path::new("/sys/kernel/btf/vmlinux").exists() {
            "yes, /sys/kernel/btf/vmlinux"
        } else {
            "no: a kernel with CONFIG_DEBUG_INFO_BTF is needed (Debian 11, Ubuntu 20.10, RHEL 9 and later have it)"
        }
    )?;
    writeln!(out, "capabilities   {}", capabilities())?;
    let dashboards = dashboards::load(config);
    let mut complete = dashboards.is_ok();
    match dashboards {
        Ok(all) => {
            let folder = config.path.dashboards.display();
            writeln!(out, "dashboards     {}, {} of them from {folder}", all.dashboards.len(), all.own)?;
        }
        Err(e) => writeln!(out, "dashboards     {e}")?,
    }
    writeln!(out)?;

    let mut table = Table::new(&["metric", "event", "strategy"]);
    for collector in collectors(&config.collectors) {
        for hook in collector.probe() {
            complete &= hook.strategy.is_ok();
            let strategy = hook.strategy.map_or_else(|reason| format!("none: {reason}"), str::to_owned);
            table.row([hook.metrics.join(", "), hook.event.to_owned(), strategy]);
        }
    }
    write!(out, "{table}")?;
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The needed ones of CapEff in /proc/self/status (capabilities(7)).
fn capabilities() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    let needed = [("CAP_BPF", 39), ("CAP_PERFMON", 38)];
    let has = |bit: u32| if effective & 1 << bit == 0 { "missing" } else { "yes" };
    needed.map(|(name, bit)| format!("{name} {}", has(bit))).join(", ")
}
