//! Supervision: starts the parts, keeps them going, reloads the configuration, and stops cleanly.

use std::fs;
use std::io::IsTerminal;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use kumon_bpf::NETWORK_METRICS;
use kumon_shipper::Ended;
use rustix::fs::Mode;
use rustix::process::umask;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::collect::{Collecting, OnOff, metrics_on};
use super::ship::Shipping;
use super::summary::Summary;
use crate::config::{self, Collected, Config, DEFAULT_FILE};
use crate::explain;
use crate::web::WebServer;

/// What this process does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parts {
    pub(crate) collect: Option<Collected>,
    pub(crate) ship: bool,
}

impl Parts {
    /// The configuration as it is for this process.
    fn of(self, config: Config) -> Config {
        self.collect.map_or(config.clone(), |collected| config.of(collected))
    }
}

/// Status files, the live summary and the configuration's date are looked after so often.
const ROUND: Duration = Duration::from_secs(1);
/// How long a stop may take to deliver what stands in the files; the rest is delivered after the next start.
const STOP_LIMIT: Duration = Duration::from_secs(5);
/// With `--duration` the run is to end with everything delivered, so it may wait for its sink.
const DURATION_STOP_LIMIT: Duration = Duration::from_secs(60);
/// What a request or a commit that is under way may take beyond that.
const GRACE: Duration = Duration::from_secs(2);

/// Why a round of running ended.
enum End {
    Signal,
    Duration,
    Reload(Box<Config>),
    /// An output that had failed can be opened.
    OutputIsBack,
}

/// Runs until a signal, or for `duration`.
///
/// # Errors
/// When a part can't be started, or dies.
pub(crate) fn run(
    parts: Parts,
    config: Config,
    config_file: Option<PathBuf>,
    duration: Option<Duration>,
) -> Result<ExitCode> {
    close_to_others();
    let signals = signals()?;
    let config_file = config_file.unwrap_or_else(|| DEFAULT_FILE.into());
    // What ends beyond all times doesn't end.
    let deadline = duration.and_then(|duration| Instant::now().checked_add(duration));
    if parts.collect == Some(Collected::WithoutNetwork) {
        log_left_out(&config);
    }
    let mut config = parts.of(config);
    let mut stamp = Stamp::of(&config_file);
    let mut agent = Agent::start(parts, &config, &mut Before::default())?;
    loop {
        let end = agent.watch(parts, &config, &config_file, &mut stamp, &signals, deadline);
        let limit = if let Ok(End::Duration) = end { DURATION_STOP_LIMIT } else { STOP_LIMIT };
        match end {
            Ok(End::Reload(new)) => {
                log::info!("{}: taking it in", config_file.display());
                match agent.reload(parts, &config, &new, &signals)? {
                    None => return Ok(ExitCode::SUCCESS),
                    Some((reloaded, Ok(()))) => {
                        log::info!("{}: loaded", config_file.display());
                        (agent, config) = (reloaded, *new);
                    }
                    Some((reloaded, Err(e))) => {
                        log::error!("{}: can't be used: {}", config_file.display(), explain(&e));
                        log::info!("the old configuration stays in force");
                        agent = reloaded;
                    }
                }
            }
            Ok(End::OutputIsBack) => {
                log::info!("an output that had failed can be opened; shipping starts anew");
                match agent.reload(parts, &config, &config, &signals)? {
                    None => return Ok(ExitCode::SUCCESS),
                    Some((reloaded, started)) => {
                        agent = reloaded;
                        if let Err(e) = started {
                            log::error!("shipping could not be started at first: {}", explain(&e));
                        }
                    }
                }
            }
            end => {
                let undelivered = agent.stop(limit, &signals)?;
                return end.map(|end| exit_code(&end, undelivered));
            }
        }
    }
}

/// Says what another process is to collect.
fn log_left_out(config: &Config) {
    let on = metrics_on(&config.collectors);
    for metric in NETWORK_METRICS.iter().filter(|metric| on.contains(*metric)) {
        log::info!(
            "{metric} takes CAP_NET_ADMIN and is left to 'kumon collect --network' (kumon-net.service)"
        );
    }
}

/// Rows hold command lines, statements and addresses: all that is made from now on is for the user and the group only.
fn close_to_others() {
    let inherited = umask(Mode::RWXO);
    umask(inherited | Mode::RWXO);
}

fn exit_code(end: &End, undelivered: u64) -> ExitCode {
    if let End::Duration = end
        && undelivered > 0
    {
        log::error!(
            "{undelivered} bytes of rows are not delivered; they wait in the spool for the next start"
        );
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// SIGTERM, SIGINT and SIGHUP as messages.
fn signals() -> Result<Receiver<i32>> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let (sender, receiver) = channel();
    let forward = move || {
        for signal in signals.forever() {
            if sender.send(signal).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(forward)?;
    Ok(receiver)
}

/// The parts at work.
struct Agent {
    collecting: Option<Collecting>,
    shipping: Option<Shipping>,
    web: Option<WebServer>,
    summary: Option<Summary>,
}

/// What collected before a reload.
#[derive(Default)]
struct Before {
    /// Goes on, as it writes to the same place.
    collecting: Option<Collecting>,
    /// Since when nothing collects.
    paused: Option<Instant>,
    /// What was switched until the agent restarts, where another one is to collect.
    switched: OnOff,
}

impl Agent {
    /// Takes over what collects already.
    fn start(parts: Parts, config: &Config, before: &mut Before) -> Result<Agent> {
        // Shipping first: it may find rows of the last run, and its folder may be taken.
        let shipping = parts.ship.then(|| Shipping::start(config)).transpose()?;
        let collecting = match start_collecting(parts, config, before) {
            Ok(collecting) => collecting,
            Err(e) => {
                if let Some(shipping) = shipping {
                    shipping.stop(Duration::ZERO)?;
                }
                return Err(e);
            }
        };
        let web = shipping.as_ref().and_then(|shipping| start_web(config, shipping));
        let both_on_a_terminal = parts.collect.is_some() && parts.ship && std::io::stdout().is_terminal();
        let summary =
            both_on_a_terminal.then(|| Summary::new(web.as_ref().map(|web| web.address().to_owned())));
        Ok(Agent { collecting, shipping, web, summary })
    }

    /// Keeps the books until something ends the round.
    fn watch(
        &mut self,
        parts: Parts,
        config: &Config,
        config_file: &Path,
        stamp: &mut Stamp,
        signals: &Receiver<i32>,
        deadline: Option<Instant>,
    ) -> Result<End> {
        loop {
            let left = deadline.map_or(ROUND, |at| at.saturating_duration_since(Instant::now()).min(ROUND));
            // SIGHUP loads also the files that an unchanged configuration names, such as a new password.
            let asked = match signals.recv_timeout(left) {
                Ok(SIGHUP) => true,
                Ok(_) => return Ok(End::Signal),
                Err(RecvTimeoutError::Disconnected) => bail!("the thread that takes signals died"),
                Err(RecvTimeoutError::Timeout) => false,
            };
            if deadline.is_some_and(|at| Instant::now() >= at) {
                return Ok(End::Duration);
            }
            self.check_threads()?;
            if let Some(shipping) = &mut self.shipping {
                shipping.keep_books(self.collecting.is_none());
                if shipping.is_to_start_anew(config) {
                    return Ok(End::OutputIsBack);
                }
            }
            if let (Some(summary), Some(collecting), Some(shipping)) =
                (&mut self.summary, &self.collecting, &self.shipping)
            {
                summary.show(&collecting.status(), &shipping.status());
            }
            // Taken before the file is read: what comes after that is seen in the next round.
            let now = Stamp::of(config_file);
            let replaced = now != *stamp;
            *stamp = now;
            if (asked || replaced)
                && let Some(new) = read_again(config_file).map(|new| parts.of(new))
                && (asked || new != *config)
            {
                return Ok(End::Reload(Box::new(new)));
            }
        }
    }

    fn check_threads(&self) -> Result<()> {
        if self.collecting.as_ref().is_some_and(|collecting| !collecting.is_running()) {
            bail!("the collecting thread died; rows already written are in the spool");
        }
        if self.shipping.as_ref().is_some_and(|shipping| !shipping.is_running()) {
            bail!("the shipping thread died; rows wait in the spool");
        }
        Ok(())
    }

    /// Starts anew with the new configuration, or with the old one where that fails, whose reason is answered then; none
    /// where somebody signals meanwhile, who wants more than a reload. Collectors go on where their settings are the
    /// same, and else pause as shortly as possible: shipping, which may hang in a request, is stopped before. What is not
    /// delivered yet is for the next shipper.
    fn reload(
        self,
        parts: Parts,
        old: &Config,
        new: &Config,
        signals: &Receiver<i32>,
    ) -> Result<Option<(Agent, Result<()>)>> {
        if let Some(web) = self.web {
            web.stop();
        }
        let stopped = match self.shipping {
            Some(shipping) => stop_shipping(shipping, Duration::ZERO, None, signals)?.1,
            None => Stopped::ByItself,
        };
        if stopped == Stopped::OnSignal {
            self.collecting.map(Collecting::stop);
            return Ok(None);
        }
        let mut before = Before { collecting: self.collecting, ..Before::default() };
        if !old.collects_into_the_same(new)
            && let Some(collecting) = before.collecting.take()
        {
            (before.paused, before.switched) = (Some(Instant::now()), collecting.switched());
            collecting.stop();
        }
        Ok(Some(match Agent::start(parts, new, &mut before) {
            Ok(agent) => (agent, Ok(())),
            Err(e) => match Agent::start(parts, old, &mut before) {
                Ok(agent) => (agent, Err(e)),
                Err(neither) => {
                    // What it has in memory is written.
                    before.collecting.take().map(Collecting::stop);
                    return Err(neither);
                }
            },
        }))
    }

    /// Stops the parts in the rows' direction; bytes that are left in files.
    fn stop(self, limit: Duration, signals: &Receiver<i32>) -> Result<u64> {
        if let Some(web) = self.web {
            web.stop();
        }
        let collected = self.collecting.map(Collecting::stop);
        let Some(shipping) = self.shipping else { return Ok(0) };
        let handles = shipping.handles();
        let (ended, _) = stop_shipping(shipping, limit, Some(Instant::now() + limit + GRACE), signals)?;
        if let Some(collected) = collected {
            let shipped: Vec<_> =
                handles.into_iter().map(|(output, handle)| (output, handle.stats())).collect();
            super::summary::log_final_counts(&collected, &shipped);
        }
        Ok(ended.undelivered)
    }
}

/// What collects already goes over to the configuration's collectors.
fn start_collecting(parts: Parts, config: &Config, before: &mut Before) -> Result<Option<Collecting>> {
    match &before.collecting {
        Some(going) => going.apply(&config.collectors)?,
        None => {
            let start = || Collecting::start(config, before.paused, before.switched.clone());
            return parts.collect.map(|_| start()).transpose();
        }
    }
    Ok(before.collecting.take())
}

/// Without its page an agent still does its work.
fn start_web(config: &Config, shipping: &Shipping) -> Option<WebServer> {
    if !config.web.enabled {
        return None;
    }
    match shipping.search(config).and_then(|search| WebServer::start(config, search)) {
        Ok(web) => {
            if !config.web.listen.ip().is_loopback() {
                log::warn!(
                    "the web page listens on {}, beyond this machine, without TLS: who can read along on the way sees its \
                     key and all rows; put a reverse proxy with TLS before it, or set web.listen to 127.0.0.1",
                    config.web.listen
                );
            }
            log::info!(
                "the web page listens on {}; 'kumon web' shows its address with the key",
                config.web.listen
            );
            Some(web)
        }
        Err(e) => {
            log::error!("the web page is left out: {}", explain(&e));
            None
        }
    }
}

/// How waiting for the end of shipping ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stopped {
    ByItself,
    OnSignal,
}

/// Lets shipping deliver the last rows, for `limit` or until somebody signals again. A request that nobody answers
/// keeps the process until `give_up` at most: its rows are delivered after the next start, and recognised if they had
/// arrived.
fn stop_shipping(
    shipping: Shipping,
    limit: Duration,
    mut give_up: Option<Instant>,
    signals: &Receiver<i32>,
) -> Result<(Ended, Stopped)> {
    let handles = shipping.handles();
    let (report, ended) = channel();
    let stop = move || report.send(shipping.stop(limit));
    std::thread::Builder::new().name("stop".into()).spawn(stop)?;
    let mut stopped = Stopped::ByItself;
    loop {
        match ended.recv_timeout(Duration::from_millis(100)) {
            Ok(ended) => return Ok((ended?, stopped)),
            Err(RecvTimeoutError::Disconnected) => bail!("the thread that stops shipping died"),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if let Ok(SIGTERM | SIGINT) = signals.try_recv() {
            handles.iter().for_each(|(_, handle)| handle.stop(Duration::ZERO));
            (give_up, stopped) = (Some(Instant::now() + GRACE), Stopped::OnSignal);
        }
        if give_up.is_some_and(|at| Instant::now() >= at) {
            log::warn!(
                "the last request to the output is unanswered; its rows are sent again after the next start"
            );
            let undelivered = handles.iter().map(|(_, handle)| handle.stats().lag).max().unwrap_or(0);
            return Ok((Ended { undelivered }, stopped));
        }
    }
}

/// The configuration as it stands in the file; `None` when it is wrong, which leaves the old one in force.
fn read_again(file: &Path) -> Option<Config> {
    config::read(Some(file)).inspect_err(|e| log::error!("{e}; the old configuration stays in force")).ok()
}

/// Tells a replaced or rewritten file from the one before.
#[derive(Debug, PartialEq, Eq)]
struct Stamp(Option<(u64, i64, i64, u64)>);

impl Stamp {
    fn of(path: &Path) -> Stamp {
        Stamp(fs::metadata(path).ok().map(|m| (m.ino(), m.mtime(), m.mtime_nsec(), m.len())))
    }
}
