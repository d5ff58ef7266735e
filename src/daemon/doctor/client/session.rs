//! An allocation held by the `turn` crate's client over our transport, and the single steps that are tried with it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use stun::agent::TransactionId;
use stun::attributes::{ATTR_NONCE, ATTR_REALM, ATTR_USERNAME};
use stun::fingerprint::FINGERPRINT;
use stun::integrity::MessageIntegrity;
use stun::message::{
    BINDING_REQUEST, CLASS_REQUEST, CLASS_SUCCESS_RESPONSE, Getter, METHOD_CREATE_PERMISSION, Message, MessageType,
    Setter,
};
use stun::textattrs::TextAttribute;
use stun::xoraddr::XorMappedAddress;
use tokio::net::UdpSocket;
use tokio::time::timeout;
use turn::client::{Client, ClientConfig};
use turn::proto::peeraddr::PeerAddress;
use webrtc_util::Conn;

use super::super::login::Login;
use super::conn::{Channel, Refusal};
use crate::wire::Method;

/// What a client sends only to install a permission.
const CONSENT: &[u8] = b"turnwell doctor: consent";
/// Between two tries with datagrams that may be lost.
const BEAT: Duration = Duration::from_millis(250);

/// A client that has not allocated yet.
pub(super) struct Caller {
    pub(super) channel: Arc<Channel>,
    client: Client,
    login: Option<Login>,
}

/// A client with an allocation.
pub(super) struct Session {
    pub(super) channel: Arc<Channel>,
    pub(super) relayed: SocketAddr,
    client: Client,
    relay: Arc<dyn Conn + Send + Sync>,
    login: Login,
}

/// Why there is no allocation.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoAllocation {
    /// The server has a reason.
    Refused(Refusal),
    /// It granted one to a request without credentials.
    Anonymous,
    /// It answered the first request with neither realm nor nonce.
    NoChallenge(Option<Refusal>),
    /// It signed its answers with another key.
    Unsigned,
    /// It says nothing.
    Silent,
    /// The client's code failed.
    Failed(String),
}

/// How a packet fared.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Passage {
    /// There and back.
    Through,
    /// The server refused a permission.
    Refused(Refusal),
    /// Nothing came from the peer through the relay to the client.
    NothingIn,
    /// Nothing came from the client through the relay to the peer.
    NothingOut,
    /// It could not be tried.
    Untried(String),
}

impl Caller {
    pub(super) async fn new(channel: Channel, login: Option<&Login>) -> Result<Caller, turn::Error> {
        let channel = Arc::new(channel);
        let (username, password) =
            login.map(|login| (login.username.clone(), login.password.to_string())).unwrap_or_default();
        let client = Client::new(ClientConfig {
            stun_serv_addr: channel.link.server.to_string(),
            turn_serv_addr: channel.link.server.to_string(),
            username,
            password,
            realm: String::new(),
            software: String::new(),
            rto_in_ms: 0,
            conn: channel.clone(),
            vnet: None,
        })
        .await?;
        client.listen().await?;
        Ok(Caller { channel, client, login: login.cloned() })
    }

    /// The address from which the server sees us.
    pub(super) async fn binding(&self, patience: Duration) -> Option<SocketAddr> {
        let request = built(&[Box::new(TransactionId::new()), Box::new(BINDING_REQUEST)])?;
        let answer = decoded(self.channel.ask(&request, patience).await?)?;
        let mut address = XorMappedAddress::default();
        address.get_from(&answer).ok()?;
        Some(SocketAddr::new(address.ip, address.port))
    }

    pub(super) async fn allocate(self, patience: Duration) -> Result<Session, NoAllocation> {
        let client = self.client.clone();
        // a task of its own: a panic in the client's code must not be ours
        let task = tokio::spawn(async move {
            let granted = client.allocate().await;
            granted.map(|relay| Arc::new(relay) as Arc<dyn Conn + Send + Sync>)
        });
        let stop = task.abort_handle();
        let granted = match timeout(patience * 2, task).await {
            Ok(Ok(granted)) => granted.map_err(|error| error.to_string()),
            Ok(Err(error)) => Err(format!("the turn crate's client failed: {error}")),
            Err(_) => {
                stop.abort();
                Err("no answer in time".into())
            }
        };
        match (granted, self.login) {
            (Ok(relay), Some(login)) => {
                let relayed = relay.local_addr().map_err(|error| NoAllocation::Failed(error.to_string()))?;
                Ok(Session { channel: self.channel, relayed, client: self.client, relay, login })
            }
            (Ok(_), None) => Err(NoAllocation::Anonymous),
            (Err(error), _) => Err(no_allocation(&self.channel, error)),
        }
    }
}

fn no_allocation(channel: &Channel, error: String) -> NoAllocation {
    let refusal = channel.error(Method::ALLOCATE);
    let journal = channel.journal();
    match refusal {
        _ if journal.anonymous => NoAllocation::Anonymous,
        _ if journal.unsigned > 0 => NoAllocation::Unsigned,
        Some(refusal) if refusal.signed || refusal.code != 401 => NoAllocation::Refused(refusal),
        Some(refusal) if journal.challenge.is_none() => NoAllocation::NoChallenge(Some(refusal)),
        // the challenge came, and then nothing
        Some(_) => NoAllocation::Silent,
        None if journal.broken.is_some() || !journal.answered => NoAllocation::Silent,
        None => NoAllocation::Failed(error),
    }
}

impl Session {
    /// Sends a packet to another allocation of the same server, and one back.
    pub(super) async fn exchange(&self, other: &Session, patience: Duration) -> Passage {
        for (from, to) in [(self, other), (other, self)] {
            if let Err(refused) = from.permit(to.relayed).await {
                return refused;
            }
        }
        for (from, to) in [(self, other), (other, self)] {
            let payload = format!("turnwell doctor {}", from.relayed);
            let sent = timeout(patience, async {
                loop {
                    // what is lost is sent again
                    let _ = from.relay.send_to(payload.as_bytes(), to.relayed).await;
                    if to.receives(payload.as_bytes(), BEAT).await.is_some() {
                        return;
                    }
                }
            });
            if sent.await.is_err() {
                return Passage::NothingOut;
            }
        }
        Passage::Through
    }

    /// Sends packets to the relayed address as a peer outside the server does, and back.
    pub(super) async fn outside(&self, seen_as: IpAddr, patience: Duration) -> Passage {
        if seen_as.is_ipv4() != self.relayed.is_ipv4() {
            return Passage::Untried("the relayed address is of another family than the connection".into());
        }
        let anywhere: IpAddr = match seen_as {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let untried = |error: std::io::Error| Passage::Untried(error.to_string());
        let (peer, port) = match UdpSocket::bind((anywhere, 0)).await.and_then(|peer| {
            let port = peer.local_addr()?.port();
            Ok((peer, port))
        }) {
            Ok(bound) => bound,
            Err(error) => return untried(error),
        };
        if let Err(refused) = self.permit(SocketAddr::new(seen_as, port)).await {
            return refused;
        }
        let payload = format!("turnwell doctor to {}", self.relayed);
        let arrived = timeout(patience, async {
            loop {
                peer.send_to(payload.as_bytes(), self.relayed).await?;
                if let Some(source) = self.receives(payload.as_bytes(), BEAT).await {
                    return Ok(source);
                }
            }
        });
        let source = match arrived.await {
            Ok(Ok(source)) => source,
            Ok(Err(error)) => return untried(error),
            Err(_) => return Passage::NothingIn,
        };
        let payload = format!("turnwell doctor from {}", self.relayed);
        let back = timeout(patience, async {
            let mut buffer = [0; 200];
            loop {
                let _ = self.relay.send_to(payload.as_bytes(), source).await;
                if let Ok(Ok((length, from))) = timeout(BEAT, peer.recv_from(&mut buffer)).await
                    && from == self.relayed
                    && buffer.get(..length) == Some(payload.as_bytes())
                {
                    return;
                }
            }
        });
        if back.await.is_err() { Passage::NothingOut } else { Passage::Through }
    }

    /// Whether the server would relay to an address; nothing is sent there.
    pub(super) async fn may_reach(&self, ip: IpAddr, patience: Duration) -> Option<bool> {
        // the second try has the nonce of a 438
        for _ in 0..2 {
            let (realm, nonce) = self.channel.journal().challenge.clone()?;
            let Login { username, password, .. } = &self.login;
            let integrity =
                MessageIntegrity::new_long_term_integrity(username.clone(), realm.clone(), password.to_string());
            let request = built(&[
                Box::new(TransactionId::new()),
                Box::new(MessageType::new(METHOD_CREATE_PERMISSION, CLASS_REQUEST)),
                Box::new(PeerAddress { ip, port: 9 }),
                Box::new(TextAttribute::new(ATTR_USERNAME, username.clone())),
                Box::new(TextAttribute::new(ATTR_REALM, realm)),
                Box::new(TextAttribute::new(ATTR_NONCE, nonce)),
                Box::new(integrity),
                Box::new(FINGERPRINT),
            ])?;
            let answer = decoded(self.channel.ask(&request, patience).await?)?;
            if answer.typ.class == CLASS_SUCCESS_RESPONSE {
                return Some(true);
            }
            if self.channel.error(Method::CREATE_PERMISSION)?.code != 438 {
                return Some(false);
            }
        }
        None
    }

    /// Gives the allocation back.
    pub(super) async fn close(self) {
        // a server that does not hear it forgets it after its lifetime
        let _ = timeout(Duration::from_secs(1), self.relay.close()).await;
        let _ = timeout(Duration::from_secs(1), self.client.close()).await;
    }

    /// Installs a permission, with a packet that says nothing.
    async fn permit(&self, peer: SocketAddr) -> Result<(), Passage> {
        let sent = timeout(Duration::from_secs(5), self.relay.send_to(CONSENT, peer)).await;
        match (sent, self.channel.error(Method::CREATE_PERMISSION)) {
            (Ok(Ok(_)), _) => Ok(()),
            (_, Some(refusal)) => Err(Passage::Refused(refusal)),
            (Ok(Err(error)), None) => Err(Passage::Untried(error.to_string())),
            (Err(_), None) => Err(Passage::Untried("no answer to CreatePermission".into())),
        }
    }

    /// Where a payload came from, if it comes in time.
    async fn receives(&self, payload: &[u8], patience: Duration) -> Option<SocketAddr> {
        let mut buffer = [0; 2000];
        let receive = async {
            loop {
                let (length, from) = self.relay.recv_from(&mut buffer).await.ok()?;
                if buffer.get(..length) == Some(payload) {
                    return Some(from);
                }
            }
        };
        timeout(patience, receive).await.ok().flatten()
    }
}

fn built(setters: &[Box<dyn Setter>]) -> Option<Vec<u8>> {
    let mut message = Message::new();
    message.build(setters).ok()?;
    Some(message.raw)
}

fn decoded(bytes: Vec<u8>) -> Option<Message> {
    let mut message = Message::new();
    message.raw = bytes;
    message.decode().ok()?;
    Some(message)
}
