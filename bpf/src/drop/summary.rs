//! Rows of drop.

use kumon_collect::{Emitter, Interval, PollContext, Subject, boottime, top};
use kumon_schema::rows;

use super::DropSettings;
use super::packet::{Ends, Names, Place};
use super::reasons::Class;
use super::skeleton::types;
use crate::active::Source;
use crate::events;
use crate::interval::IntervalMaps;

pub(super) struct Summary {
    interval: Interval,
    top: usize,
    drops: IntervalMaps,
    names: Names,
}

/// What was dropped at one place.
struct Drops {
    /// None of the row `other`.
    key: Option<types::drop_key>,
    count: u64,
    bytes: u64,
    sample: types::packet,
}

impl Drops {
    /// Sums up what each CPU counted; none where nothing was.
    fn of_cpus(key: &[u8], of_cpus: &[Vec<u8>]) -> Option<Drops> {
        // SAFETY: both types hold integers and arrays of them only.
        let key = unsafe { events::read::<types::drop_key>(key) }.filter(|key| key.location != 0);
        let values = of_cpus.iter().filter_map(|value| unsafe { events::read::<types::drops>(value) });
        let values = values.filter(|value| value.count > 0);
        values.fold(None, |sum, value| {
            let sum = sum.unwrap_or(Drops { key, count: 0, bytes: 0, sample: value.sample });
            Some(Drops { count: sum.count + value.count, bytes: sum.bytes + value.bytes, ..sum })
        })
    }
}

impl Summary {
    pub(super) fn new(drops: IntervalMaps, names: Names, settings: &DropSettings) -> Summary {
        Summary { interval: Interval::new(settings.interval), top: settings.top, drops, names }
    }

    fn emit(
        &mut self,
        drops: &Drops,
        (timestamp, interval): (i64, u64),
        seen: u64,
        emitter: &mut Emitter<'_>,
    ) {
        let (place, ends) = match &drops.key {
            Some(key) => (self.names.place(key), Ends::of(&drops.sample, key.transport)),
            None => (Place::other(), Ends::default()),
        };
        let subject = match place.cgroup {
            0 => Subject::Unknown,
            id => Subject::Cgroup { id, seen },
        };
        let row = rows::Drop {
            timestamp,
            interval,
            reason: place.reason.as_bytes(),
            class: place.class.name().as_bytes(),
            location: place.location.as_bytes(),
            direction: place.direction.as_bytes(),
            network_type: place.network_type.as_bytes(),
            transport: place.transport.as_bytes(),
            interface: &place.interface,
            source_ip: ends.source_ip.as_bytes(),
            source_port: ends.source_port,
            destination_ip: ends.destination_ip.as_bytes(),
            destination_port: ends.destination_port,
            tcp_state: ends.tcp_state.as_bytes(),
            count: drops.count,
            bytes: drops.bytes,
        };
        emitter.emit(&row, &subject);
    }
}

impl Source for Summary {
    fn reading(&self) -> &'static str {
        "reading the drops of an interval"
    }

    fn read(&mut self, context: &mut PollContext<'_>) -> libbpf_rs::Result<()> {
        let Some(time) = self.interval.over(context) else { return Ok(()) };
        let mut found = Vec::new();
        self.drops.take_of_cpus(|key, of_cpus| found.extend(Drops::of_cpus(key, of_cpus)))?;
        let (named, unnamed): (Vec<Drops>, Vec<Drops>) =
            found.into_iter().partition(|drops| drops.key.is_some());
        let (largest, rest) = top(named, self.top, |drops| drops.count);
        let seen = boottime();
        for drops in &largest {
            self.emit(drops, time, seen, &mut context.emitter);
        }
        let rest = || unnamed.iter().chain(&rest);
        let other = Drops {
            key: None,
            count: rest().map(|drops| drops.count).sum(),
            bytes: rest().map(|drops| drops.bytes).sum(),
            sample: types::packet::default(),
        };
        if other.count > 0 {
            self.emit(&other, time, seen, &mut context.emitter);
        }
        Ok(())
    }
}

impl Place {
    /// That of what has no row of its own.
    fn other() -> Place {
        Place {
            reason: String::from_utf8_lossy(kumon_collect::OTHER).into_owned(),
            class: Class::Unknown,
            location: String::new(),
            direction: "",
            network_type: "",
            transport: "",
            interface: Vec::new(),
            cgroup: 0,
        }
    }
}
