//! KuMon's own evaluation: rounds of asking, telling and remembering.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use kumon_query::Search;
use serde::{Deserialize, Serialize};

use crate::alert::Alert;
use crate::channels::{ChannelError, Channels, Endpoint, SendError};
use crate::evaluate::evaluate;
use crate::mailbox::Mailbox;
use crate::notification::{Message, Notification, time_text};
use crate::state::{AlertState, Time};

/// All that is remembered, in `<folder>/state.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Book {
    /// When the last round ended.
    pub evaluated: Option<Time>,
    pub alerts: BTreeMap<String, AlertState>,
    /// By endpoint.
    pub mailboxes: BTreeMap<String, Mailbox>,
}

/// Evaluates alerts and tells what changes.
pub struct Engine {
    alerts: Vec<Alert>,
    channels: Channels,
    endpoints: Vec<Endpoint>,
    book: Book,
    written: Option<Book>,
    folder: PathBuf,
    node: String,
    /// Only rows of this node count.
    host: Option<String>,
}

impl Engine {
    /// An engine that goes on from what `folder` remembers. `node` is this machine's name; with `host` only its rows
    /// count.
    ///
    /// # Errors
    /// When a channel can't be used.
    pub fn new(
        alerts: Vec<Alert>,
        channels: Channels,
        folder: PathBuf,
        node: String,
        host: Option<String>,
    ) -> Result<Engine, ChannelError> {
        let endpoints = endpoints(&channels, &node)?;
        let alerts: Vec<Alert> = alerts.into_iter().filter(|alert| alert.enabled).collect();
        let mut book = Book::read(&folder).unwrap_or_else(|e| set_aside(&folder, &e));
        book.alerts.retain(|name, _| alerts.iter().any(|alert| alert.name == *name));
        book.mailboxes.retain(|name, _| endpoints.iter().any(|endpoint| endpoint.name == *name));
        // Whoever mended a password or an address starts the agent again, or makes it reload.
        book.mailboxes.values_mut().for_each(Mailbox::try_at_once);
        Ok(Engine { alerts, channels, endpoints, book, written: None, folder, node, host })
    }

    /// Evaluates all alerts, remembers, and delivers what is due.
    pub fn round(&mut self, search: &dyn Search, now: Time) {
        if self.book.evaluated.is_some_and(|last| last > now) {
            log::info!("the clock was set back; messages that wait are tried at once");
            self.book.mailboxes.values_mut().for_each(Mailbox::try_at_once);
        }
        for alert in &self.alerts {
            let state = self.book.alerts.entry(alert.name.clone()).or_default();
            state.acknowledged |= acknowledgement(&self.folder, &alert.name) && state.is_firing();
            let evaluation =
                match evaluate(alert, search, now.saturating_mul(1_000_000), self.host.as_deref()) {
                    Ok(evaluation) => evaluation,
                    Err(e) => {
                        let message = e.to_string();
                        if state.error.as_ref() != Some(&message) {
                            log::warn!("the alert {} can't be evaluated: {message}", alert.name);
                        }
                        state.error = Some(message);
                        continue;
                    }
                };
            if evaluation.truncated {
                log::warn!(
                    "the alert {} has more groups than are looked at; those with few rows are left out",
                    alert.name
                );
            }
            let changes = state.update(alert, &evaluation, now);
            if changes.is_empty() {
                continue;
            }
            let news = Notification::new(alert, &changes, &self.node, now);
            log::warn!("{}", in_one_line(&news));
            for endpoint in &self.endpoints {
                let channel = self.channels.get(&endpoint.channel);
                if channel.is_some_and(|channel| channel.takes(&endpoint.channel, alert)) {
                    self.book.mailboxes.entry(endpoint.name.clone()).or_default().push(news.clone());
                }
            }
        }
        self.book.evaluated = Some(now);
        self.deliver(now);
    }

    /// Delivers what is due. What is to be told is on disk before: a kill doubles at most the one message that was
    /// being handed over, and loses none.
    pub fn deliver(&mut self, now: Time) {
        self.save();
        for endpoint in &self.endpoints {
            let Some(mailbox) = self.book.mailboxes.get_mut(&endpoint.name) else { continue };
            if mailbox.due(endpoint).is_none_or(|due| due > now) {
                continue;
            }
            let news = mailbox.waiting.len();
            match mailbox.deliver(endpoint, now) {
                Ok(()) => log::info!("{news} news delivered to the channel {}", endpoint.name),
                Err(e) => log::warn!(
                    "{news} news wait for the channel {}, to be tried again at {}: {e}",
                    endpoint.name,
                    time_text(mailbox.next)
                ),
            }
            // Now, and not after the others: a kill while they are tried must not send this one again.
            if write_logged(&self.book, &self.folder) {
                self.written = Some(self.book.clone());
            }
        }
    }

    /// When [`Engine::deliver`] has something to do again.
    pub fn next_delivery(&self) -> Option<Time> {
        let due = |endpoint: &Endpoint| self.book.mailboxes.get(&endpoint.name)?.due(endpoint);
        self.endpoints.iter().filter_map(due).min()
    }

    fn save(&mut self) {
        if self.written.as_ref() != Some(&self.book) && write_logged(&self.book, &self.folder) {
            self.written = Some(self.book.clone());
        }
    }
}

/// An endpoint's name, and what came of a message to it.
pub type Tried = (String, Result<(), SendError>);

/// Tries the alert's channels with a message that says it is a test; none where no channel takes the alert.
///
/// # Errors
/// When a channel can't be used.
pub fn test(alert: &Alert, channels: &Channels, node: &str, now: Time) -> Result<Vec<Tried>, ChannelError> {
    let news = [Notification::test(alert, node, now)];
    let message = Message { notifications: &news, omitted: 0 };
    let taking = endpoints(channels, node)?
        .into_iter()
        .filter(|endpoint| channels[&endpoint.channel].takes(&endpoint.channel, alert));
    Ok(taking.map(|endpoint| (endpoint.name.clone(), endpoint.sender.send(&message))).collect())
}

/// Asks the engine of that folder to be silent about an alert until it has recovered; taken up by its next round.
///
/// # Errors
/// When the folder can't be written.
pub fn acknowledge(folder: &Path, alert: &str) -> io::Result<()> {
    fs::write(folder.join(format!("acknowledge-{alert}")), "")
}

/// Takes up an acknowledgement.
fn acknowledgement(folder: &Path, alert: &str) -> bool {
    fs::remove_file(folder.join(format!("acknowledge-{alert}"))).is_ok()
}

fn endpoints(channels: &Channels, node: &str) -> Result<Vec<Endpoint>, ChannelError> {
    let enabled = channels.iter().filter(|(_, channel)| channel.enabled);
    let endpoints = enabled.map(|(name, channel)| channel.endpoints(name, node));
    Ok(endpoints.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
}

fn in_one_line(news: &Notification) -> String {
    let groups = news.firing.iter().map(|line| format!("{} {}", line.group, line.text));
    let recovered = news.recovered.iter().map(|line| format!("recovered: {}", line.group));
    let groups = groups.chain(recovered).take(5).collect::<Vec<_>>().join("; ");
    format!("alert {} ({}): {groups} [{}]", news.alert, news.severity.name(), news.condition)
}

impl Book {
    /// What a folder remembers; empty where there is nothing yet.
    ///
    /// # Errors
    /// When it can't be read, or is damaged.
    pub fn read(folder: &Path) -> io::Result<Book> {
        match fs::read(folder.join("state.json")) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Book::default()),
            Err(e) => Err(e),
        }
    }

    /// Replaces it in one step. Not synced, as it is written each round: what a power cut damages is told again.
    fn write(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        let new = folder.join(".state.json.new");
        fs::write(&new, serde_json::to_vec(self)?)?;
        fs::rename(new, folder.join("state.json"))
    }
}

/// Alerts are told also where they can't be remembered.
fn write_logged(book: &Book, folder: &Path) -> bool {
    let written = book.write(folder);
    if let Err(e) = &written {
        log::error!(
            "{}: what was told can't be remembered: {e}; after a restart it may be told again",
            folder.display()
        );
    }
    written.is_ok()
}

/// A damaged memory is kept for whoever wants to look, and a new one begun.
fn set_aside(folder: &Path, error: &io::Error) -> Book {
    let damaged = folder.join("state.json.damaged");
    log::error!(
        "{}: what was told before can't be read: {error}; set aside as {}, what still fires is told again",
        folder.display(),
        damaged.display()
    );
    // Where this fails too, writing the new one will say so.
    let _ = fs::rename(folder.join("state.json"), damaged);
    Book::default()
}
