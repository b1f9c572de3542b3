//! What goes wrong with `_bulk` requests on demand: `/fault?kind=KIND&requests=N&value=V`.

use std::error::Error;
use std::future;
use std::time::Duration;

use hyper::StatusCode;

/// The fault of the next requests.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    kind: Kind,
    requests: u64,
}

/// One kind of fault.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    #[default]
    None,
    /// `slow`: the rows are taken and answered after `value` ms.
    Slow(Duration),
    /// `half_open`: nothing is taken, and nobody answers for ever.
    HalfOpen,
    /// `cut`: the rows are taken, and the connection ends without an answer.
    Cut,
    /// `refuse`: nothing is taken; the status is `value` (429, 503, 413).
    Refuse(StatusCode),
}

impl Faults {
    /// From now on, for so many requests.
    ///
    /// # Errors
    /// When there is no such kind.
    pub(crate) fn set(&mut self, kind: &str, value: u64, requests: u64) -> Result<(), String> {
        let status = u16::try_from(value).ok().and_then(|value| StatusCode::from_u16(value).ok());
        self.kind = match kind {
            "none" => Kind::None,
            "slow" => Kind::Slow(Duration::from_millis(value)),
            "half_open" => Kind::HalfOpen,
            "cut" => Kind::Cut,
            "refuse" => Kind::Refuse(status.ok_or_else(|| format!("{value} is no HTTP status"))?),
            other => return Err(format!("no fault '{other}': none, slow, half_open, cut or refuse")),
        };
        self.requests = requests;
        Ok(())
    }

    /// That of the next request.
    pub(crate) fn next(&mut self) -> Kind {
        if self.requests == 0 {
            return Kind::None;
        }
        self.requests -= 1;
        self.kind
    }
}

impl Kind {
    /// What comes before the rows are looked at: the status of a refusal, or a wait that never ends.
    pub(crate) async fn before(self) -> Option<StatusCode> {
        match self {
            Kind::HalfOpen => future::pending().await,
            Kind::Refuse(status) => Some(status),
            _ => None,
        }
    }

    /// What comes between taking the rows and the answer.
    ///
    /// # Errors
    /// When the connection is to end.
    pub(crate) async fn after(self) -> Result<(), Box<dyn Error + Send + Sync>> {
        match self {
            Kind::Slow(wait) => tokio::time::sleep(wait).await,
            Kind::Cut => return Err("cut on demand".into()),
            _ => {}
        }
        Ok(())
    }
}
