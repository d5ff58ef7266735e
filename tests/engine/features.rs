//! What RFC 8489 added to long-term credentials: SHA-256 keys, anonymous users, and the nonce that protects both from
//! being bargained away on the path.

use std::sync::Arc;

use turnwell::credentials::{AuthFailure, Credentials};
use turnwell::relay::{Live, Why};
use turnwell::wire::{Algorithm, AttributeType, Method};

use crate::client::{Client, REALM, Reply, udp};
use crate::harness::{EPOCH, PEER, World, config, credentials, seconds};

/// SHA-256, then MD5; neither has parameters.
const OFFERED: [u8; 8] = [0, 2, 0, 0, 0, 1, 0, 0];
const ONLY_MD5: [u8; 4] = [0, 1, 0, 0];

/// A world whose users are all known beforehand.
fn static_world() -> World {
    let mut credentials = Credentials::new(REALM);
    credentials.add_user("alice", "pw");
    World::with(config(), Live::new(Arc::new(credentials)))
}

fn challenge(world: &mut World) -> Reply {
    let mut client = Client::new("100.0.0.1:1000", "alice", "pw");
    let bytes = client.bare(Method::ALLOCATE);
    world.packet(&client.at, &bytes).reply()
}

#[test]
fn a_challenge_lists_sha256_before_md5_and_says_so_in_the_nonce() {
    let reply = challenge(&mut World::new());
    assert_eq!(reply.bytes_of(AttributeType::PASSWORD_ALGORITHMS), Some(OFFERED.into()));
    assert!(reply.bytes_of(AttributeType::NONCE).unwrap().starts_with(b"obMatJos2gAAB"));
}

#[test]
fn every_401_and_438_carries_the_list() {
    let mut world = World::new();
    let mut client = world.client(1000).modern("pw", &OFFERED);
    let mut stale = Client { nonce: b"obMatJos2gAABAAAAAAAAAAAAAAAA".to_vec(), ..client.clone() };
    let mut wrong = client.modern("wrong", &OFFERED);
    client.username = "nobody".into();
    for (client, code) in [(&mut client, 401), (&mut wrong, 401), (&mut stale, 438)] {
        let reply = world.refresh(client, None);
        assert_eq!((reply.code(), reply.bytes_of(AttributeType::PASSWORD_ALGORITHMS)), (code, Some(OFFERED.into())));
    }
}

#[test]
fn a_client_with_a_sha256_key_does_everything() {
    let mut world = World::new();
    let issued = credentials().issue(Some("alice"), EPOCH + 60).unwrap();
    for (port, username, password) in [(1, "alice", "pw"), (2, issued.username.as_str(), issued.password.as_str())] {
        let old = world.client_of(username, &format!("100.0.0.1:{port}"));
        let mut client = old.modern(password, &OFFERED);
        // `ask` checks that every answer is signed with the client's key and algorithm.
        world.allocate_ok(&mut client);
        assert_eq!(world.allocate(&mut client).code(), 437);
        assert_eq!(world.permit(&mut client, &[PEER]).code(), 200);
        assert_eq!(world.bind(&mut client, 0x4000, PEER).code(), 200);
        assert_eq!(world.refresh(&mut client, Some(0)).code(), 200);
    }
    world.assert_empty();
}

#[test]
fn the_key_must_be_of_the_algorithm_that_the_request_names() {
    let mut world = World::new();
    let old = world.client(1000);
    let mut client = old.modern("pw", &OFFERED);
    world.allocate_ok(&mut client);
    let names_md5 = Client { chosen: Some(ONLY_MD5.to_vec()), ..client.clone() };
    let names_none = Client { chosen: None, algorithms: None, ..client.clone() };
    let md5_as_sha256 = Client { key: old.key.clone(), ..client.clone() };
    for mut wrong in [names_md5, names_none, md5_as_sha256] {
        wrong.transactions += 5000;
        assert_eq!(world.refresh(&mut wrong, None).code(), 401);
        assert_eq!(world.last_refusal(), Some(Why::Auth(AuthFailure::BadIntegrity)));
    }
    assert_eq!(world.refresh(&mut client, None).code(), 200);
}

#[test]
fn md5_may_be_chosen_and_is_answered_with_sha256() {
    let mut world = World::new();
    let old = world.client(1000);
    let mut client = Client { chosen: Some(ONLY_MD5.to_vec()), key: old.key.clone(), ..old.modern("pw", &OFFERED) };
    world.allocate_ok(&mut client);
    assert_eq!(client.algorithm, Algorithm::Sha256);
    assert_eq!(world.refresh(&mut client, None).code(), 200);
}

/// A client that chooses MD5 and signs in the old way may know no other.
#[test]
fn a_client_that_signs_with_sha1_only_is_answered_with_sha1() {
    let mut world = World::new();
    let old = world.client(1000);
    let mut client = Client { algorithms: Some(OFFERED.into()), chosen: Some(ONLY_MD5.into()), ..old };
    world.allocate_ok(&mut client);
}

#[test]
fn a_client_of_rfc5389_is_served_as_ever_and_may_turn_modern() {
    let mut world = World::new();
    let mut old = world.client(1000);
    world.allocate_ok(&mut old);
    assert_eq!(world.refresh(&mut old, None).code(), 200);
    let mut modern = old.modern("pw", &OFFERED);
    assert_eq!(world.refresh(&mut modern, None).code(), 200, "the user is the same, the key another");
}

/// RFC 8489 §9.2.4: the list comes back as it was sent, with a choice out of it, or not at all.
#[test]
fn a_list_that_was_changed_on_the_way_gets_400() {
    let mut world = World::new();
    let client = world.client(1000).modern("pw", &OFFERED);
    let md5_first = [OFFERED[4..].to_vec(), OFFERED[..4].to_vec()].concat();
    type Said<'a> = Option<&'a [u8]>;
    let cases: [(&str, Said<'_>, Said<'_>); 8] = [
        ("cut down to MD5", Some(&ONLY_MD5), Some(&ONLY_MD5)),
        ("reordered", Some(&md5_first), Some(&ONLY_MD5)),
        ("longer", Some(&[&OFFERED[..], &[0, 9, 0, 0]].concat()), Some(&OFFERED[..4])),
        ("empty", Some(&[]), Some(&OFFERED[..4])),
        ("no choice", Some(&OFFERED), None),
        ("a choice that nobody offered", Some(&OFFERED), Some(&[0, 3, 0, 0])),
        ("a malformed choice", Some(&OFFERED), Some(&[0, 2, 0, 4])),
        ("no list in the first request", None, Some(&OFFERED[..4])),
    ];
    for (what, listed, chosen) in cases {
        let owned = |value: Option<&[u8]>| value.map(<[u8]>::to_vec);
        let mut changed = Client { algorithms: owned(listed), chosen: owned(chosen), ..client.clone() };
        let bytes = changed.sign(Method::ALLOCATE, udp);
        let reply = world.packet(&changed.at, &bytes).reply();
        assert_eq!((reply.code(), reply.kinds()), (400, vec![AttributeType::ERROR_CODE]), "{what}");
        assert_eq!(world.last_refusal(), Some(Why::Malformed), "{what}");
    }
    world.assert_empty();
}

/// RFC 8489 §9.2.3.2 has subsequent requests carry PASSWORD-ALGORITHM, and does not mention the list.
#[test]
fn a_subsequent_request_need_not_repeat_the_list() {
    let mut world = World::new();
    let mut client = world.client(1000).modern("pw", &OFFERED);
    world.allocate_ok(&mut client);
    client.algorithms = None;
    assert_eq!(world.refresh(&mut client, None).code(), 200);
    client.algorithms = Some(ONLY_MD5.to_vec());
    let bytes = client.sign(Method::REFRESH, |_| {});
    assert_eq!(world.packet(&client.at, &bytes).reply().code(), 400, "but a changed one is still noticed");
}

/// Who takes the features out of the nonce gets no success: the client would sign a nonce that was never given.
#[test]
fn a_nonce_without_its_features_gets_438() {
    let mut world = World::new();
    let good = world.client(1000);
    let bare = good.nonce[13..].to_vec();
    let no_features = [b"obMatJos2AAAA".to_vec(), bare.clone()].concat();
    let anonymous = [b"obMatJos2wAAD".to_vec(), bare.clone()].concat();
    for nonce in [bare, no_features, anonymous] {
        let mut client = Client { nonce, ..good.clone() };
        assert_eq!(world.allocate(&mut client).code(), 438);
    }
    world.assert_empty();
}

#[test]
fn users_with_an_md5_key_only_are_offered_md5_only_and_a_reload_renews_the_nonces() {
    let mut world = World::new();
    let mut client = world.client(1000).modern("pw", &OFFERED);
    world.allocate_ok(&mut client);
    let mut with_md5_only = credentials();
    with_md5_only.add_user_key("carol", [7; 16]);
    world.set_live(Live::new(Arc::new(with_md5_only)));
    let reply = world.refresh(&mut client, None);
    assert_eq!((reply.code(), reply.bytes_of(AttributeType::PASSWORD_ALGORITHMS)), (438, Some(ONLY_MD5.into())));
    let mut again = world.client(1000);
    again.algorithms = Some(ONLY_MD5.into());
    again.chosen = Some(ONLY_MD5.into());
    again.transactions = 9000;
    assert_eq!(world.refresh(&mut again, None).code(), 200);
}

#[test]
fn anonymity_is_offered_only_where_every_user_is_known_beforehand() {
    let reply = challenge(&mut static_world());
    assert!(reply.bytes_of(AttributeType::NONCE).unwrap().starts_with(b"obMatJos2wAAD"));
    let reply = challenge(&mut World::new());
    assert!(reply.bytes_of(AttributeType::NONCE).unwrap().starts_with(b"obMatJos2gAAB"));
}

#[test]
fn an_anonymous_user_does_everything_that_a_named_one_does() {
    let mut world = static_world();
    let mut client = Client { is_anonymous: true, ..world.client(1000).modern("pw", &OFFERED) };
    world.allocate_ok(&mut client);
    assert_eq!(world.permit(&mut client, &[PEER]).code(), 200);
    let mut named = Client { is_anonymous: false, transactions: 5000, ..client.clone() };
    assert_eq!(world.refresh(&mut named, None).code(), 200, "the same user by his name");
    assert_eq!(world.refresh(&mut client, Some(0)).code(), 200);
    world.assert_empty();
}

/// Nobody lists the names under a shared secret, so their hashes become known with their allocation only.
#[test]
fn the_hash_of_a_time_limited_name_is_known_once_it_has_an_allocation() {
    let mut world = World::new();
    let issued = credentials().issue(Some("alice"), EPOCH + 60).unwrap();
    let client = world.client_of(&issued.username, "100.0.0.1:1").modern(&issued.password, &OFFERED);
    let mut named = client.clone();
    let mut hashed = Client { is_anonymous: true, transactions: 5000, ..client };
    assert_eq!(world.allocate(&mut hashed).code(), 401);
    let refusal = world.last_refused().unwrap();
    assert_eq!((refusal.why, refusal.username.as_deref()), (Why::Auth(AuthFailure::UnknownUser), None));
    world.allocate_ok(&mut named);
    assert_eq!(world.refresh(&mut hashed, None).code(), 200);
    world.advance(seconds(1));
    assert_eq!(world.permit(&mut hashed, &[PEER]).code(), 200);
}

#[test]
fn a_hash_of_nobody_or_of_another_length_gets_401() {
    let mut world = static_world();
    let mut client = world.client(1000);
    for hash in [&[0u8; 32][..], &[0; 31], b"alice"] {
        let bytes = {
            let (realm, nonce, key) = (client.realm.clone(), client.nonce.clone(), client.key.clone());
            let mut bytes = Vec::new();
            let id = client.next_id();
            turnwell::wire::Writer::new(&mut bytes, turnwell::wire::Class::Request, Method::ALLOCATE, id)
                .attribute(AttributeType::USERHASH, hash)
                .attribute(AttributeType::REALM, realm.as_bytes())
                .attribute(AttributeType::NONCE, &nonce)
                .integrity(&key, Algorithm::Sha1);
            bytes
        };
        assert_eq!(world.packet(&client.at, &bytes).reply().code(), 401);
    }
}

#[test]
fn another_users_hash_on_an_allocation_gets_441() {
    let mut world = World::new();
    let (alice, _) = world.allocated(1000);
    let mut bob = Client { is_anonymous: true, ..alice.as_user("bob", "pw") };
    assert_eq!(world.refresh(&mut bob, Some(0)).code(), 441);
    assert_eq!(world.relay.usage().allocations, 1);
}
