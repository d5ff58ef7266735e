//! Our transport under the `turn` crate's client: its `Conn` over UDP, TCP and TLS.
//!
//! That client checks neither where an answer comes from nor how it is signed, ends at the first stray message, and
//! panics over an error reason that is not UTF-8. So everything is judged here first: only answers to what was asked
//! pass, signed with the password wherever the request was; what there is to tell stands in the [`Journal`].

use std::any::Any;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use md5::{Digest, Md5};
use tokio::sync::oneshot;
use tokio::time::timeout;
use webrtc_util::Conn;

use super::link::{Foreign, Link};
use crate::wire::{Attribute, AttributeType, Class, IntegrityKey, Kind, Message, Method, TransactionId};

/// A link with a memory.
pub(super) struct Channel {
    pub(super) link: Link,
    username: String,
    password: zeroize::Zeroizing<String>,
    journal: Mutex<Journal>,
}

/// What has come to pass on a link.
#[derive(Default)]
pub(super) struct Journal {
    asked: HashMap<TransactionId, Asked>,
    /// The realm and nonce of the last challenge.
    pub(super) challenge: Option<(String, String)>,
    /// The last error to each method that has not succeeded since.
    pub(super) errors: HashMap<Method, Refusal>,
    /// Whether a request without credentials was granted an allocation.
    pub(super) anonymous: bool,
    /// Whether anything at all was answered.
    pub(super) answered: bool,
    /// Success responses that were not signed with the password.
    pub(super) unsigned: u32,
    /// Sources of messages that are not the server.
    pub(super) strays: Vec<SocketAddr>,
    /// How the link ended, if it did.
    pub(super) broken: Option<String>,
    /// The first bytes of what was no message, on a stream.
    pub(super) foreign: Option<Vec<u8>>,
    pub(super) software: Option<String>,
}

/// An error response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: u16,
    pub(super) reason: String,
    /// Whether the request was signed: a 401 to one that was not is only the challenge.
    pub(super) signed: bool,
}

struct Asked {
    signed: bool,
    /// Where the answer goes that the `turn` crate did not ask for.
    ours: Option<oneshot::Sender<Vec<u8>>>,
}

/// What becomes of a message from the server.
enum Verdict {
    Pass(Vec<u8>),
    Drop,
}

impl Channel {
    pub(super) fn new(link: Link, username: &str, password: &str) -> Channel {
        let password = zeroize::Zeroizing::new(password.to_owned());
        Channel { link, username: username.to_owned(), password, journal: Mutex::default() }
    }

    pub(super) fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last error to a method that has not succeeded since.
    pub(super) fn error(&self, method: Method) -> Option<Refusal> {
        self.journal().errors.get(&method).cloned()
    }

    /// Sends a request of ours and waits for its answer, repeating it over UDP; somebody must be receiving.
    pub(super) async fn ask(&self, request: &[u8], patience: Duration) -> Option<Vec<u8>> {
        let id = Message::parse(request).ok()?.transaction_id();
        let (ours, mut answer) = oneshot::channel();
        self.journal().asked.insert(id, Asked { signed: is_signed(request), ours: Some(ours) });
        let mut wait = Duration::from_millis(200);
        let repeat = async {
            loop {
                self.link.send(request).await.ok()?;
                if self.link.is_stream() {
                    return (&mut answer).await.ok();
                }
                if let Ok(answer) = timeout(wait, &mut answer).await {
                    return answer.ok();
                }
                wait *= 2;
            }
        };
        timeout(patience, repeat).await.ok().flatten()
    }

    /// Looks at a message before the client does.
    fn judge(&self, bytes: Vec<u8>) -> Verdict {
        match Kind::of(&bytes) {
            Kind::ChannelData => return Verdict::Pass(bytes),
            Kind::Foreign => return Verdict::Drop,
            Kind::Stun => {}
        }
        let Ok(message) = Message::parse(&bytes) else { return Verdict::Drop };
        match message.class() {
            Class::Request => Verdict::Drop,
            Class::Indication if message.method() == Method::DATA => Verdict::Pass(bytes),
            Class::Indication => Verdict::Drop,
            Class::Success | Class::Error => self.judge_answer(&message, &bytes),
        }
    }

    fn judge_answer(&self, message: &Message<'_>, bytes: &[u8]) -> Verdict {
        let mut journal = self.journal();
        let Some(mut asked) = journal.asked.remove(&message.transaction_id()) else { return Verdict::Drop };
        journal.answered = true;
        if let Some(software) = text(message, AttributeType::SOFTWARE) {
            journal.software = Some(software);
        }
        let realm = text(message, AttributeType::REALM);
        if message.class() == Class::Error {
            if let Some((code, reason)) = error(message) {
                journal.errors.insert(message.method(), Refusal { code, reason, signed: asked.signed });
            }
            if let (Some(realm), Some(nonce)) = (realm, text(message, AttributeType::NONCE)) {
                journal.challenge = Some((realm, nonce));
            }
        } else {
            journal.errors.remove(&message.method());
            if !asked.signed && message.method() == Method::ALLOCATE {
                journal.anonymous = true;
            }
            if asked.signed && !self.is_signed_with_the_password(message, &journal) {
                journal.unsigned += 1;
                return Verdict::Drop;
            }
        }
        let harmless = with_a_harmless_reason(message, bytes);
        match asked.ours.take() {
            Some(ours) => {
                // whoever asked may have given up
                let _ = ours.send(harmless);
                Verdict::Drop
            }
            None => Verdict::Pass(harmless),
        }
    }

    fn is_signed_with_the_password(&self, message: &Message<'_>, journal: &Journal) -> bool {
        let Some((realm, _)) = &journal.challenge else { return false };
        let kinds = [AttributeType::MESSAGE_INTEGRITY, AttributeType::MESSAGE_INTEGRITY_SHA256];
        let mut attributes = message.attributes().map_while(Result::ok);
        attributes
            .find(|attribute| kinds.contains(&attribute.kind))
            .is_some_and(|attribute| self.key(realm).verify(message.as_bytes(), &attribute))
    }

    /// RFC 8489 §9.2.2
    fn key(&self, realm: &str) -> IntegrityKey {
        long_term_key(&self.username, realm, &self.password)
    }
}

/// MD5 of user, realm and password (RFC 8489 §9.2.2).
fn long_term_key(username: &str, realm: &str, password: &str) -> IntegrityKey {
    let mut md5 = Md5::new();
    for part in [username, ":", realm, ":", password] {
        md5.update(part.as_bytes());
    }
    IntegrityKey::new(&md5.finalize())
}

fn is_signed(request: &[u8]) -> bool {
    let Ok(message) = Message::parse(request) else { return false };
    let mut attributes = message.attributes().map_while(Result::ok);
    attributes.any(|attribute| attribute.kind == AttributeType::MESSAGE_INTEGRITY)
}

fn find<'a>(message: &Message<'a>, kind: AttributeType) -> Option<Attribute<'a>> {
    message.attributes().map_while(Result::ok).find(|attribute| attribute.kind == kind)
}

fn text(message: &Message<'_>, kind: AttributeType) -> Option<String> {
    find(message, kind).map(|attribute| String::from_utf8_lossy(attribute.value).into_owned())
}

fn error(message: &Message<'_>) -> Option<(u16, String)> {
    let attribute = find(message, AttributeType::ERROR_CODE)?;
    let reason = attribute.value.get(4..).unwrap_or_default();
    Some((attribute.error_code().ok()?, String::from_utf8_lossy(reason).into_owned()))
}

/// The same message with a reason that is ASCII: the client's code panics over others.
fn with_a_harmless_reason(message: &Message<'_>, bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if let Some(attribute) = find(message, AttributeType::ERROR_CODE) {
        let start = attribute.offset + 4;
        let reason = bytes.iter_mut().skip(start + 4).take(attribute.value.len().saturating_sub(4));
        reason.filter(|byte| !byte.is_ascii()).for_each(|byte| *byte = b'?');
    }
    bytes
}

fn io_error(error: io::Error) -> webrtc_util::Error {
    error.into()
}

#[async_trait]
impl Conn for Channel {
    async fn connect(&self, _: SocketAddr) -> Result<(), webrtc_util::Error> {
        Ok(())
    }

    async fn recv(&self, buffer: &mut [u8]) -> Result<usize, webrtc_util::Error> {
        self.recv_from(buffer).await.map(|(length, _)| length)
    }

    async fn recv_from(&self, buffer: &mut [u8]) -> Result<(usize, SocketAddr), webrtc_util::Error> {
        loop {
            let (bytes, source) = match self.link.receive().await {
                Ok(received) => received,
                Err(error) => {
                    let mut journal = self.journal();
                    journal.broken = Some(error.to_string());
                    journal.foreign = error
                        .get_ref()
                        .and_then(|inner| inner.downcast_ref::<Foreign>())
                        .map(|foreign| foreign.0.clone());
                    return Err(io_error(error));
                }
            };
            if source != self.link.server {
                self.journal().strays.push(source);
                continue;
            }
            if let Verdict::Pass(bytes) = self.judge(bytes)
                && let Some(place) = buffer.get_mut(..bytes.len())
            {
                place.copy_from_slice(&bytes);
                return Ok((bytes.len(), source));
            }
        }
    }

    async fn send(&self, message: &[u8]) -> Result<usize, webrtc_util::Error> {
        if let Ok(request) = Message::parse(message)
            && request.class() == Class::Request
        {
            let asked = Asked { signed: is_signed(message), ours: None };
            let known = self.journal().asked.insert(request.transaction_id(), asked).is_some();
            // what a stream carries arrives: a repetition would only be answered twice
            if known && self.link.is_stream() {
                return Ok(message.len());
            }
        }
        self.link.send(message).await.map_err(io_error)?;
        Ok(message.len())
    }

    async fn send_to(&self, message: &[u8], _: SocketAddr) -> Result<usize, webrtc_util::Error> {
        self.send(message).await
    }

    fn local_addr(&self) -> Result<SocketAddr, webrtc_util::Error> {
        Ok(self.link.local)
    }

    fn remote_addr(&self) -> Option<SocketAddr> {
        Some(self.link.server)
    }

    async fn close(&self) -> Result<(), webrtc_util::Error> {
        Ok(())
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}
