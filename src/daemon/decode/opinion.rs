//! What the `stun` crate makes of a message, to be compared with what we make of it.

use stun::attributes::{ATTR_MESSAGE_INTEGRITY, AttrType};
use stun::fingerprint::FINGERPRINT;
use stun::integrity::MessageIntegrity;
use stun::message::Message as Theirs;

use crate::wire::{AttributeType, Message};

/// The differences, in words; none when both see the same.
///
/// Compares numbers and bytes only: the crate's way to print an error reason panics over text that is not UTF-8.
pub(super) fn differences(ours: &Message<'_>, key: Option<&[u8]>, verdict: Option<bool>) -> Vec<String> {
    let mut theirs = Theirs::new();
    theirs.raw = ours.as_bytes().to_vec();
    if let Err(error) = theirs.decode() {
        return vec![format!("it cannot read the message: {error}")];
    }
    let mut found = Vec::new();
    let (number, own) = (theirs.typ.value(), read_type(ours.as_bytes()));
    if number != own {
        found.push(format!("it reads the type as {number:#06x}"));
    }
    let attributes: Vec<_> = ours.attributes().map_while(Result::ok).collect();
    if theirs.attributes.0.len() != attributes.len() {
        found.push(format!("it sees {} attributes", theirs.attributes.0.len()));
    }
    for (at, (their, our)) in theirs.attributes.0.iter().zip(&attributes).enumerate() {
        if their.typ != AttrType(our.kind.0) || their.value != our.value {
            found.push(format!(
                "it reads attribute {} as {:#06x} with {} bytes",
                at + 1,
                their.typ.0,
                their.value.len()
            ));
        }
    }
    if let Some(last) = attributes.iter().find(|attribute| attribute.kind == AttributeType::FINGERPRINT) {
        let ours = crate::wire::integrity::verify_fingerprint(ours.as_bytes(), last);
        if FINGERPRINT.check(&theirs).is_ok() != ours {
            found.push("it judges FINGERPRINT otherwise".into());
        }
    }
    if let (Some(key), Some(verdict), true) = (key, verdict, theirs.contains(ATTR_MESSAGE_INTEGRITY)) {
        let theirs = MessageIntegrity(key.to_vec()).check(&mut theirs).is_ok();
        if theirs != verdict {
            found.push("it judges MESSAGE-INTEGRITY otherwise".into());
        }
    }
    found
}

fn read_type(bytes: &[u8]) -> u16 {
    match bytes {
        [high, low, ..] => u16::from_be_bytes([*high, *low]),
        _ => 0,
    }
}
