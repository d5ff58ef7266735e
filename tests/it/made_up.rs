//! Servers that are not as they should be, for the doctor to look at.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;

use turnwell::credentials::{Credentials, Secret};
use turnwell::relay::{
    self, Action, DefaultFamily, FiveTuple, ListenerId, Live, Mono, Now, Opened, PortShare, Relay, RelayId, Want,
};
use turnwell::wire::Message;

use crate::doctor::now;

/// A UDP server that answers every request with what `answer` writes; its URL.
pub(crate) fn fake(answer: impl Fn(&Message<'_>, &mut Vec<u8>) + Send + 'static) -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let same = socket.try_clone().expect("it again");
    serve_by(socket, same, answer)
}

/// The same, but it answers from this socket.
pub(crate) fn fake_from(other: UdpSocket, answer: impl Fn(&Message<'_>, &mut Vec<u8>) + Send + 'static) -> String {
    serve_by(UdpSocket::bind("127.0.0.1:0").expect("a socket"), other, answer)
}

fn serve_by(
    asked: UdpSocket,
    answers: UdpSocket,
    answer: impl Fn(&Message<'_>, &mut Vec<u8>) + Send + 'static,
) -> String {
    let url = format!("turn:{}?transport=udp", asked.local_addr().expect("an address"));
    thread::spawn(move || {
        let mut buffer = [0; 2000];
        while let Ok((length, source)) = asked.recv_from(&mut buffer) {
            let mut out = Vec::new();
            if let Ok(request) = Message::parse(&buffer[..length]) {
                answer(&request, &mut out);
                let _ = answers.send_to(&out, source);
            }
        }
    });
    url
}

/// An HTTP server that answers each connection with this; its URL.
pub(crate) fn http(answer: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let _ = respond(stream, &answer);
        }
    });
    url
}

fn respond(mut stream: TcpStream, answer: &str) -> std::io::Result<()> {
    let mut buffer = [0; 4096];
    let _ = stream.read(&mut buffer)?;
    stream.write_all(answer.as_bytes())
}

/// Our own engine with a clock that is ahead by so many seconds: it answers, and relays nothing.
pub(crate) fn server_ahead(seconds: u64) -> String {
    let mut credentials = Credentials::new("example.org");
    credentials.add_secret(Secret::new("c2VjcmV0LXNlY3JldA==").expect("a secret"));
    let config = relay::Config {
        listeners: vec!["127.0.0.1:3478".parse().expect("an address")],
        relays: Vec::new(),
        ports: PortShare::whole(50_000..=50_099),
        default_family: DefaultFamily::Client,
        discovery: Vec::new(),
        seed: [1; 32],
        nonce_key: [2; 32],
    };
    let engine = Mutex::new(Relay::new(config, Arc::new(Live::new(Arc::new(credentials)))));
    let client = "127.0.0.1:1".parse().expect("an address");
    let from = FiveTuple { client, listener: ListenerId(0), stream: None };
    let now = Now { mono: Mono(0), unix: now() + seconds };
    fake(move |request, out| {
        let mut engine = engine.lock().expect("the engine");
        if let Action::Open(pending) = engine.handle_client(now, &from, request.as_bytes(), out)
            && let Want::Bind(address) = pending.want()
        {
            // the answer is in `out`, which is all that there is to send
            let _ = engine.opened(now, pending, Ok(Opened::Relay(RelayId(1), address)), out);
        }
    })
}
