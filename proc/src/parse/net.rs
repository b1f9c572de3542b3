//! Files of /proc/net.

use super::{lines, number, words};

/// The numbers of a network interface, in the order of /proc/net/dev: bytes, packets, errs, drop, fifo, frame, compressed,
/// multicast that were received; bytes, packets, errs, drop, fifo, colls, carrier, compressed that were sent.
pub(crate) type InterfaceNumbers = [u64; 16];

/// Calls `each` with the name and the numbers of each interface of /proc/net/dev; whether it is such a file.
pub(crate) fn interfaces<'a>(text: &'a [u8], mut each: impl FnMut(&'a [u8], &InterfaceNumbers)) -> bool {
    let mut is_right = false;
    for line in lines(text) {
        is_right |= line.starts_with(b"Inter-|");
        // A name may have colons in it, as old aliases do; behind the last one are numbers only.
        let Some(colon) = line.iter().rposition(|byte| *byte == b':') else { continue };
        let (mut numbers, mut found) = (InterfaceNumbers::default(), 0);
        for (place, value) in numbers.iter_mut().zip(words(&line[colon + 1..]).map_while(number)) {
            *place = value;
            found += 1;
        }
        let name = line[..colon].trim_ascii();
        if found == numbers.len() && !name.is_empty() {
            each(name, &numbers);
        }
    }
    is_right
}

/// The numbers of these names, each of a protocol, in their order, in /proc/net/snmp or /proc/net/netstat: a line of names
/// and one of numbers for each protocol.
pub(crate) fn protocols<const N: usize>(text: &[u8], names: &[(&str, &str); N]) -> [Option<u64>; N] {
    let mut found = [None; N];
    let mut headings: Option<&[u8]> = None;
    for line in lines(text) {
        let protocol = words(line).next();
        let Some(heading) = headings.take().filter(|heading| words(heading).next() == protocol) else {
            headings = Some(line);
            continue;
        };
        let Some(protocol) = protocol.and_then(|word| word.strip_suffix(b":")) else { continue };
        for (name, value) in words(heading).zip(words(line)).skip(1) {
            let is = |(of, wanted): &(&str, &str)| of.as_bytes() == protocol && wanted.as_bytes() == name;
            if let Some(at) = names.iter().position(is) {
                found[at] = number(value);
            }
        }
    }
    found
}

/// The numbers of these names, each of a protocol, in their order, in /proc/net/sockstat or /proc/net/sockstat6: names and
/// numbers in turn.
pub(crate) fn sockets<const N: usize>(text: &[u8], names: &[(&str, &str); N]) -> [Option<u64>; N] {
    let mut found = [None; N];
    for line in lines(text) {
        let mut words = words(line);
        let Some(protocol) = words.next().and_then(|word| word.strip_suffix(b":")) else { continue };
        while let (Some(name), Some(value)) = (words.next(), words.next()) {
            let is = |(of, wanted): &(&str, &str)| of.as_bytes() == protocol && wanted.as_bytes() == name;
            if let Some(at) = names.iter().position(is) {
                found[at] = number(value);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{interfaces, protocols, sockets};

    #[test]
    fn interfaces_have_names_of_any_kind_and_sixteen_numbers() {
        let text = b"Inter-|   Receive  |  Transmit\n face |bytes packets|bytes packets\n\
            lo: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n  eth0:0:17 2 3 4 5 6 7 8 9 10 11 12 13 14 15 18\n\
            cut: 1 2 3\n: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n";
        let mut found = Vec::new();
        let is_right = interfaces(text, |name, numbers| {
            found.push((String::from_utf8_lossy(name), numbers[0], numbers[15]))
        });
        assert!(is_right);
        assert_eq!(found, [("lo".into(), 1, 16), ("eth0:0".into(), 17, 18)]);
        assert!(!interfaces(b"garbage: 1\n", |_, _| panic!("no interface")));
    }

    #[test]
    fn numbers_of_protocols_stand_below_their_names() {
        let text =
            b"Ip: Forwarding InReceives\nIp: 1 15\nTcp: MaxConn InSegs New\nTcp: -1 16\nUdp: A\nUdpLite: A\n\
            UdpLite: 5\nIcmp: A B\n";
        let names =
            [("Tcp", "InSegs"), ("Ip", "InReceives"), ("Tcp", "MaxConn"), ("Udp", "A"), ("UdpLite", "A")];
        assert_eq!(protocols(text, &names), [Some(16), Some(15), None, None, Some(5)]);
        assert_eq!(protocols(b"", &names), [None; 5]);
    }

    #[test]
    fn numbers_of_sockets_stand_beside_their_names() {
        let text = b"sockets: used 19\nTCP: inuse 1 orphan 2 tw x alloc 1 mem\nUDP: inuse 3 mem 4\n";
        let names = [("UDP", "mem"), ("TCP", "orphan"), ("TCP", "tw"), ("TCP", "mem"), ("sockets", "used")];
        assert_eq!(sockets(text, &names), [Some(4), Some(2), None, None, Some(19)]);
    }
}
