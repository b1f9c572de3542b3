//! A receiver of HTTP posts that records them, and answers as told: no real service fails on demand.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

/// A post that came in.
#[derive(Debug, Clone, Default)]
pub(crate) struct Post {
    pub(crate) path: String,
    /// Lower-case names.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

pub(crate) struct Receiver {
    pub(crate) url: String,
    posts: Arc<Mutex<Vec<Post>>>,
}

impl Receiver {
    /// Answers the first posts with `answers` (a status line and further headers each), the others with 200.
    pub(crate) fn start(answers: &[&str]) -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let posts = Arc::new(Mutex::new(Vec::new()));
        let (record, mut answers) =
            (posts.clone(), answers.iter().map(|a| a.to_string()).collect::<Vec<_>>());
        answers.reverse();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                record.lock().unwrap().push(read(&stream));
                let status = answers.pop().unwrap_or_else(|| "200 OK".into());
                let _ =
                    write!(stream, "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 2\r\n\r\nno");
            }
        });
        Receiver { url, posts }
    }

    pub(crate) fn posts(&self) -> Vec<Post> {
        self.posts.lock().unwrap().clone()
    }
}

impl Post {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value)
    }
}

fn read(stream: &std::net::TcpStream) -> Post {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let mut post = Post { path: line.split(' ').nth(1).unwrap_or_default().into(), ..Post::default() };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        post.headers.push((name.to_lowercase(), value.trim().into()));
    }
    let length: usize = post.header("content-length").parse().unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    post.body = String::from_utf8(body).unwrap();
    post
}
