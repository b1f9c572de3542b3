//! The filters of an interface's queueing discipline clsact, by rtnetlink(7): who has one there, which libbpf doesn't tell.

use std::io;
use std::mem::size_of;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

use super::Way;

/// A filter that is a BPF program.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Filter {
    pub(super) handle: u32,
    pub(super) priority: u32,
    /// The name that it was attached with; libbpf takes the program's, and its id.
    pub(super) program: String,
}

/// include/uapi/linux/netlink.h and rtnetlink.h.
const RTM_NEWTFILTER: u16 = 44;
const RTM_GETTFILTER: u16 = 46;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_NAME: u16 = 7;
/// The parents of filters of clsact (include/uapi/linux/pkt_sched.h).
const OF_INGRESS: u32 = 0xFFFF_FFF2;
const OF_EGRESS: u32 = 0xFFFF_FFF3;

const HEADER: usize = 16;
/// `struct tcmsg`.
const MESSAGE: usize = 20;

/// All filters of an interface; none where it has no such queueing discipline.
pub(super) fn of(interface: u32, way: Way) -> io::Result<Vec<Filter>> {
    let flags = SocketFlags::CLOEXEC;
    // Protocol 0 is NETLINK_ROUTE.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    send(&socket, &request(interface, way), SendFlags::empty())?;
    let (mut filters, mut answer) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        let (length, _) = recv(&socket, answer.as_mut_slice(), RecvFlags::empty())?;
        if take(&answer[..length], &mut filters)? {
            return Ok(filters);
        }
    }
}

fn request(interface: u32, way: Way) -> Vec<u8> {
    let parent = if way == Way::Ingress { OF_INGRESS } else { OF_EGRESS };
    let mut request = Vec::with_capacity(HEADER + MESSAGE);
    request.extend(((HEADER + MESSAGE) as u32).to_ne_bytes());
    request.extend(RTM_GETTFILTER.to_ne_bytes());
    request.extend((NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    request.extend([0; 2 * size_of::<u32>()]);
    for number in [0, interface, 0, parent, 0] {
        request.extend(number.to_ne_bytes());
    }
    request
}

/// Takes the filters of an answer; true where it was the last.
fn take(mut answer: &[u8], filters: &mut Vec<Filter>) -> io::Result<bool> {
    while let (Some(length), Some(kind)) = (u32_at(answer, 0), u16_at(answer, 4)) {
        let Some(message) = answer.get(HEADER..length as usize) else { break };
        match kind {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => {
                let error = u32_at(message, 0).unwrap_or_default() as i32;
                // There is no queueing discipline, or no interface.
                return if error == 0 || error == -libc::EINVAL || error == -libc::ENODEV {
                    Ok(true)
                } else {
                    Err(io::Error::from_raw_os_error(-error))
                };
            }
            RTM_NEWTFILTER => filters.extend(filter(message)),
            _ => {}
        }
        answer = answer.get(aligned(length as usize)..).unwrap_or_default();
    }
    Ok(false)
}

/// None for the head of those that follow, which has no handle.
fn filter(message: &[u8]) -> Option<Filter> {
    let handle = u32_at(message, 8).filter(|handle| *handle != 0)?;
    let priority = u32_at(message, 16)? >> 16;
    let options = attribute(message.get(MESSAGE..)?, TCA_OPTIONS).unwrap_or_default();
    let name = attribute(options, TCA_BPF_NAME).unwrap_or_default();
    let program = String::from_utf8_lossy(name).trim_end_matches('\0').to_owned();
    Some(Filter { handle, priority, program })
}

fn attribute(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    /// NLA_TYPE_MASK
    const KIND: u16 = 0x3FFF;
    loop {
        let (length, kind) = (u16_at(attributes, 0)? as usize, u16_at(attributes, 2)?);
        let value = attributes.get(4..length)?;
        if kind & KIND == wanted {
            return Some(value);
        }
        attributes = attributes.get(aligned(length)..)?;
    }
}

/// NLMSG_ALIGN
fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::{Filter, HEADER, NLMSG_DONE, RTM_NEWTFILTER, TCA_BPF_NAME, TCA_OPTIONS, take};

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = ((4 + value.len()) as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.resize(HEADER, 0);
        bytes.extend(body);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn filter(handle: u32, priority: u32, name: &[u8]) -> Vec<u8> {
        let numbers = [0, 7, handle, 0xFFFF_FFF2, priority << 16 | 3];
        let mut body: Vec<u8> = numbers.iter().flat_map(|number: &u32| number.to_ne_bytes()).collect();
        body.extend(attribute(1, b"bpf\0"));
        body.extend(attribute(TCA_OPTIONS, &attribute(TCA_BPF_NAME, name)));
        message(RTM_NEWTFILTER, &body)
    }

    #[test]
    fn filters_are_read_with_their_programs_and_heads_are_left_out() {
        let mut filters = Vec::new();
        let answer =
            [filter(0, 49152, b""), filter(4711, 49152, b"kumon_ingress:[5]\0"), filter(1, 2, b"cil_from\0")]
                .concat();
        assert!(!take(&answer, &mut filters).unwrap());
        assert!(take(&message(NLMSG_DONE, &[0; 4]), &mut filters).unwrap());
        let expected = [(4711, 49152, "kumon_ingress:[5]"), (1, 2, "cil_from")]
            .map(|(handle, priority, program)| Filter { handle, priority, program: program.to_owned() });
        assert_eq!(filters, expected);
    }

    #[test]
    fn an_answer_that_is_cut_off_or_absurd_is_left() {
        let whole = filter(4711, 49152, b"kumon_ingress:[5]\0");
        for cut in 0..whole.len() {
            let _ = take(&whole[..cut], &mut Vec::new());
        }
        for at in 0..whole.len() {
            for byte in [0, 1, 0x7F, 0xFF] {
                let mut changed = whole.clone();
                changed[at] = byte;
                let _ = take(&changed, &mut Vec::new());
            }
        }
    }
}
