//! /proc/net/tcp, tcp6, udp and udp6.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{lines, words};

/// A line of one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SocketLine {
    pub(crate) local: (IpAddr, u16),
    pub(crate) remote: (IpAddr, u16),
    /// As include/net/tcp_states.h numbers them.
    pub(crate) state: u8,
    /// Bytes that were not sent, or not acknowledged.
    pub(crate) send_queue: u64,
    /// Bytes that were not read; of a socket that listens the connections that were not accepted.
    pub(crate) receive_queue: u64,
    /// The user whose socket it is.
    pub(crate) uid: u32,
    /// None of a socket that belongs to no process any more.
    pub(crate) inode: Option<u64>,
}

/// Calls `each` with each line that can be read.
pub(crate) fn socket_lines(text: &[u8], mut each: impl FnMut(SocketLine)) {
    lines(text).filter_map(socket_line).for_each(&mut each);
}

/// `0: 0100007F:0277 00000000:0000 0A 00000000:00000000 00:00000000 00000000 1000 0 12345 …`
fn socket_line(line: &[u8]) -> Option<SocketLine> {
    let mut words = words(line).map(|word| std::str::from_utf8(word).unwrap_or_default()).skip(1);
    let (local, remote) = (address(words.next()?)?, address(words.next()?)?);
    let state = u8::from_str_radix(words.next()?, 16).ok()?;
    let (send, receive) = words.next()?.split_once(':')?;
    let hex = |text| u64::from_str_radix(text, 16).ok();
    let (send_queue, receive_queue) = (hex(send)?, hex(receive)?);
    let uid = words.nth(2)?.parse().ok()?;
    let inode: u64 = words.nth(1)?.parse().ok()?;
    let inode = Some(inode).filter(|inode| *inode != 0);
    Some(SocketLine { local, remote, state, send_queue, receive_queue, uid, inode })
}

/// The address is written as the numbers that its words of 32 bits are to this machine.
fn address(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    let word =
        |at: usize| u32::from_str_radix(address.get(at * 8..at * 8 + 8)?, 16).ok().map(u32::to_ne_bytes);
    let address = match address.len() {
        8 => IpAddr::from(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for (at, chunk) in bytes.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(at)?);
            }
            IpAddr::from(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some((address, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
#[cfg(target_endian = "little")]
mod tests {
    use super::socket_lines;

    #[test]
    fn lines_of_both_families_are_read_and_others_are_passed_over() {
        let text = b"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
            0: 0100007F:0277 00000000:0000 0A 00000000:00000005 00:00000000 00000000  1000        0 12345 1 0 100 0 0 10 0\n   \
            1: B80D01200000000067452301EFCDAB89:01BB 0000000000000000FFFF00000100007F:1F90 01 00000010:00000020 02:000A 00000000     0        0 0 2 0\n   \
            2: 0100007F:0277 00000000:0000 0A\n\n   3: X100007F:0277 00000000:0000 0A 0:0 0 0 1 1 1\n   4: 01:02 03:04 0A 0:0 0:0 0 1 1 1\n";
        let mut found = Vec::new();
        socket_lines(text, |line| found.push(line));
        let [four, six] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!(format!("{:?} {:?}", four.local, four.remote), "(127.0.0.1, 631) (0.0.0.0, 0)");
        assert_eq!((four.state, four.send_queue, four.receive_queue), (10, 0, 5));
        assert_eq!((four.uid, four.inode), (1000, Some(12345)));
        assert_eq!(
            format!("{:?} {:?}", six.local, six.remote),
            "(2001:db8::123:4567:89ab:cdef, 443) (::ffff:127.0.0.1, 8080)"
        );
        assert_eq!((six.state, six.send_queue, six.receive_queue, six.inode), (1, 16, 32, None));
    }
}
