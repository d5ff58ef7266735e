//! A client on a connection, plain or TLS, with an allocation and a channel to a peer that echoes: for calls that go on
//! while something else happens.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::thread;

use turnwell::wire::{Frame, frame, padding};

use crate::common::{self, Client};

const CHANNEL: u16 = 0x4001;

/// A peer that sends back what it receives, until it is dropped.
pub(crate) struct Echo(SocketAddr);

impl Echo {
    pub(crate) fn start() -> Echo {
        // not an address that this server relays on, which no rule denies
        let socket = UdpSocket::bind("127.0.0.2:0").expect("a peer");
        let at = socket.local_addr().expect("its address");
        thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                if length == 0 {
                    return;
                }
                // whoever is gone needs no echo
                let _ = socket.send_to(&buffer[..length], from);
            }
        });
        Echo(at)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0
    }
}

impl Drop for Echo {
    /// An empty datagram ends it.
    fn drop(&mut self) {
        if let Ok(socket) = UdpSocket::bind("127.0.0.2:0") {
            let _ = socket.send_to(&[], self.0);
        }
    }
}

/// The client.
pub(crate) struct Talker<S> {
    pub(crate) stream: S,
    sent: u64,
}

impl<S: Read + Write> Talker<S> {
    /// Allocates and binds a channel to the peer.
    pub(crate) fn new(mut stream: S, peer: SocketAddr) -> Talker<S> {
        let mut client = Client::new();
        let challenge = ask(&mut stream, &client.allocate());
        client.challenged(&challenge);
        for request in [client.allocate(), client.bind(CHANNEL, peer)] {
            let reply = ask(&mut stream, &request);
            assert!(common::is_success(&reply), "{:?}", common::error_code(&reply));
        }
        Talker { stream, sent: 0 }
    }

    /// Sends so many messages to the peer at once, each another one, and takes all echoes, in order.
    pub(crate) fn exchange(&mut self, count: u64) {
        let numbers = self.sent..self.sent + count;
        self.sent = numbers.end;
        let messages: Vec<u8> = numbers.clone().flat_map(|number| channel_data(&payload(number))).collect();
        self.stream.write_all(&messages).and_then(|()| self.stream.flush()).expect("messages written");
        for number in numbers {
            assert!(self.receive() == payload(number), "another message than number {number}");
        }
    }

    /// How many messages went there and back.
    pub(crate) fn exchanged(&self) -> u64 {
        self.sent
    }

    /// The next data of the peer.
    pub(crate) fn receive(&mut self) -> Vec<u8> {
        common::data(&message(&mut self.stream))
    }
}

/// ChannelData for the peer as it is on a stream, padding included (RFC 8656 §12.5).
pub(crate) fn channel_data(data: &[u8]) -> Vec<u8> {
    let message = common::channel_data(CHANNEL, data);
    [message.as_slice(), &[0; 3][..padding(message.len())]].concat()
}

/// The number, and up to 1,200 bytes that follow from it.
fn payload(number: u64) -> Vec<u8> {
    let filler = (number..number + number * 97 % 1200).map(|index| u8::try_from(index % 251).expect("a byte"));
    number.to_be_bytes().into_iter().chain(filler).collect()
}

/// The next message, and not a byte more.
pub(crate) fn next_message(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        match Frame::first(&bytes, frame::LONGEST).expect("a frame") {
            Frame::Whole { .. } => return Ok(bytes),
            Frame::Partial { needed } => {
                let at = bytes.len();
                bytes.resize(needed, 0);
                stream.read_exact(&mut bytes[at..])?;
            }
        }
    }
}

/// The same where nothing but a message may come.
pub(crate) fn message(stream: &mut impl Read) -> Vec<u8> {
    next_message(stream).expect("a message")
}

/// Sends a request and takes the answer.
pub(crate) fn ask(stream: &mut (impl Read + Write), request: &[u8]) -> Vec<u8> {
    stream.write_all(request).expect("a request sent");
    message(stream)
}
