//! A TURN client that this project did not write, for calls that the API watches and ends.

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::Value;
use tokio::net::UdpSocket;
use turn::client::{Client, ClientConfig};
use webrtc_util::conn::Conn;

/// An allocation with a peer behind it.
pub(crate) struct Call {
    _client: Client,
    relay: Box<dyn Conn + Send + Sync>,
    peer: UdpSocket,
}

/// Allocates with a minted credential; the error is the client's.
pub(crate) async fn call(server: SocketAddr, realm: &str, minted: &Value) -> Result<Call, String> {
    let text = |name: &str| minted[name].as_str().unwrap_or_default().to_owned();
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let client = Client::new(ClientConfig {
        stun_serv_addr: server.to_string(),
        turn_serv_addr: server.to_string(),
        username: text("username"),
        password: text("password"),
        realm: realm.to_owned(),
        software: String::new(),
        // a stall of the machine is no loss: nothing is to be counted twice
        rto_in_ms: 3000,
        conn: Arc::new(socket),
        vnet: None,
    })
    .await
    .expect("a client");
    client.listen().await.expect("a client that listens");
    let relay = client.allocate().await.map_err(|error| error.to_string())?;
    // not an address that this server relays on, which no rule denies
    let peer = UdpSocket::bind("127.0.0.2:0").await.expect("a socket");
    Ok(Call { _client: client, relay: Box::new(relay), peer })
}

impl Call {
    /// The relayed address as the client was told.
    pub(crate) fn relayed(&self) -> SocketAddr {
        self.relay.local_addr().expect("a relayed address")
    }

    /// Sends one packet towards the peer, whether or not it arrives.
    pub(crate) async fn send(&self) {
        let peer = self.peer.local_addr().expect("its address");
        self.relay.send_to(b"ping", peer).await.expect("a packet sent");
    }

    /// How many packets wait at the peer; they are taken away.
    pub(crate) fn arrived(&self) -> usize {
        let mut buffer = [0; 2048];
        std::iter::from_fn(|| self.peer.try_recv_from(&mut buffer).ok()).count()
    }

    /// Ends the allocation.
    pub(crate) async fn hang_up(self) {
        self.relay.close().await.expect("an end");
    }

    /// Sends payloads to the peer, which echoes each of them.
    pub(crate) async fn echo(&self, count: usize, length: usize) {
        let (peer, payload) = (self.peer.local_addr().expect("its address"), vec![7; length]);
        let mut buffer = vec![0; 2048];
        for _ in 0..count {
            self.relay.send_to(&payload, peer).await.expect("a packet sent");
            let (received, from) = self.peer.recv_from(&mut buffer).await.expect("a packet relayed");
            assert_eq!(buffer[..received], payload);
            self.peer.send_to(&buffer[..received], from).await.expect("an echo sent");
            let (received, _) = self.relay.recv_from(&mut buffer).await.expect("an echo relayed");
            assert_eq!(received, length);
        }
    }
}
