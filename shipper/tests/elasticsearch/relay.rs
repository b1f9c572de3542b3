//! Between the shipper and a real Elasticsearch: makes the faults of a network on demand.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::thread;

use rustix::net::sockopt::set_socket_linger;

/// What the network does to connections, those that are open included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Network {
    Works,
    /// Each connection is reset at once.
    Resets,
    /// Half open: everything is taken and nothing passed on, as by a peer that vanished behind a firewall.
    Vanishes,
    /// Requests arrive, and their answers never do.
    LosesAnswers,
    /// Requests arrive, and the connection is reset before the answer.
    ResetsAnswers,
}

/// Listens on a port of its own.
pub(crate) struct Relay {
    pub(crate) url: String,
    shared: Arc<Shared>,
}

struct Shared {
    port: u16,
    network: AtomicU8,
    over: AtomicBool,
}

impl Relay {
    /// To a server on this port of 127.0.0.1.
    pub(crate) fn to(port: u16) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared { port, network: AtomicU8::new(0), over: AtomicBool::new(false) });
        let for_all = shared.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if for_all.over.load(Ordering::Relaxed) {
                    return;
                }
                for_all.clone().connect(client);
            }
        });
        Relay { url, shared }
    }

    /// From now on.
    pub(crate) fn set(&self, network: Network) {
        self.shared.network.store(network as u8, Ordering::SeqCst);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        // Wakes the thread from accept().
        let _ = TcpStream::connect(self.url.trim_start_matches("http://"));
    }
}

impl Shared {
    fn is(&self, network: Network) -> bool {
        self.network.load(Ordering::SeqCst) == network as u8
    }

    fn connect(self: Arc<Self>, client: TcpStream) {
        if self.is(Network::Resets) {
            return reset(&client);
        }
        let Ok(server) = TcpStream::connect(("127.0.0.1", self.port)) else { return };
        let (from_client, to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        let requests = self.clone();
        thread::spawn(move || requests.pass_requests(from_client, to_server));
        thread::spawn(move || self.pass_answers(server, client));
    }

    fn pass_requests(&self, mut client: TcpStream, mut server: TcpStream) {
        let mut buffer = [0; 64 << 10];
        while let Ok(read @ 1..) = client.read(&mut buffer) {
            if self.is(Network::Resets) {
                reset(&client);
                break;
            }
            if !self.is(Network::Vanishes) && server.write_all(&buffer[..read]).is_err() {
                break;
            }
        }
        let _ = server.shutdown(Shutdown::Both);
    }

    fn pass_answers(&self, mut server: TcpStream, mut client: TcpStream) {
        let mut buffer = [0; 64 << 10];
        while let Ok(read @ 1..) = server.read(&mut buffer) {
            if self.is(Network::ResetsAnswers) {
                reset(&client);
                break;
            }
            let lost = self.is(Network::LosesAnswers) || self.is(Network::Vanishes);
            if !lost && client.write_all(&buffer[..read]).is_err() {
                break;
            }
        }
        let _ = client.shutdown(Shutdown::Both);
    }
}

/// Without lingering, closing sends an RST.
fn reset(stream: &TcpStream) {
    let _ = set_socket_linger(stream, Some(std::time::Duration::ZERO));
    let _ = stream.shutdown(Shutdown::Both);
}
