//! Between the shipper and a real Elasticsearch: makes the faults of a network on demand.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::thread;

use kumon_testing::Elasticsearch;
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
    /// To a node on 127.0.0.1.
    pub(crate) fn to(node: &Elasticsearch) -> Relay {
        let port = node.url().rsplit(':').next().unwrap().parse().unwrap();
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
        let (of_client, of_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        let (requests, the_client) = (self.clone(), client.try_clone().unwrap());
        thread::spawn(move || {
            requests.pass(of_client, of_server, &the_client, Network::Resets, &[Network::Vanishes]);
        });
        thread::spawn(move || {
            let the_client = client.try_clone().unwrap();
            let loses = [Network::LosesAnswers, Network::Vanishes];
            self.pass(server, client, &the_client, Network::ResetsAnswers, &loses);
        });
    }

    /// Passes on what comes from one side, as far as the network lets it: in one state it resets the client, in others
    /// it loses everything.
    fn pass(
        &self,
        mut from: TcpStream,
        mut to: TcpStream,
        client: &TcpStream,
        resets: Network,
        loses: &[Network],
    ) {
        let mut buffer = [0; 64 << 10];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            if self.is(resets) {
                reset(client);
                break;
            }
            let lost = loses.iter().any(|network| self.is(*network));
            if !lost && to.write_all(&buffer[..read]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    }
}

/// Without lingering, closing sends an RST.
fn reset(stream: &TcpStream) {
    let _ = set_socket_linger(stream, Some(std::time::Duration::ZERO));
    let _ = stream.shutdown(Shutdown::Both);
}
