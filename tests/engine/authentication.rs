//! The long-term credential mechanism: the order of RFC 8489 §9.2.4, what is signed, and what a signature covers.

use std::sync::Arc;

use md5::{Digest, Md5};
use turnwell::credentials::{AuthFailure, Credentials};
use turnwell::relay::{Discard, Live, Relay, Why};
use turnwell::wire::{Algorithm, AttributeType, Class, ErrorCode, IntegrityKey, Method, Writer};

use crate::client::{Client, REALM, Reply, udp};
use crate::harness::{OTHER_PEER, Outcome, PEER, World, addr, config, seconds};

const CHALLENGE: [AttributeType; 4] =
    [AttributeType::ERROR_CODE, AttributeType::REALM, AttributeType::NONCE, AttributeType::PASSWORD_ALGORITHMS];
const BARE_ERROR: [AttributeType; 1] = [AttributeType::ERROR_CODE];

/// A request put together by hand, signed with what `client` knows where `attributes` say so.
fn raw(client: &mut Client, method: Method, attributes: impl FnOnce(&mut Writer<'_>, &Client)) -> Vec<u8> {
    let mut bytes = Vec::new();
    let id = client.next_id();
    attributes(&mut Writer::new(&mut bytes, Class::Request, method, id), client);
    bytes
}

fn username<'w, 'b>(writer: &'w mut Writer<'b>, client: &Client) -> &'w mut Writer<'b> {
    writer.attribute(AttributeType::USERNAME, client.username.as_bytes())
}

fn realm<'w, 'b>(writer: &'w mut Writer<'b>, client: &Client) -> &'w mut Writer<'b> {
    writer.attribute(AttributeType::REALM, client.realm.as_bytes())
}

fn nonce<'w, 'b>(writer: &'w mut Writer<'b>, client: &Client) -> &'w mut Writer<'b> {
    writer.attribute(AttributeType::NONCE, &client.nonce)
}

#[test]
fn a_first_request_is_challenged_with_realm_and_nonce_and_nothing_is_signed() {
    for method in [Method::ALLOCATE, Method::REFRESH, Method::CREATE_PERMISSION, Method::CHANNEL_BIND] {
        let mut world = World::new();
        let mut client = Client::new("100.0.0.1:1000", "alice", "pw");
        let bytes = client.bare(method);
        let reply = world.packet(&client.at, &bytes).reply();
        assert_eq!((reply.code(), reply.kinds().as_slice()), (401, &CHALLENGE[..]));
        assert_eq!(reply.bytes_of(AttributeType::REALM), Some(REALM.into()));
        assert_eq!(world.relay.tally().challenges, 1);
        assert!(world.events().is_empty(), "a challenge is no failure");
        world.assert_empty();
    }
}

#[test]
fn a_nonce_is_another_one_for_another_address_or_port() {
    let mut world = World::new();
    let mut nonces: Vec<_> = ["100.0.0.1:1", "100.0.0.1:2", "100.0.0.2:1", "[2a00::1]:1"]
        .map(|address| world.client_of("alice", address).nonce)
        .to_vec();
    assert_eq!(nonces[0], world.client_of("alice", "100.0.0.1:1").nonce, "the same within the same second");
    nonces.sort();
    nonces.dedup();
    assert_eq!(nonces.len(), 4);
}

#[test]
fn with_neither_secret_nor_user_turn_gets_403_and_binding_goes_on() {
    let mut world = World::with(config(), Live::new(Arc::new(Credentials::new(REALM))));
    let mut client = Client::new("100.0.0.1:1000", "alice", "pw");
    for bytes in [client.bare(Method::ALLOCATE), client.sign(Method::ALLOCATE, udp), client.bare(Method::REFRESH)] {
        let reply = world.packet(&client.at, &bytes).reply();
        assert_eq!((reply.code(), reply.kinds().as_slice()), (403, &BARE_ERROR[..]));
        assert_eq!(world.last_refusal(), Some(Why::NoCredentials));
    }
    let binding = raw(&mut client, Method::BINDING, |_, _| {});
    assert_eq!(world.packet(&client.at, &binding).reply().code(), 200);
    world.assert_empty();
}

/// One request with every fault there is, mended one by one: the answers come in the order of the checks.
#[test]
fn faults_are_answered_in_the_order_of_the_rfc() {
    let mut world = World::new();
    let good = world.client(1000);
    let wrong =
        Client { nonce: b"0123456789abcdef".to_vec(), realm: "elsewhere".into(), ..good.as_user("alice", "no") };
    let unknown = AttributeType(0x7abc);

    let mut client = wrong.clone();
    let mut bytes = raw(&mut client, Method::REFRESH, |w, c| {
        nonce(username(w.attribute(unknown, b""), c), c).attribute(AttributeType::SOFTWARE, b"1234");
    });
    let at = bytes.len() - 6;
    bytes[at..at + 2].copy_from_slice(&500u16.to_be_bytes());
    assert_eq!(world.packet(&client.at, &bytes).reply().code(), 400, "not well formed");

    let bytes = raw(&mut client, Method::REFRESH, |w, c| {
        nonce(username(w.attribute(unknown, b""), c), c);
    });
    assert_eq!(world.packet(&client.at, &bytes).reply().code(), 401, "no integrity");

    let bytes = raw(&mut client, Method::REFRESH, |w, c| {
        nonce(username(w.attribute(unknown, b""), c), c).integrity(&c.key, c.algorithm);
    });
    let reply = world.packet(&client.at, &bytes).reply();
    assert_eq!((reply.code(), reply.kinds().as_slice()), (400, &BARE_ERROR[..]), "no realm");

    let mut refused = |client: &Client| {
        let mut client = client.clone();
        let reply = world.ask(&mut client, Method::REFRESH, |w| {
            w.attribute(unknown, b"");
        });
        (reply.code(), world.last_refusal().unwrap())
    };
    assert_eq!(refused(&wrong), (438, Why::StaleNonce));
    let wrong = Client { nonce: good.nonce.clone(), ..wrong };
    assert_eq!(refused(&wrong), (401, Why::WrongRealm));
    let wrong = Client { realm: REALM.into(), ..wrong };
    assert_eq!(refused(&wrong), (401, Why::Auth(AuthFailure::BadIntegrity)));
    assert_eq!(refused(&good), (420, Why::Unknown));
    let mut good = good;
    assert_eq!(world.refresh(&mut good, None).code(), 437);
    assert_eq!(world.last_refusal(), Some(Why::NoAllocation));
}

#[test]
fn integrity_without_username_realm_or_nonce_gets_400_that_tells_nothing() {
    type Attributes = fn(&mut Writer<'_>, &Client);
    let without: [(&str, Attributes); 3] = [
        ("username", |w, c| {
            nonce(realm(w, c), c);
        }),
        ("realm", |w, c| {
            nonce(username(w, c), c);
        }),
        ("nonce", |w, c| {
            realm(username(w, c), c);
        }),
    ];
    let mut world = World::new();
    let mut client = world.client(1000);
    for (what, attributes) in without {
        let bytes = raw(&mut client, Method::ALLOCATE, |w, c| {
            attributes(w, c);
            w.integrity(&c.key, c.algorithm);
        });
        let reply = world.packet(&client.at, &bytes).reply();
        assert_eq!((reply.code(), reply.kinds().as_slice()), (400, &BARE_ERROR[..]), "{what}");
    }
}

#[test]
fn a_nonce_older_than_its_lifetime_gets_438_with_a_fresh_one() {
    let mut world = World::new();
    let mut client = world.client(1000);
    world.advance(seconds(3600));
    assert_eq!(world.refresh(&mut client, None).code(), 437, "good for an hour, to the second");
    world.advance(seconds(1));
    let reply = world.refresh(&mut client, None);
    assert_eq!((reply.code(), reply.kinds().as_slice()), (438, &CHALLENGE[..]));
    client.nonce = reply.bytes_of(AttributeType::NONCE).unwrap();
    assert_eq!(world.refresh(&mut client, None).code(), 437);
    assert_eq!(world.relay.tally().auth_stale_nonce, 1);
}

#[test]
fn a_nonce_of_another_client_gets_438() {
    let mut world = World::new();
    let other = world.client(1001);
    let mut client = Client { nonce: other.nonce, ..world.client(1000) };
    assert_eq!(world.allocate(&mut client).code(), 438);
    world.assert_empty();
}

#[test]
fn engines_with_the_same_nonce_key_accept_each_others_nonces() {
    let mut world = World::new();
    let mut client = world.client(1000);
    let mut other = turnwell::relay::Config { seed: [77; 32], ..config() };
    world.relay = Relay::new(other.clone(), Arc::new(crate::harness::live()));
    assert_eq!(world.refresh(&mut client, None).code(), 437);
    other.nonce_key = [9; 32];
    world.relay = Relay::new(other, Arc::new(crate::harness::live()));
    assert_eq!(world.refresh(&mut client, None).code(), 438);
}

#[test]
fn wrong_password_and_unknown_user_get_the_same_401_and_are_told_apart_in_the_log() {
    let mut world = World::new();
    let client = world.client(1000);
    let mut shapes = Vec::new();
    for (user, why) in [("alice", AuthFailure::BadIntegrity), ("mallory", AuthFailure::UnknownUser)] {
        let mut wrong = client.as_user(user, "wrong");
        let reply = world.allocate(&mut wrong);
        assert_eq!(reply.code(), 401);
        let refusal = world.last_refused().unwrap();
        assert_eq!((refusal.why, refusal.code), (Why::Auth(why), ErrorCode::Unauthenticated));
        assert_eq!((refusal.username.as_deref(), refusal.client), (Some(user), client.at.client));
        let shape: Vec<_> = reply.attributes().iter().map(|a| (a.kind, a.value.to_vec())).collect();
        shapes.push(shape);
    }
    assert_eq!(shapes[0], shapes[1]);
    assert_eq!(shapes[0].iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), CHALLENGE);
    world.assert_empty();
}

#[test]
fn a_username_that_is_no_text_gets_401() {
    let mut world = World::new();
    let mut client = world.client(1000);
    let bytes = raw(&mut client, Method::ALLOCATE, |w, c| {
        w.attribute(AttributeType::USERNAME, &[0xff, 0xfe]);
        nonce(realm(w, c), c).integrity(&c.key, c.algorithm);
    });
    assert_eq!(world.packet(&client.at, &bytes).reply().code(), 401);
}

#[test]
fn a_username_over_763_bytes_gets_400_and_stands_in_no_log() {
    let mut world = World::new();
    let client = world.client(1000);
    for (length, code) in [(508, 401), (763, 401), (764, 400), (60_000, 400)] {
        let mut long = client.as_user(&"x".repeat(length), "pw");
        let bytes = long.sign(Method::ALLOCATE, udp);
        assert_eq!(world.packet(&long.at, &bytes).reply().code(), code, "{length}");
        let logged = world.last_refused().unwrap().username.as_ref().map(|name| name.len());
        assert_eq!(logged, Some(length).filter(|length| *length < 764));
    }
}

/// RFC 8489 §14.6: the tag may be cut to no less than sixteen bytes, in steps of four; the length field says how long
/// it is.
#[test]
fn a_sha256_tag_may_be_short_but_not_too_short() {
    use hmac::{Hmac, KeyInit, Mac};
    let mut world = World::new();
    let mut client = world.client(1000);
    let key = Md5::digest(format!("alice:{REALM}:pw"));
    for (length, code) in [(32, 437), (28, 437), (16, 437), (12, 401), (0, 401), (18, 401)] {
        let mut bytes = raw(&mut client, Method::REFRESH, |w, c| {
            nonce(realm(username(w, c), c), c);
        });
        let padded = length + turnwell::wire::padding(length);
        let body = u16::try_from(bytes.len() - 20 + 4 + padded).unwrap();
        bytes[2..4].copy_from_slice(&body.to_be_bytes());
        let mut mac = <Hmac<sha2::Sha256> as KeyInit>::new_from_slice(&key).unwrap();
        mac.update(&bytes);
        let tag = mac.finalize().into_bytes();
        bytes.extend([0, 0x1c, 0, u8::try_from(length).unwrap()]);
        bytes.extend(&tag[..length]);
        bytes.resize(20 + usize::from(body), 0);
        assert_eq!(world.packet(&client.at, &bytes).reply().code(), code, "{length}");
    }
}

#[test]
fn answers_are_signed_with_the_algorithm_of_the_request() {
    for algorithm in [Algorithm::Sha1, Algorithm::Sha256] {
        let mut world = World::new();
        let mut client = Client { algorithm, ..world.client(1000) };
        // `ask` compares the algorithm of the answer with the client's.
        assert_eq!(world.refresh(&mut client, None).code(), 437);
        assert_eq!(world.allocate(&mut client).code(), 200);
        assert_eq!(world.allocate(&mut client).code(), 437);
        assert_eq!(world.permit(&mut client, &[PEER]).code(), 200);
        assert_eq!(world.permit(&mut client, &["127.0.0.1:1"]).code(), 403);
        assert_eq!(world.bind(&mut client, 0x4000, PEER).code(), 200);
        assert_eq!(world.bind(&mut client, 0x4000, OTHER_PEER).code(), 400);
        client.algorithm = if algorithm == Algorithm::Sha1 { Algorithm::Sha256 } else { Algorithm::Sha1 };
        assert_eq!(world.refresh(&mut client, None).code(), 200, "the algorithm may change");
    }
}

#[test]
fn of_two_integrity_attributes_sha256_decides_and_without_a_password_algorithm_sha1_signs() {
    let mut world = World::new();
    let mut client = world.client(1000);
    let wrong = IntegrityKey::new(b"wrong");
    let both = |sha1: &IntegrityKey, sha256: &IntegrityKey, client: &mut Client| {
        raw(client, Method::REFRESH, |w, c| {
            nonce(realm(username(w, c), c), c).integrity(sha1, Algorithm::Sha1).integrity(sha256, Algorithm::Sha256);
        })
    };
    let key = client.key.clone();
    let bytes = both(&key, &key, &mut client);
    let reply = world.packet(&client.at, &bytes).reply();
    assert_eq!((reply.code(), reply.signature(&key)), (437, Some(Algorithm::Sha1)));
    let bytes = both(&key, &wrong, &mut client);
    assert_eq!(world.packet(&client.at, &bytes).reply().code(), 401);
    let bytes = both(&wrong, &key, &mut client);
    assert_eq!(world.packet(&client.at, &bytes).reply().code(), 437);
}

#[test]
fn a_second_integrity_attribute_of_a_kind_counts_for_nothing() {
    let mut world = World::new();
    let mut client = world.client(1000);
    let key = client.key.clone();
    let forged = raw(&mut client, Method::REFRESH, |w, c| {
        nonce(realm(username(w, c), c), c)
            .integrity(&IntegrityKey::new(b"wrong"), Algorithm::Sha1)
            .integrity(&key, Algorithm::Sha1);
    });
    assert_eq!(world.packet(&client.at, &forged).reply().code(), 401);
}

#[test]
fn fingerprint_after_the_signature_is_checked_and_echoed() {
    let mut world = World::new();
    let mut client = world.client(1000);
    let mut bytes = raw(&mut client, Method::ALLOCATE, |w, c| {
        udp(w);
        c.prove(w);
        w.fingerprint();
    });
    let reply = world.packet(&client.at, &bytes).reply();
    assert_eq!(reply.code(), 200);
    assert!(reply.has_fingerprint() && reply.signature(&client.key).is_some());
    *bytes.last_mut().unwrap() ^= 1;
    assert_eq!(world.packet(&client.at, &bytes), Outcome::Discard(Discard::BadFingerprint));
}

/// Appends an attribute to a signed message, as somebody on the path could.
fn appended(mut bytes: Vec<u8>, kind: AttributeType, value: &[u8]) -> Vec<u8> {
    let mut tail = Vec::new();
    Writer::new(&mut tail, Class::Request, Method::BINDING, turnwell::wire::TransactionId([0; 12]))
        .attribute(kind, value);
    bytes.extend(&tail[20..]);
    let length = u16::try_from(bytes.len() - 20).unwrap();
    bytes[2..4].copy_from_slice(&length.to_be_bytes());
    bytes
}

#[test]
fn attributes_after_the_integrity_are_ignored() {
    let mut world = World::new();
    let (mut client, _) = world.allocated(1000);
    world.permit(&mut client, &[PEER]);
    let permit = client.sign(Method::CREATE_PERMISSION, |w| {
        w.xor_address(AttributeType::XOR_PEER_ADDRESS, addr(PEER));
    });
    let mut peer = Vec::new();
    let id = turnwell::wire::TransactionId(permit[8..20].try_into().unwrap());
    Writer::new(&mut peer, Class::Request, Method::BINDING, id)
        .xor_address(AttributeType::XOR_PEER_ADDRESS, addr(OTHER_PEER));
    let smuggled = appended(permit, AttributeType::XOR_PEER_ADDRESS, &peer[24..]);
    assert_eq!(world.packet(&client.at, &smuggled).reply().code(), 200);
    assert_eq!(world.send(&client, OTHER_PEER, b"x"), Outcome::Discard(Discard::NoPermission));

    let refresh = client.sign(Method::REFRESH, |_| {});
    let smuggled = appended(refresh, AttributeType::LIFETIME, &[0, 0, 0, 0]);
    let reply = world.packet(&client.at, &smuggled).reply();
    assert_eq!((reply.code(), reply.lifetime()), (200, Some(600)), "the allocation is not deleted");

    let refresh = client.sign(Method::REFRESH, |_| {});
    let smuggled = appended(refresh, AttributeType(0x7abc), b"");
    assert_eq!(world.packet(&client.at, &smuggled).reply().code(), 200, "not even a 420");
}

#[test]
fn credentials_after_the_integrity_are_none() {
    let mut world = World::new();
    let mut client = world.client(1000);
    let bytes = raw(&mut client, Method::ALLOCATE, |w, c| {
        udp(w);
        w.integrity(&c.key, c.algorithm);
        nonce(realm(username(w, c), c), c);
    });
    assert_eq!(world.packet(&client.at, &bytes).reply().code(), 400);
}

#[test]
fn one_changed_bit_in_what_is_signed_gets_no_success() {
    let mut world = World::new();
    let mut client = world.client(1000);
    let bytes = client.sign(Method::ALLOCATE, udp);
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        match world.packet(&client.at, &changed) {
            Outcome::Discard(_) => {}
            // The method is covered by the signature as well; a Binding needs none.
            Outcome::Reply(reply) if reply.message().method() == Method::BINDING => {}
            Outcome::Reply(reply) => assert_ne!(reply.code(), 200, "bit {bit}"),
            other => panic!("bit {bit}: {other:?}"),
        }
    }
    world.assert_empty();
    assert_eq!(world.packet(&client.at, &bytes).reply().code(), 200);
}

#[test]
fn every_method_but_allocate_gets_441_from_another_user() {
    let mut world = World::new();
    let (client, _) = world.allocated(1000);
    let mut bob = client.as_user("bob", "pw");
    let mut codes: Vec<Reply> =
        vec![world.refresh(&mut bob, Some(0)), world.permit(&mut bob, &[PEER]), world.bind(&mut bob, 0x4000, PEER)];
    assert!(codes.iter().all(|reply| reply.code() == 441));
    assert_eq!(world.last_refusal(), Some(Why::WrongUser));
    codes.push(world.allocate(&mut bob));
    assert_eq!(codes[3].code(), 437);
    assert_eq!(world.relay.usage().allocations, 1);
}
