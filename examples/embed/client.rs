//! A TURN client that knows just enough: challenge, Allocate, CreatePermission, one Send indication.

use std::io::{Error, Result};
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use md5::{Digest, Md5};
use turnwell::credentials::Issued;
use turnwell::wire::{Algorithm, AttributeType, Class, IntegrityKey, Message, Method, TransactionId, Writer};

struct Client<'a> {
    socket: UdpSocket,
    issued: &'a Issued,
    realm: Vec<u8>,
    nonce: Vec<u8>,
    transactions: u8,
}

/// Sends a datagram to an echoing peer through the server and waits for it to come back.
pub(crate) fn relay_a_datagram(server: SocketAddr, issued: &Issued) -> Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    socket.connect(server)?;
    let peer = UdpSocket::bind("127.0.0.1:0")?;
    let peer_address = peer.local_addr()?;
    let mut client = Client { socket, issued, realm: Vec::new(), nonce: Vec::new(), transactions: 0 };

    let allocate = |writer: &mut Writer<'_>| {
        writer.attribute(AttributeType::REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
    };
    client.request(Method::ALLOCATE, allocate)?;
    let relayed = client.request(Method::ALLOCATE, allocate)?.ok_or(Error::other("no relayed address"))?;
    println!("{} was given the relayed address {relayed}", client.socket.local_addr()?);
    client.request(Method::CREATE_PERMISSION, |writer| {
        writer.xor_address(AttributeType::XOR_PEER_ADDRESS, peer_address);
    })?;

    let mut out = Vec::new();
    Writer::new(&mut out, Class::Indication, Method::SEND, TransactionId([9; 12]))
        .xor_address(AttributeType::XOR_PEER_ADDRESS, peer_address)
        .attribute(AttributeType::DATA, b"hello through the relay")
        .finish();
    client.socket.send(&out)?;
    let mut packet = [0; 1500];
    let (length, from) = peer.recv_from(&mut packet)?;
    println!("the peer {peer_address} got {:?} from {from}", String::from_utf8_lossy(&packet[..length]));
    peer.send_to(&packet[..length], from)?;

    let length = client.socket.recv(&mut packet)?;
    let message = Message::parse(&packet[..length]).map_err(|error| Error::other(format!("{error:?}")))?;
    let data = message.attributes().flatten().find(|attribute| attribute.kind == AttributeType::DATA);
    println!("and the client got it back: {:?}", data.map(|data| String::from_utf8_lossy(data.value).into_owned()));
    Ok(())
}

impl Client<'_> {
    /// Sends a request, signed once the server has told realm and nonce, and returns the relayed address of the
    /// answer, if there is one.
    fn request(&mut self, method: Method, add: impl Fn(&mut Writer<'_>)) -> Result<Option<SocketAddr>> {
        self.transactions += 1;
        let id = TransactionId([self.transactions; 12]);
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out, Class::Request, method, id);
        add(&mut writer);
        if !self.nonce.is_empty() {
            let realm = String::from_utf8_lossy(&self.realm);
            let key = Md5::digest(format!("{}:{realm}:{}", self.issued.username, self.issued.password));
            writer.attribute(AttributeType::USERNAME, self.issued.username.as_bytes());
            writer.attribute(AttributeType::REALM, &self.realm).attribute(AttributeType::NONCE, &self.nonce);
            writer.integrity(&IntegrityKey::new(&key), Algorithm::Sha1);
        }
        writer.finish();
        self.socket.send(&out)?;
        let mut packet = [0; 1500];
        let length = self.socket.recv(&mut packet)?;
        let message = Message::parse(&packet[..length]).map_err(|error| Error::other(format!("{error:?}")))?;
        let mut relayed = None;
        for attribute in message.attributes().flatten() {
            match attribute.kind {
                AttributeType::REALM => self.realm = attribute.value.to_vec(),
                AttributeType::NONCE => self.nonce = attribute.value.to_vec(),
                AttributeType::XOR_RELAYED_ADDRESS => relayed = attribute.xor_address(id).ok(),
                _ => {}
            }
        }
        Ok(relayed)
    }
}
