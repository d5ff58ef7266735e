//! The `turn` crate as a client that we did not write: allocate, permission, channel, data both ways, refresh, close.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::timeout;
use turn::client::{Client, ClientConfig};
use webrtc_util::Conn;

use crate::sessions::Server;
use crate::support::Dev;

const PATIENCE: Duration = Duration::from_secs(10);

/// A client with the credential that the server's API mints.
async fn client(dev: &Dev) -> Client {
    let minted = Server::of(dev).mint("alice");
    let text = |name: &str| minted[name].as_str().expect("a text").to_owned();
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let client = Client::new(ClientConfig {
        stun_serv_addr: dev.address().to_string(),
        turn_serv_addr: dev.address().to_string(),
        username: text("username"),
        password: text("password"),
        realm: dev.text("realm").to_owned(),
        software: String::new(),
        rto_in_ms: 0,
        conn: Arc::new(socket),
        vnet: None,
    });
    let client = client.await.expect("a client");
    client.listen().await.expect("it listens");
    client
}

/// What a client sends only to install a permission; it arrives when the other side has one already.
const CONSENT: &[u8] = b"consent";

/// Sends from one to the other and expects the same bytes.
async fn carries(from: &(impl Conn + Sync), to: &(impl Conn + Sync), destination: std::net::SocketAddr, bytes: &[u8]) {
    from.send_to(bytes, destination).await.expect("it is sent");
    let mut packet = [0; 2000];
    loop {
        let (length, _) = timeout(PATIENCE, to.recv_from(&mut packet)).await.expect("in time").expect("a datagram");
        if &packet[..length] != CONSENT {
            return assert_eq!(&packet[..length], bytes);
        }
    }
}

#[tokio::test]
async fn data_both_ways_over_indications_and_a_channel_then_refresh_and_close() {
    let dev = Dev::start(&[]);
    let client = client(&dev).await;
    let reflexive = client.send_binding_request().await.expect("a Binding response");
    assert!(reflexive.ip().is_loopback());

    let relay = client.allocate().await.expect("an allocation");
    let relayed = relay.local_addr().expect("the relayed address");
    let peer = UdpSocket::bind("127.0.0.1:0").await.expect("a peer");
    let address = peer.local_addr().expect("its address");

    // The first send creates the permission and, in the background, binds a channel; both ways work all the while.
    for round in 0..50u8 {
        carries(&relay, &peer, address, &[round; 100]).await;
        carries(&peer, &relay, relayed, &[round; 1200]).await;
    }
    relay.close().await.expect("Refresh with lifetime 0");
    client.close().await.expect("the client ends");

    // The allocation is gone: what a peer sends now reaches nobody, and a new one is granted.
    let again = self::client(&dev).await;
    assert_ne!(again.allocate().await.expect("an allocation").local_addr().expect("its address"), relayed);
}

#[tokio::test]
async fn two_clients_reach_each_other_through_their_relayed_addresses() {
    let dev = Dev::start(&["--workers", "2"]);
    let (one, two) = (client(&dev).await, client(&dev).await);
    let (one, two) = (one.allocate().await.expect("one"), two.allocate().await.expect("two"));
    let (at_one, at_two) = (one.local_addr().expect("an address"), two.local_addr().expect("an address"));
    one.send_to(CONSENT, at_two).await.expect("it is sent");
    carries(&two, &one, at_one, b"from two").await;
    carries(&one, &two, at_two, b"from one").await;
}

/// A peer that most packets go to gets a connected socket inside the server; nobody outside must notice.
#[tokio::test]
async fn a_busy_peer_another_one_and_one_that_went_away_and_came_back() {
    let dev = Dev::start(&[]);
    let client = client(&dev).await;
    let relay = client.allocate().await.expect("an allocation");
    let relayed = relay.local_addr().expect("the relayed address");
    let busy = UdpSocket::bind("127.0.0.1:0").await.expect("a peer");
    let other = UdpSocket::bind("127.0.0.1:0").await.expect("a peer");
    let (at_busy, at_other) = (busy.local_addr().expect("an address"), other.local_addr().expect("an address"));

    for round in 0..200u8 {
        carries(&relay, &busy, at_busy, &[round; 64]).await;
        carries(&busy, &relay, relayed, &[round; 64]).await;
        if round % 50 == 0 {
            carries(&relay, &other, at_other, &[round; 64]).await;
            carries(&other, &relay, relayed, &[round; 64]).await;
        }
    }
    // While nobody listens there, the server's packets meet ICMP errors; the other peer is reached all the same.
    drop(busy);
    for round in 0..20u8 {
        relay.send_to(&[round; 64], at_busy).await.expect("it is sent");
        carries(&relay, &other, at_other, &[round; 64]).await;
    }
    let busy = UdpSocket::bind(at_busy).await.expect("the peer again");
    carries(&relay, &busy, at_busy, b"again").await;
    carries(&busy, &relay, relayed, b"and back").await;
}
