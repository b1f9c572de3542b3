//! What the collecting side answers over its control socket.

use std::sync::Weak;

use kumon_query::OnRow;

use super::switchboard::Switchboard;
use crate::control::{Answer, Peer, Refusal, Request, Responder, Switch, Switched};

/// Somebody who has connected keeps the collecting from ending only while it is answered.
pub(super) struct Requests(pub(super) Weak<Switchboard>);

impl Responder for Requests {
    fn respond(&self, request: Request, peer: Peer, _row: &mut OnRow<'_>) -> Answer {
        let Some(board) = self.0.upgrade() else {
            return Answer::Refused(Refusal::because("the agent is ending"));
        };
        match request {
            Request::Collectors => Answer::Collectors(board.report()),
            Request::SwitchCollectors(switch) => match switch_as(peer, &board, &switch) {
                Ok(switched) => Answer::Switched(switched),
                Err(refusal) => Answer::Refused(refusal),
            },
            Request::Search(_) | Request::ReplayDeadLetters(_) => Answer::Refused(Refusal::wrong_usage(
                "this is the collecting side; the shipping side's socket answers for the rows",
            )),
        }
    }
}

fn switch_as(peer: Peer, board: &Switchboard, switch: &Switch) -> Result<Vec<Switched>, Refusal> {
    if !peer.may_change() {
        return Err(Refusal::because(
            "only root and the user that KuMon collects as may switch collectors; the group may look at them",
        ));
    }
    let switched = board.switch(switch)?;
    for of in switched.iter().filter(|of| !of.already) {
        let on = if switch.enable { "on" } else { "off" };
        log::info!("{} was switched {on} by the user {}", of.now.metric, peer.uid);
    }
    Ok(switched)
}
