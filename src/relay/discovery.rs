//! NAT behaviour discovery (RFC 5780): Binding on two addresses with the same two ports each, where a client chooses
//! which of the four answers. Off unless the host names the addresses.
//!
//! Only on these listeners are CHANGE-REQUEST, RESPONSE-PORT and PADDING understood; elsewhere they get 420 (§6.1).
//! No answer is padded beyond what its request was, so that a forged source gains nothing by PADDING.

use std::net::SocketAddr;

use super::action::{Action, FiveTuple, ListenerId};
use super::permission::OwnAddresses;
use super::request::{Reject, Request};
use crate::wire::attribute::Malformed;
use crate::wire::{Attribute, AttributeType, Method, Writer};

/// The attributes of requests that RFC 5780 adds.
const ATTRIBUTES: &[AttributeType] =
    &[AttributeType::CHANGE_REQUEST, AttributeType::RESPONSE_PORT, AttributeType::PADDING];

/// The longest PADDING of an answer: the usual MTU, rounded up to a multiple of four (RFC 5780 §7.6).
const PADDING: [u8; 1500] = [0; 1500];

/// The flags of CHANGE-REQUEST (RFC 5780 §7.2).
const CHANGE_IP: u32 = 4;
const CHANGE_PORT: u32 = 2;

/// The addresses of one family: both have both ports, and the host has a listener on each of the four.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Discovery {
    /// The first address with the first port.
    pub primary: SocketAddr,
    /// The second address with the second port; both differ from the first.
    pub alternate: SocketAddr,
}

impl Discovery {
    /// The four transport addresses. Two whose place differs in bit 0 differ in their port, in bit 1 in their address.
    pub fn corners(&self) -> [SocketAddr; 4] {
        let (first, second) = (self.primary, self.alternate);
        [first, SocketAddr::new(first.ip(), second.port()), SocketAddr::new(second.ip(), first.port()), second]
    }
}

/// Which listeners take part.
#[derive(Debug)]
pub(super) struct Corners(Vec<Corner>);

/// One of the four: itself, then the one with the other port, the other address, and both.
#[derive(Clone, Copy, Debug)]
struct Corner([ListenerId; 4]);

impl Corners {
    /// Finds the listeners of each family; a family that lacks one of them does not take part (RFC 5780 §6).
    pub(super) fn new(discovery: &[Discovery], listeners: &[SocketAddr]) -> Corners {
        let find = |address: SocketAddr| {
            let at = listeners.iter().position(|listener| *listener == address)?;
            u16::try_from(at).ok().map(ListenerId)
        };
        let mut corners = Vec::new();
        for family in discovery {
            let [Some(a), Some(b), Some(c), Some(d)] = family.corners().map(find) else { continue };
            corners.extend([[a, b, c, d], [b, a, d, c], [c, d, a, b], [d, c, b, a]].map(Corner));
        }
        Corners(corners)
    }

    /// What is understood in requests of a method beyond what always is.
    pub(super) fn understood(&self, method: Method, from: &FiveTuple) -> &'static [AttributeType] {
        if method == Method::BINDING && self.at(from).is_some() { ATTRIBUTES } else { &[] }
    }

    /// The listener that a request arrived at. Connections cannot be answered from elsewhere.
    fn at(&self, from: &FiveTuple) -> Option<&Corner> {
        let is_here = |Corner([here, ..]): &&Corner| *here == from.listener && from.stream.is_none();
        self.0.iter().find(is_here)
    }

    /// How a Binding request is to be answered; `None` on a listener that takes no part.
    pub(super) fn answer(&self, own: &OwnAddresses, request: &Request<'_>) -> Result<Option<Answer>, Reject> {
        let Some(Corner(listeners)) = self.at(request.from) else { return Ok(None) };
        let [here, other_port, other_ip, other] = *listeners;
        let flags = match request.find(AttributeType::CHANGE_REQUEST) {
            Some(attribute) => attribute.u32()?,
            None => 0,
        };
        let port = request.find(AttributeType::RESPONSE_PORT).map(|attribute| response_port(&attribute)).transpose()?;
        let padding = request.find(AttributeType::PADDING).map(|attribute| attribute.value.len());
        if port.is_some() && padding.is_some() {
            return Err(Reject::malformed());
        }
        let listener = match (flags & CHANGE_IP != 0, flags & CHANGE_PORT != 0) {
            (false, false) => here,
            (false, true) => other_port,
            (true, false) => other_ip,
            (true, true) => other,
        };
        let mut client = request.from.client;
        client.set_port(port.unwrap_or(client.port()));
        let (Some(origin), Some(other)) = (own.listener(listener), own.listener(other)) else { return Ok(None) };
        Ok(Some(Answer { listener, client, told: Told { mapped: request.from.client, origin, other, padding } }))
    }
}

/// From where and to where an answer goes, and what it says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    listener: ListenerId,
    client: SocketAddr,
    pub(super) told: Told,
}

impl Answer {
    /// Sends a reply on the way that the client asked for.
    pub(super) fn redirect(self, from: &FiveTuple, action: Action) -> Action {
        match action {
            Action::Reply { out } if self.listener != from.listener || self.client != from.client => {
                Action::ReplyFrom { listener: self.listener, client: self.client, out }
            }
            action => action,
        }
    }
}

/// The attributes of a Binding response that RFC 5780 adds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    mapped: SocketAddr,
    origin: SocketAddr,
    other: SocketAddr,
    padding: Option<usize>,
}

impl Told {
    pub(super) fn write(&self, writer: &mut Writer<'_>) {
        writer
            .address(AttributeType::MAPPED_ADDRESS, self.mapped)
            .address(AttributeType::RESPONSE_ORIGIN, self.origin)
            .address(AttributeType::OTHER_ADDRESS, self.other);
        if let Some(length) = self.padding {
            writer.attribute(AttributeType::PADDING, PADDING.get(..length).unwrap_or(&PADDING));
        }
    }
}

/// A port and two bytes of padding, which some clients count and some do not; nothing can be sent to port 0.
fn response_port(attribute: &Attribute<'_>) -> Result<u16, Malformed> {
    match attribute.value {
        [high, low] | [high, low, _, _] => match u16::from_be_bytes([*high, *low]) {
            0 => Err(Malformed),
            port => Ok(port),
        },
        _ => Err(Malformed),
    }
}
