//! What every request goes through before its method sees it: one walk over the attributes; and afterwards the one place
//! where answers are encoded.

use std::net::SocketAddr;

use super::Relay;
use super::action::{Action, ConnectionId, Discard, Event, FiveTuple, Refusal, ReservationToken, Why};
use super::clock::Now;
use super::discovery::Told;
use super::nonce::{self, Offer};
use super::table::Slot;
use crate::credentials::Identity;
use crate::wire::attribute::Malformed;
use crate::wire::integrity::verify_fingerprint;
use crate::wire::{
    AddressFamily, Algorithm, Attribute, AttributeType, ErrorCode, IntegrityKey, Message, Method, TransactionId, Writer,
};

/// How many unknown attributes a 420 names: more than any client could mean, and the answer still fits the smallest
/// packet that every path carries.
const MOST_UNKNOWN: usize = 64;

/// What this server understands of requests; anything else below 0x8000 is answered with 420 (RFC 8489 §6.3.1).
const UNDERSTOOD: &[AttributeType] = &[
    AttributeType::USERNAME,
    AttributeType::MESSAGE_INTEGRITY,
    AttributeType::MESSAGE_INTEGRITY_SHA256,
    AttributeType::REALM,
    AttributeType::NONCE,
    AttributeType::USERHASH,
    AttributeType::PASSWORD_ALGORITHM,
    AttributeType::CHANNEL_NUMBER,
    AttributeType::LIFETIME,
    AttributeType::XOR_PEER_ADDRESS,
    AttributeType::DATA,
    AttributeType::REQUESTED_ADDRESS_FAMILY,
    AttributeType::EVEN_PORT,
    AttributeType::REQUESTED_TRANSPORT,
    AttributeType::DONT_FRAGMENT,
    AttributeType::RESERVATION_TOKEN,
    AttributeType::CONNECTION_ID,
];

/// A message whose attributes have been walked once.
pub(super) struct Request<'a> {
    pub(super) message: Message<'a>,
    pub(super) from: &'a FiveTuple,
    /// The integrity attribute to check: SHA-256 where there are both (RFC 8489 §9.2.4).
    pub(super) integrity: Option<Attribute<'a>>,
    /// There is a SHA-1 one too.
    pub(super) has_sha1: bool,
    /// Attributes from here on are not protected and not looked at.
    end: usize,
    /// What is understood beyond [`UNDERSTOOD`].
    also_understood: &'static [AttributeType],
    has_fingerprint: bool,
    pub(super) malformed: bool,
    has_unknown: bool,
}

/// Who sent a request, and with what its answers are signed.
pub(super) struct Authenticated {
    pub(super) identity: Identity,
    pub(super) username: Box<str>,
    pub(super) algorithm: Algorithm,
    /// The allocation of the five-tuple, which is this user's.
    pub(super) slot: Option<Slot>,
}

/// A refusal before it is encoded.
pub(super) struct Reject {
    pub(super) code: ErrorCode,
    pub(super) why: Why,
}

impl Reject {
    pub(super) const fn new(code: ErrorCode, why: Why) -> Reject {
        Reject { code, why }
    }

    pub(super) const fn malformed() -> Reject {
        Reject::new(ErrorCode::BadRequest, Why::Malformed)
    }
}

impl From<Malformed> for Reject {
    fn from(_: Malformed) -> Reject {
        Reject::malformed()
    }
}

/// The attributes of a success response, in the order in which they are written.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Success {
    pub(super) relayed: Option<SocketAddr>,
    /// The relayed address of the other family.
    pub(super) also_relayed: Option<SocketAddr>,
    /// The family that cannot be had, and why.
    pub(super) address_error: Option<(AddressFamily, ErrorCode)>,
    pub(super) lifetime: Option<u32>,
    pub(super) token: Option<ReservationToken>,
    pub(super) mapped: Option<SocketAddr>,
    pub(super) discovery: Option<Told>,
    pub(super) connection: Option<ConnectionId>,
}

/// An answer before its content is known: whom it goes to, and what it is signed with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer<'a> {
    client: SocketAddr,
    /// Whom a nonce is for.
    holder: SocketAddr,
    method: Method,
    pub(super) id: TransactionId,
    fingerprint: bool,
    signature: Option<(&'a IntegrityKey, Algorithm)>,
}

impl Answer<'_> {
    /// Everything after authentication is signed (RFC 8489 §9.2.4).
    pub(super) fn signed(self, auth: &Authenticated) -> Answer<'_> {
        Answer {
            client: self.client,
            holder: self.holder,
            method: self.method,
            id: self.id,
            fingerprint: self.fingerprint,
            signature: Some((&auth.identity.key, auth.algorithm)),
        }
    }
}

impl<'a> Request<'a> {
    /// Walks the attributes. Whatever follows the integrity attribute is ignored but for FINGERPRINT and, after the
    /// SHA-1 one, the SHA-256 one (RFC 8489 §14.5, §14.6).
    pub(super) fn new(
        message: Message<'a>,
        from: &'a FiveTuple,
        also_understood: &'static [AttributeType],
    ) -> Result<Request<'a>, Discard> {
        let mut request = Request {
            message,
            from,
            integrity: None,
            has_sha1: false,
            end: message.as_bytes().len(),
            also_understood,
            has_fingerprint: false,
            malformed: false,
            has_unknown: false,
        };
        for attribute in message.attributes() {
            let Ok(attribute) = attribute else {
                request.malformed = true;
                break;
            };
            match attribute.kind {
                AttributeType::FINGERPRINT => {
                    if !verify_fingerprint(message.as_bytes(), &attribute) {
                        return Err(Discard::BadFingerprint);
                    }
                    request.has_fingerprint = true;
                }
                AttributeType::MESSAGE_INTEGRITY if request.integrity.is_none() => request.protect(attribute),
                AttributeType::MESSAGE_INTEGRITY_SHA256 => request.protect(attribute),
                kind => request.has_unknown |= request.integrity.is_none() && request.is_unknown(kind),
            }
        }
        Ok(request)
    }

    fn protect(&mut self, attribute: Attribute<'a>) {
        if self.integrity.is_none() {
            self.end = attribute.offset;
            self.has_sha1 = attribute.kind == AttributeType::MESSAGE_INTEGRITY;
        }
        if self.integrity.is_none_or(|known| known.kind == AttributeType::MESSAGE_INTEGRITY) {
            self.integrity = Some(attribute);
        }
    }

    /// Every protected attribute of a kind.
    pub(super) fn all(&self, kind: AttributeType) -> impl Iterator<Item = Attribute<'a>> {
        let end = self.end;
        let before = move |attribute: &Attribute<'_>| attribute.offset < end;
        self.message.attributes().flatten().take_while(before).filter(move |attribute| attribute.kind == kind)
    }

    /// The first protected attribute of a kind; later ones of the same kind count for nothing (RFC 8489 §14).
    pub(super) fn find(&self, kind: AttributeType) -> Option<Attribute<'a>> {
        self.all(kind).next()
    }

    /// Whether a request with this attribute cannot be processed (RFC 8489 §6.3.1).
    fn is_unknown(&self, kind: AttributeType) -> bool {
        kind.is_comprehension_required() && !UNDERSTOOD.contains(&kind) && !self.also_understood.contains(&kind)
    }

    /// What has to be understood and is not, in the order of the message.
    fn unknown(&self) -> Vec<AttributeType> {
        let end = self.end;
        let before = |attribute: &Attribute<'_>| attribute.offset < end;
        let kinds = self.message.attributes().flatten().take_while(before).map(|attribute| attribute.kind);
        kinds.filter(|kind| self.is_unknown(*kind)).take(MOST_UNKNOWN).collect()
    }

    /// Malformed or not understood, as far as can be told without the method (RFC 8489 §6.3.1).
    pub(super) fn check(&self) -> Result<(), Reject> {
        if self.malformed {
            return Err(Reject::malformed());
        }
        if self.has_unknown {
            return Err(Reject::new(ErrorCode::UnknownAttribute, Why::Unknown));
        }
        Ok(())
    }

    /// The answer to this request, not signed yet.
    pub(super) fn answer(&self) -> Answer<'static> {
        Answer {
            client: self.from.client,
            holder: nonce::holder(self.from),
            method: self.message.method(),
            id: self.message.transaction_id(),
            fingerprint: self.has_fingerprint,
            signature: None,
        }
    }

    pub(super) fn value(&self, kind: AttributeType) -> Option<&'a [u8]> {
        self.find(kind).map(|attribute| attribute.value)
    }
}

impl Relay {
    /// Encodes a success response.
    pub(super) fn accept(&mut self, answer: Answer<'_>, success: Success, out: &mut Vec<u8>) -> Action {
        let mut writer = Writer::success(out, answer.method, answer.id);
        if let Some(relayed) = success.relayed {
            writer.xor_address(AttributeType::XOR_RELAYED_ADDRESS, relayed);
        }
        if let Some(relayed) = success.also_relayed {
            writer.xor_address(AttributeType::XOR_RELAYED_ADDRESS, relayed);
        }
        if let Some((family, code)) = success.address_error {
            writer.address_error(family, code);
        }
        if let Some(lifetime) = success.lifetime {
            writer.u32(AttributeType::LIFETIME, lifetime);
        }
        if let Some(token) = success.token {
            writer.attribute(AttributeType::RESERVATION_TOKEN, &token.0);
        }
        if let Some(mapped) = success.mapped {
            writer.xor_address(AttributeType::XOR_MAPPED_ADDRESS, mapped);
        }
        if let Some(told) = success.discovery {
            told.write(&mut writer);
        }
        if let Some(connection) = success.connection {
            writer.u32(AttributeType::CONNECTION_ID, connection.0);
        }
        self.tally.response(answer.method, None);
        self.finish(answer, writer)
    }

    /// Encodes an error response; challenges carry realm and nonce.
    pub(super) fn refuse(
        &mut self,
        now: Now,
        answer: Answer<'_>,
        reject: &Reject,
        details: Details<'_>,
        out: &mut Vec<u8>,
    ) -> Action {
        let mut writer = Writer::error(out, answer.method, answer.id, reject.code);
        match reject.code {
            ErrorCode::Unauthenticated | ErrorCode::StaleNonce => {
                writer.attribute(AttributeType::REALM, self.live.credentials.realm().as_bytes());
                let credentials = &self.live.credentials;
                writer.attribute(
                    AttributeType::NONCE,
                    &self.nonces.make(now.mono, answer.holder, Offer::from(&**credentials)),
                );
                writer.password_algorithms(credentials.algorithms());
            }
            ErrorCode::TryAlternate => self.live.alternates.write(answer.client, answer.id, &mut writer),
            ErrorCode::UnknownAttribute => {
                writer.unknown_attributes(&details.unknown);
            }
            _ => {}
        }
        let refusal = Refusal {
            client: answer.client,
            method: answer.method,
            code: reject.code,
            why: reject.why,
            username: details.username.map(Into::into),
        };
        self.tally.refusal(&refusal);
        if reject.why != Why::Challenge {
            self.table.events.push_back(Event::Refused(refusal));
        }
        self.finish(answer, writer)
    }

    fn finish(&self, answer: Answer<'_>, mut writer: Writer<'_>) -> Action {
        if let Some(software) = &self.live.software {
            writer.attribute(AttributeType::SOFTWARE, software.as_bytes());
        }
        if let Some((key, algorithm)) = answer.signature {
            writer.integrity(key, algorithm);
        }
        if answer.fingerprint {
            writer.fingerprint();
        }
        Action::Reply { out: writer.finish() }
    }
}

/// What an error response says or logs beyond its code.
#[derive(Clone, Default)]
pub(super) struct Details<'a> {
    pub(super) unknown: Vec<AttributeType>,
    pub(super) username: Option<&'a str>,
}

impl<'a> Details<'a> {
    /// The unknown attributes of a request, and its user name where a credential is the cause.
    pub(super) fn of(request: &'a Request<'_>, why: Why) -> Details<'a> {
        let named = matches!(why, Why::Auth(_) | Why::WrongUser);
        let username = request.value(AttributeType::USERNAME).filter(|_| named);
        let unknown = if why == Why::Unknown { request.unknown() } else { Vec::new() };
        Details { unknown, username: username.and_then(|bytes| std::str::from_utf8(bytes).ok()) }
    }
}
