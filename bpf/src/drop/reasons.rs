//! Why the kernel drops packets: the names of its reasons, and which of them mean that something is lost.

use std::collections::HashMap;
use std::fmt;

use libbpf_rs::Btf;
use libbpf_rs::btf::types::Enum;
use serde::Deserialize;

/// What a reason means for whoever sent the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// The packet is lost.
    Real,
    /// It has done its work, or nobody here was to have it.
    Benign,
    /// The kernel doesn't say.
    Unknown,
}

/// The only table of classes, by name: numbers differ from kernel to kernel. Whatever else has a name is real, so that a
/// reason that a later kernel brings is rather seen than missed.
const CLASSES: [(&str, Class); 21] = [
    (NOT_SPECIFIED, Class::Unknown),
    // Not dropped at all.
    ("NOT_DROPPED_YET", Class::Benign),
    ("CONSUMED", Class::Benign),
    // What is left in a socket that is closed, such as the peer's FIN of each healthy session.
    ("QUEUE_PURGE", Class::Benign),
    ("SOCKET_CLOSE", Class::Benign),
    ("TCP_ABORT_ON_DATA", Class::Benign),
    // It was there already, or has become part of what was.
    ("TCP_OLD_DATA", Class::Benign),
    ("TCP_OLD_SEQUENCE", Class::Benign),
    ("TCP_OLD_ACK", Class::Benign),
    ("TCP_OFOMERGE", Class::Benign),
    ("TCP_RFC7323_PAWS_ACK", Class::Benign),
    ("DUP_FRAG", Class::Benign),
    // For somebody else: the interface is promiscuous, the protocol is one that the host doesn't speak.
    ("OTHERHOST", Class::Benign),
    ("IPV6_NDISC_NS_OTHERHOST", Class::Benign),
    ("UNHANDLED_PROTO", Class::Benign),
    ("LOCAL_MAC", Class::Benign),
    ("MAC_IEEE_MAC_CONTROL", Class::Benign),
    ("BRIDGE_INGRESS_STP_STATE", Class::Benign),
    ("UNIX_DISCONNECT", Class::Benign),
    ("UNIX_SKIP_OOB", Class::Benign),
    // Frames that only those who watch the air get.
    ("MAC80211_MONITOR", Class::Benign),
];

const NOT_SPECIFIED: &str = "NOT_SPECIFIED";

/// The reasons of the running kernel.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Reasons {
    /// Those of the core, by number.
    core: HashMap<u32, String>,
    /// What has reasons of its own, by the upper half of their numbers.
    subsystems: HashMap<u32, String>,
}

impl Class {
    pub(super) fn name(self) -> &'static str {
        match self {
            Class::Real => "real",
            Class::Benign => "benign",
            Class::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The class of a reason, or of all reasons of a subsystem.
fn class_of_name(name: &str) -> Class {
    CLASSES.iter().find(|(known, _)| *known == name).map_or(Class::Real, |(_, class)| *class)
}

impl Reasons {
    /// As the kernel's BTF names them: `enum skb_drop_reason`, and since Linux 6.4 `enum skb_drop_reason_subsys`. There are
    /// none before 5.17.
    pub(super) fn of_this_kernel() -> Reasons {
        let Ok(btf) = Btf::from_vmlinux() else { return Reasons::default() };
        Reasons {
            core: members(&btf, "skb_drop_reason", &["SKB_DROP_REASON_", "SKB_"]),
            subsystems: members(&btf, "skb_drop_reason_subsys", &["SKB_DROP_REASON_SUBSYS_"]),
        }
    }

    /// Whether the kernel has any.
    pub(super) fn are_known(&self) -> bool {
        !self.core.is_empty()
    }

    /// The name of the core's reason with this number; that of a subsystem's is the subsystem's name with its own number
    /// there, for only the subsystem's module knows more.
    pub(super) fn name(&self, reason: u32) -> String {
        let (subsystem, number) = (reason >> 16, reason & 0xffff);
        if subsystem > 0 {
            return match self.subsystems.get(&subsystem) {
                Some(name) => format!("{name}({number})"),
                None => format!("SUBSYS{subsystem}({number})"),
            };
        }
        match self.core.get(&reason) {
            Some(name) => name.clone(),
            None if self.are_known() => format!("REASON({reason})"),
            None => NOT_SPECIFIED.to_owned(),
        }
    }

    pub(super) fn class(&self, reason: u32) -> Class {
        match reason >> 16 {
            0 => class_of_name(&self.name(reason)),
            subsystem => self.class_of_subsystem(subsystem),
        }
    }

    pub(super) fn class_of_subsystem(&self, subsystem: u32) -> Class {
        self.subsystems.get(&subsystem).map_or(Class::Real, |name| class_of_name(name))
    }
}

/// The members of an enum by their values, each without the first of these prefixes that it has.
fn members(btf: &Btf<'_>, name: &str, prefixes: &[&str]) -> HashMap<u32, String> {
    let Some(members) = btf.type_by_name::<Enum<'_>>(name) else { return HashMap::new() };
    let member = |member: libbpf_rs::btf::types::EnumMember<'_>| {
        let name = member.name?.to_str()?;
        let short = prefixes.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
        Some((member.value as u32, short.to_owned()))
    };
    members.iter().filter_map(member).collect()
}

#[cfg(test)]
mod tests {
    use super::{CLASSES, Class, Reasons};

    fn reasons() -> Reasons {
        let named = |names: &[(u32, &str)]| names.iter().map(|(n, name)| (*n, (*name).to_owned())).collect();
        Reasons {
            core: named(&[(2, "NOT_SPECIFIED"), (3, "NO_SOCKET"), (104, "QUEUE_PURGE")]),
            subsystems: named(&[(1, "MAC80211_UNUSABLE"), (2, "MAC80211_MONITOR")]),
        }
    }

    #[test]
    fn names_and_classes_follow_the_kernel_and_what_it_does_not_name_has_its_number() {
        for (reason, name, class) in [
            (2, "NOT_SPECIFIED", Class::Unknown),
            (3, "NO_SOCKET", Class::Real),
            (104, "QUEUE_PURGE", Class::Benign),
            (900, "REASON(900)", Class::Real),
            (0x1_0007, "MAC80211_UNUSABLE(7)", Class::Real),
            (0x2_0001, "MAC80211_MONITOR(1)", Class::Benign),
            (0x9_0001, "SUBSYS9(1)", Class::Real),
        ] {
            assert_eq!((reasons().name(reason).as_str(), reasons().class(reason)), (name, class));
        }
    }

    #[test]
    fn a_kernel_without_reasons_specifies_none() {
        let none = Reasons::default();
        assert_eq!((none.name(0).as_str(), none.class(0)), ("NOT_SPECIFIED", Class::Unknown));
    }

    #[test]
    fn no_reason_has_two_classes() {
        for (at, (name, _)) in CLASSES.iter().enumerate() {
            assert!(CLASSES[at + 1..].iter().all(|(other, _)| other != name), "{name}");
        }
    }
}
