//! The protocols above IP, by IANA's numbers and names.

use std::borrow::Cow;

pub(super) const ICMP: u8 = 1;
pub(super) const TCP: u8 = 6;
pub(super) const ICMPV6: u8 = 58;

/// The name that network.transport has for it, or else its number.
pub(super) fn name(protocol: u8) -> Cow<'static, str> {
    Cow::Borrowed(match protocol {
        ICMP => "icmp",
        2 => "igmp",
        4 => "ipv4",
        TCP => "tcp",
        17 => "udp",
        33 => "dccp",
        41 => "ipv6",
        47 => "gre",
        50 => "esp",
        51 => "ah",
        ICMPV6 => "ipv6-icmp",
        89 => "ospf",
        103 => "pim",
        112 => "vrrp",
        132 => "sctp",
        136 => "udplite",
        number => return Cow::Owned(number.to_string()),
    })
}

/// Whether its flows have ports.
pub(super) fn has_ports(protocol: u8) -> bool {
    matches!(protocol, TCP | 17 | 33 | 132 | 136)
}

/// The flags of TCP that are set, a letter each.
pub(super) fn flags(set: u8) -> String {
    "FSRPAUEC".chars().enumerate().filter(|(bit, _)| set & 1 << bit != 0).map(|(_, letter)| letter).collect()
}

#[cfg(test)]
mod tests {
    use super::{flags, name};

    #[test]
    fn protocols_and_flags_have_their_usual_names() {
        assert_eq!((name(6).as_ref(), name(58).as_ref(), name(253).as_ref()), ("tcp", "ipv6-icmp", "253"));
        assert_eq!((flags(0x12).as_str(), flags(0x1B).as_str(), flags(0).as_str()), ("SA", "FSPA", ""));
    }
}
