//! `kumon check`: what this machine allows.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use kumon_bpf::capabilities;
use kumon_collect::{Hook, LeftOut, Refusal, unreadable_runtimes};
use serde_json::{Value, json};

use super::table::Table;
use crate::agent::{Override, Switches, metrics_on, with_overrides};
use crate::config::Config;
use crate::{alerts, dashboards};

const BTF: &str = "/sys/kernel/btf/vmlinux";

/// What was found out.
struct Findings {
    kernel: String,
    has_btf: bool,
    /// By name.
    capabilities: [(&'static str, bool); 2],
    /// How many there are, or what is wrong with one.
    dashboards: Result<String, String>,
    /// The same of alerts.
    alerts: Result<String, String>,
    /// Folders of container runtimes that can't be looked into, and why.
    unreadable_runtimes: Vec<String>,
    hooks: Vec<Hook>,
    left_out: Vec<LeftOut>,
    /// Metrics that the configuration switches off.
    disabled: Vec<&'static str>,
    /// What is saved over it (`kumon collectors`), by metric, or why that can't be read.
    switched: Result<BTreeMap<String, Override>, String>,
}

/// Prints the machine's facts and each hook's strategy; fails when a metric can't be collected, or a dashboard or an
/// alert is wrong.
///
/// # Errors
/// When nobody reads the output.
pub(crate) fn check(config: &Config, as_json: bool) -> io::Result<ExitCode> {
    let findings = Findings::of(config);
    let mut out = io::stdout().lock();
    if as_json {
        writeln!(out, "{}", findings.json())?;
    } else {
        findings.print(&mut out)?;
    }
    let right = findings.dashboards.is_ok() && findings.alerts.is_ok();
    let complete = findings.hooks.iter().all(|hook| hook.strategy.is_ok());
    Ok(if right && complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Findings {
    fn of(config: &Config) -> Findings {
        let uname = rustix::system::uname();
        let saved = Switches::saved_in(&config.path.collect());
        let switched = saved.map(|saved| saved.overrides(&metrics_on(&config.collectors)));
        let collectors = match &switched {
            Ok(overrides) => with_overrides(&config.collectors, overrides),
            Err(_) => config.collectors.clone(),
        };
        // As the agent would collect after its next start.
        let config = &Config { collectors, ..config.clone() };
        Findings {
            kernel: format!("{} {}", uname.release().to_string_lossy(), uname.machine().to_string_lossy()),
            has_btf: Path::new(BTF).exists(),
            capabilities: capabilities(),
            dashboards: count_dashboards(config),
            alerts: count_alerts(config),
            unreadable_runtimes: unreadable_runtimes()
                .into_iter()
                .map(|(folder, why)| format!("{}: {why}", folder.display()))
                .collect(),
            hooks: config.collectors.hooks(),
            left_out: config.collectors.left_out(),
            disabled: config.disabled_metrics(),
            switched,
        }
    }

    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "kernel         {}", self.kernel)?;
        let btf = if self.has_btf {
            "yes, /sys/kernel/btf/vmlinux"
        } else {
            "no: a kernel with CONFIG_DEBUG_INFO_BTF is needed (Debian 11, Ubuntu 20.10, RHEL 9 and later have it)"
        };
        writeln!(out, "BTF            {btf}")?;
        let capabilities = self.capabilities.iter();
        let capabilities: Vec<String> = capabilities
            .map(|(name, has)| format!("{name} {}", if *has { "yes" } else { "missing" }))
            .collect();
        writeln!(out, "capabilities   {}", capabilities.join(", "))?;
        for (name, found) in [("dashboards", &self.dashboards), ("alerts", &self.alerts)] {
            let (Ok(text) | Err(text)) = found;
            writeln!(out, "{name:<14} {}", text.replace('\n', "\n               "))?;
        }
        if !self.unreadable_runtimes.is_empty() {
            let folders = self.unreadable_runtimes.join("\n               ");
            let what = "some have no names in rows: CAP_DAC_READ_SEARCH is missing, see docs/install.md";
            writeln!(out, "containers     {what}\n               {folders}")?;
        }
        self.print_switched(out)?;
        writeln!(out)?;

        let mut table = Table::new(&["metric", "event", "strategy"]);
        let common = self.common_reasons();
        for hook in &self.hooks {
            let strategy = match &hook.strategy {
                Ok(strategy) => (*strategy).to_owned(),
                Err(reason) if common.contains(&reason) => "none: see below".to_owned(),
                Err(reason) => format!("none: {reason}"),
            };
            table.row([hook.metrics.join(", "), hook.event.to_owned(), strategy]);
        }
        for metric in &self.left_out {
            table.row([metric.metric.to_owned(), "-".to_owned(), format!("off: {}", metric.reason)]);
        }
        for metric in &self.disabled {
            let reason = match self.switched.as_ref().is_ok_and(|switched| switched.contains_key(*metric)) {
                true => format!("disabled: by a saved switch ('kumon collectors enable {metric} --save')"),
                false => format!("disabled: collectors.{metric}.enabled is false"),
            };
            table.row([(*metric).to_owned(), "-".to_owned(), reason]);
        }
        write!(out, "{table}")?;
        for reason in common {
            writeln!(out, "\nnone: {reason}")?;
        }
        self.print_refusals(out)
    }

    fn print_switched(&self, out: &mut impl Write) -> io::Result<()> {
        let switched = match &self.switched {
            Ok(switched) if switched.is_empty() => return Ok(()),
            Ok(switched) => {
                let on = |enabled| if enabled { "on" } else { "off" };
                let each = switched.iter().map(|(metric, of)| format!("{metric} {}", on(of.enabled)));
                format!("{}: saved ones, over the configuration", each.collect::<Vec<_>>().join(", "))
            }
            Err(why) => why.clone(),
        };
        writeln!(out, "switches       {switched}")
    }

    /// Why several hooks have no strategy: without a capability most of them have the same long reason.
    fn common_reasons(&self) -> Vec<&String> {
        let mut counts = BTreeMap::new();
        for reason in self.hooks.iter().filter_map(|hook| hook.strategy.as_ref().err()) {
            *counts.entry(reason).or_insert(0) += 1;
        }
        counts.into_iter().filter(|(_, count)| *count > 2).map(|(reason, _)| reason).collect()
    }

    /// The hooks of a metric climb their ladder together, so each reason is told once.
    fn print_refusals(&self, out: &mut impl Write) -> io::Result<()> {
        let of_hooks = self.hooks.iter().map(|hook| (hook.metrics.clone(), &hook.refused));
        let of_left_out = self.left_out.iter().map(|left_out| (vec![left_out.metric], &left_out.refused));
        let mut refused: Vec<(BTreeSet<&str>, &Refusal)> = Vec::new();
        for (metrics, refusals) in of_hooks.chain(of_left_out) {
            for refusal in refusals {
                match refused.iter_mut().find(|(_, known)| *known == refusal) {
                    Some((of, _)) => of.extend(&metrics),
                    None => refused.push((metrics.iter().copied().collect(), refusal)),
                }
            }
        }
        if refused.is_empty() {
            return Ok(());
        }
        let mut table = Table::new(&["metric", "better strategy", "why this kernel refuses it"]);
        for (metrics, refusal) in refused {
            let metrics: Vec<&str> = metrics.into_iter().collect();
            table.row([metrics.join(", "), refusal.strategy.to_owned(), refusal.reason.clone()]);
        }
        write!(out, "\n{table}")
    }

    fn json(&self) -> Value {
        let refused = |refusals: &[Refusal]| -> Vec<Value> {
            refusals.iter().map(|of| json!({"strategy": of.strategy, "reason": of.reason})).collect()
        };
        let hook = |hook: &Hook| {
            json!({
                "metrics": hook.metrics,
                "event": hook.event,
                "strategy": hook.strategy.as_ref().ok(),
                "reason": hook.strategy.as_ref().err(),
                "refused": refused(&hook.refused),
            })
        };
        let left_out =
            |of: &LeftOut| json!({"metric": of.metric, "reason": of.reason, "refused": refused(&of.refused)});
        let capabilities =
            self.capabilities.iter().map(|(name, has)| ((*name).to_owned(), Value::Bool(*has)));
        json!({
            "kernel": self.kernel,
            "btf": self.has_btf,
            "capabilities": Value::Object(capabilities.collect()),
            "dashboards_error": self.dashboards.as_ref().err(),
            "alerts_error": self.alerts.as_ref().err(),
            "unreadable_runtimes": self.unreadable_runtimes,
            "hooks": self.hooks.iter().map(hook).collect::<Vec<_>>(),
            "disabled": self.disabled,
            "switched": self.switched.as_ref().ok(),
            "switches_error": self.switched.as_ref().err(),
            "left_out": self.left_out.iter().map(left_out).collect::<Vec<_>>(),
        })
    }
}

fn count_dashboards(config: &Config) -> Result<String, String> {
    let all = dashboards::load(config).map_err(|e| e.to_string())?;
    let folder = config.path.dashboards.display();
    Ok(format!("{}, {} of them from {folder}", all.dashboards.len(), all.own))
}

fn count_alerts(config: &Config) -> Result<String, String> {
    let all = alerts::load_all(config).map_err(|e| e.to_string())?;
    let on = all.iter().filter(|alert| alert.enabled).count();
    if !config.alerts.enabled {
        return Ok(format!("{}, none of them evaluated: alerts.enabled is false", all.len()));
    }
    Ok(format!("{}, {on} of them on", all.len()))
}
