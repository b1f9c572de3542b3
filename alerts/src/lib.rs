//! Alerts on the rows: conditions in readable files, three ways to evaluate them with one meaning, and the channels
//! that carry the news to people. See `docs/alerts.md`.
//!
//! [`alerts`] reads the files and applies the configuration. [`Engine`] evaluates them by asking through
//! [`kumon_query::Search`]; [`render`] makes Watcher's watches and Kibana's rules of them instead.

mod alert;
mod channels;
mod engine;
mod evaluate;
mod expression;
mod mailbox;
mod notification;
mod quantity;
pub mod render;
mod set;
mod source;
mod state;

pub use alert::{Alert, Severity};
pub use channels::{ChannelConfig, ChannelError, Channels, SendError, check as check_channels};
pub use engine::{Book, Engine, Tried, acknowledge, test};
pub use evaluate::{Evaluation, Group, evaluate};
pub use mailbox::Mailbox;
pub use notification::time_text;
pub use set::{Alerts, Selection, Wrong, alerts};
pub use source::{AlertError, Draft, Override};
pub use state::{AlertState, GroupState, Time};
