//! Community ID: names a flow as other tools do (https://github.com/corelight/community-id-spec, version 1).

use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::transport::{ICMP, ICMPV6};

/// One end of a flow.
pub(super) type End = (IpAddr, u16);

/// The id of a flow between two ends, whichever opened it. The ports are those of the protocol; of ICMP they are made of
/// the message that the source sent, its type and code.
pub(super) fn community_id(protocol: u8, source: End, destination: End, icmp: (u8, u8)) -> String {
    let (ports, one_way) = match protocol {
        ICMP | ICMPV6 => icmp_ports(protocol, icmp),
        _ => ((source.1, destination.1), false),
    };
    let (mut from, mut to) = ((bytes(source.0), ports.0), (bytes(destination.0), ports.1));
    if !one_way && from > to {
        std::mem::swap(&mut from, &mut to);
    }
    // A seed of 0, and a byte of padding behind the protocol.
    let mut hashed = vec![0, 0];
    hashed.extend(&from.0);
    hashed.extend(&to.0);
    hashed.extend([protocol, 0]);
    hashed.extend(from.1.to_be_bytes());
    hashed.extend(to.1.to_be_bytes());
    let mut sha1 = sha1_smol::Sha1::new();
    sha1.update(&hashed);
    format!("1:{}", STANDARD.encode(sha1.digest().bytes()))
}

fn bytes(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// What stands for ports: the message's type and the one that answers it, or, where none does, its code; then the id
/// keeps its way.
fn icmp_ports(protocol: u8, (kind, code): (u8, u8)) -> ((u16, u16), bool) {
    const PAIRS: [(u8, u8); 10] =
        [(8, 0), (0, 8), (13, 14), (14, 13), (15, 16), (16, 15), (17, 18), (18, 17), (10, 9), (9, 10)];
    const PAIRS_V6: [(u8, u8); 10] = [
        (128, 129),
        (129, 128),
        (130, 131),
        (131, 130),
        (133, 134),
        (134, 133),
        (135, 136),
        (136, 135),
        (139, 140),
        (140, 139),
    ];
    let pairs = if protocol == ICMP { PAIRS } else { PAIRS_V6 };
    match pairs.iter().find(|(of, _)| *of == kind) {
        Some((_, answer)) => ((kind.into(), (*answer).into()), false),
        None => ((kind.into(), code.into()), true),
    }
}

#[cfg(test)]
mod tests {
    use super::community_id;

    fn id(protocol: u8, source: (&str, u16), destination: (&str, u16)) -> String {
        let end = |(ip, port): (&str, u16)| (ip.parse().unwrap(), port);
        let icmp = (source.1 as u8, destination.1 as u8);
        community_id(protocol, end(source), end(destination), icmp)
    }

    /// Those of the specification's baseline (baseline_deflt.json).
    #[test]
    fn ids_are_those_that_other_tools_give() {
        for (protocol, one, other, expected) in [
            (6, ("128.232.110.120", 34855), ("66.35.250.204", 80), "1:LQU9qZlK+B5F3KDmev6m5PMibrg="),
            (17, ("192.168.1.52", 54585), ("8.8.8.8", 53), "1:d/FP5EW3wiY1vCndhwleRRKHowQ="),
            (132, ("192.168.170.8", 7), ("192.168.170.56", 80), "1:jQgCxbku+pNGw8WPbEc/TS/uTpQ="),
        ] {
            assert_eq!(id(protocol, one, other), expected);
            assert_eq!(id(protocol, other, one), expected, "either way");
        }
        for (protocol, one, other, expected) in [
            (1, ("192.168.0.89", 8), ("192.168.0.1", 0), "1:X0snYXpgwiv9TZtqg64sgzUn6Dk="),
            (1, ("192.168.0.1", 0), ("192.168.0.89", 8), "1:X0snYXpgwiv9TZtqg64sgzUn6Dk="),
            (1, ("192.168.0.89", 20), ("192.168.0.1", 0), "1:3o2RFccXzUgjl7zDpqmY7yJi8rI="),
            (1, ("192.168.0.89", 20), ("192.168.0.1", 1), "1:tz/fHIDUHs19NkixVVoOZywde+I="),
            (
                58,
                ("fe80::200:86ff:fe05:80da", 135),
                ("fe80::260:97ff:fe07:69ea", 0),
                "1:dGHyGvjMfljg6Bppwm3bg0LO8TY=",
            ),
        ] {
            assert_eq!(id(protocol, one, other), expected);
        }
    }
}
