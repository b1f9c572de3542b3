//! What the random tests ship with.

use std::time::{Duration, Instant};

use kumon_testing::Child;

use super::Random;
use crate::bulk_server::BulkServer;
use crate::kills;
use crate::stand_in::{Fault, StandIn};
use crate::support::{LIMIT, Place, Ship};

/// What ships, and what it ships to.
pub(super) enum Shipping {
    /// In this process, to a stand-in for the sink.
    Thread(StandIn, Option<Ship>),
    /// In a process that is killed at any moment, to a stand-in that speaks HTTP.
    Process(BulkServer, Option<Child>),
}

impl Shipping {
    pub(super) fn stop_or_start(&mut self, place: &Place, random: &mut Random) -> String {
        self.stop(random).unwrap_or_else(|| {
            self.start(place);
            "start".to_owned()
        })
    }

    /// Ends it in one of its ways, if it runs.
    pub(super) fn stop(&mut self, random: &mut Random) -> Option<String> {
        match self {
            Shipping::Thread(_, ship) => {
                let ship = ship.take()?;
                let limit = Duration::from_millis(random.below(30));
                ship.stop_within(limit);
                Some(format!("stop within {limit:?}"))
            }
            Shipping::Process(_, child) => {
                let mut child = child.take()?;
                if random.below(4) > 0 {
                    std::thread::sleep(Duration::from_millis(random.below(40)));
                    child.kill().unwrap();
                    return Some("kill".to_owned());
                }
                kills::stop(child);
                Some("stop".to_owned())
            }
        }
    }

    pub(super) fn start(&mut self, place: &Place) {
        match self {
            Shipping::Thread(sink, ship) => _ = ship.get_or_insert_with(|| place.ship(sink)),
            Shipping::Process(server, child) => {
                child.get_or_insert_with(|| {
                    kills::spawn_with(&place.options.inputs, place.folder.path(), server)
                });
            }
        }
    }

    pub(super) fn fault(&mut self, random: &mut Random) -> String {
        match self {
            Shipping::Thread(sink, _) => {
                let faults = [
                    None,
                    Some(Fault::Away),
                    Some(Fault::Refuses),
                    Some(Fault::AnswersGetLost),
                    Some(Fault::LosesUncommitted),
                ];
                let fault = random.below(faults.len() as u64) as usize;
                sink.fail(faults[fault]);
                format!("fault {fault}")
            }
            Shipping::Process(server, _) => {
                let faulty = random.below(3) > 0;
                server.fail(faulty);
                format!("faults {faulty}")
            }
        }
    }

    /// Waits until all that stands in files, `rows` in all, has arrived; answers how many have.
    pub(super) fn settle(&mut self, place: &Place, rows: u64) -> u64 {
        self.start(place);
        match self {
            Shipping::Thread(sink, ship) => {
                sink.fail(None);
                let (ship, start) = (ship.as_ref().unwrap(), Instant::now());
                while !ship.handle.sync(Duration::from_secs(1)) {
                    assert!(start.elapsed() < LIMIT, "{:?}", ship.stats());
                }
                // Holes, and what may be half of a gzip, wait for a moment more.
                while (sink.len() as u64) < rows && start.elapsed() < LIMIT {
                    std::thread::sleep(Duration::from_millis(1));
                    ship.handle.sync(Duration::from_secs(1));
                }
                sink.len() as u64
            }
            Shipping::Process(server, _) => {
                server.fail(false);
                let start = Instant::now();
                while (server.len() as u64) < rows && start.elapsed() < LIMIT {
                    std::thread::sleep(Duration::from_millis(1));
                }
                server.len() as u64
            }
        }
    }

    /// A clean stop, and what has arrived then, in order.
    pub(super) fn finish(&mut self) -> Vec<u64> {
        match self {
            Shipping::Thread(sink, ship) => {
                let _ = ship.take().map(Ship::stop);
                sink.in_order()
            }
            Shipping::Process(server, child) => {
                child.take().map(kills::stop).unwrap_or_default();
                server.numbers()
            }
        }
    }
}
