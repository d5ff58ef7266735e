//! Time-limited and static credentials, as a whole request meets them.

use std::sync::Arc;

use turnwell::credentials::{AuthFailure, Credentials, Secret};
use turnwell::relay::{Expiry, Live, Why};
use turnwell::wire::{AttributeType, Method};

use crate::client::{Client, REALM, udp};
use crate::harness::{EPOCH, PEER, World, config, credentials, live, seconds};

/// When the constants below expire: an hour after a world begins.
const EXPIRES: u64 = 1_700_003_600;

/// `printf '%s' USERNAME | openssl dgst -sha1 -hmac SECRET -binary | base64`: user name, the user in it, and the
/// password under the secrets `first` and `second`.
const BY_OPENSSL: [(&str, &str, &str, &str); 4] = [
    ("1700003600:alice", "alice", "WJ4pLv4gIfUw00I7fMD4bC+IuYg=", "Y6Eq7T2FD+XP3UkjWsCaXWU1CCE="),
    ("1700003600", "1700003600", "a5c6teCX6fN/xJlywqii5a1i/AU=", "EfzlLht16TEZjb/aahanqC2MDPw="),
    ("alice:1700003600", "alice", "vKmz2bJzhFh+G/9MSBEvdlgRG10=", "Xd93YYddDJctxh4tie9uNHlLpK8="),
    ("1700003600:a:b:c", "a:b:c", "IuFsViEiwDfh3Mhy9G1jVgVIZZs=", "ezrLOUzP5IRwTte58pGZsd4uJlg="),
];

fn client(world: &mut World, port: u16, username: &str, password: &str) -> Client {
    let mut client = Client::new(&format!("100.0.0.1:{port}"), username, password);
    world.challenge(&mut client);
    client
}

#[test]
fn every_user_name_form_is_accepted_for_every_secret() {
    let mut world = World::new();
    let mut port = 1000;
    for (username, user, first, second) in BY_OPENSSL {
        for password in [first, second] {
            port += 1;
            let mut client = client(&mut world, port, username, password);
            let bytes = client.sign(Method::ALLOCATE, udp);
            let pending = world.pending(&client.at, &bytes);
            assert_eq!(pending.user(), user, "what quotas count by");
            assert_eq!(pending.client(), &client.at);
            assert_eq!(world.fulfil(pending).reply().code(), 200, "{username}");
        }
    }
    assert_eq!(world.relay.usage().allocations, 8);
}

#[test]
fn what_credentials_issue_the_engine_accepts() {
    let mut world = World::new();
    for (port, user) in [(1, None), (2, Some("alice")), (3, Some("ümläut:7"))] {
        let issued = credentials().issue(user, EPOCH + 60).unwrap();
        let mut client = client(&mut world, port, &issued.username, &issued.password);
        world.allocate_ok(&mut client);
    }
}

#[test]
fn an_expired_time_stamp_gets_401_and_the_log_says_how_long_ago() {
    for (username, _, first, second) in BY_OPENSSL {
        for password in [first, second] {
            let mut world = World::new();
            let mut client = client(&mut world, 1000, username, password);
            world.advance(seconds(EXPIRES - EPOCH - 1));
            let bytes = client.sign(Method::ALLOCATE, udp);
            let _ = world.pending(&client.at, &bytes);
            for ago in [0, 1] {
                world.advance(seconds(1));
                world.challenge(&mut client);
                assert_eq!(world.allocate(&mut client).code(), 401);
                assert_eq!(world.last_refusal(), Some(Why::Auth(AuthFailure::Expired { ago })));
                assert_eq!(world.last_refused().unwrap().username.as_deref(), Some(username));
            }
            assert_eq!(world.relay.tally().auth_expired, 2);
        }
    }
}

#[test]
fn a_wrong_secret_gets_401() {
    let mut world = World::new();
    let mut other = Credentials::new(REALM);
    other.add_secret(Secret::new("third").unwrap());
    let issued = other.issue(Some("alice"), EXPIRES).unwrap();
    let mut client = client(&mut world, 1000, &issued.username, &issued.password);
    assert_eq!(world.allocate(&mut client).code(), 401);
    assert_eq!(world.last_refusal(), Some(Why::Auth(AuthFailure::BadIntegrity)));
}

#[test]
fn a_password_of_another_user_name_gets_401() {
    let mut world = World::new();
    let issued = credentials().issue(Some("alice"), EXPIRES).unwrap();
    for username in ["1700003601:alice", "1700003600:bob", "1700003600:alice ", "alice:1700003600"] {
        let mut client = client(&mut world, 1000, username, &issued.password);
        assert_eq!(world.allocate(&mut client).code(), 401, "{username}");
    }
}

#[test]
fn a_static_user_never_expires_and_stands_beside_the_secrets() {
    let mut world = World::new();
    world.advance(seconds(1_000_000_000));
    let mut alice = world.client(1000);
    world.allocate_ok(&mut alice);
}

#[test]
fn a_static_user_known_by_his_key_only_is_the_same_user() {
    let mut credentials = Credentials::new(REALM);
    // printf '%s' carol:example.org:s3cret | openssl dgst -md5
    let key = 0x6687_5cee_eac4_754c_d575_c403_a737_43bb_u128;
    credentials.add_user_key("carol", key.to_be_bytes());
    let mut world = World::with(config(), Live::new(Arc::new(credentials)));
    let mut carol = client(&mut world, 1000, "carol", "s3cret");
    world.allocate_ok(&mut carol);
}

/// The draft checks the time on Allocate: a running call lives on.
#[test]
fn an_allocation_outlives_its_credential() {
    let mut world = World::new();
    let (username, _, password, _) = BY_OPENSSL[0];
    let mut client = client(&mut world, 1000, username, password);
    world.allocate_ok(&mut client);
    assert_eq!(world.refresh(&mut client, Some(3600)).code(), 200);
    world.advance(seconds(3599));
    assert_eq!(world.refresh(&mut client, None).code(), 200);
    world.advance(seconds(590));
    world.challenge(&mut client);
    assert_eq!(world.refresh(&mut client, None).code(), 200);
    assert_eq!(world.permit(&mut client, &[PEER]).code(), 200);
    assert_eq!(world.bind(&mut client, 0x4000, PEER).code(), 200);
    assert_eq!(world.refresh(&mut client, Some(0)).code(), 200);
    assert_eq!(world.allocate(&mut client).code(), 401, "but makes no new one");
}

#[test]
fn strict_expiry_holds_for_every_request() {
    let mut strict = live();
    strict.expiry = Expiry::Strict;
    let mut world = World::with(config(), strict);
    let (username, _, password, _) = BY_OPENSSL[0];
    let mut client = client(&mut world, 1000, username, password);
    world.allocate_ok(&mut client);
    assert_eq!(world.refresh(&mut client, Some(3600)).code(), 200);
    world.advance(seconds(3599));
    assert_eq!(world.permit(&mut client, &[PEER]).code(), 200);
    assert_eq!(world.refresh(&mut client, Some(3600)).code(), 200);
    world.advance(seconds(1));
    for reply in [
        world.refresh(&mut client, Some(0)),
        world.permit(&mut client, &[PEER]),
        world.bind(&mut client, 0x4000, PEER),
        world.allocate(&mut client),
    ] {
        assert_eq!((reply.code(), reply.signature(&client.key)), (401, None));
        assert!(reply.find(AttributeType::NONCE).is_some());
        assert_eq!(world.last_refusal(), Some(Why::Auth(AuthFailure::Expired { ago: 0 })));
    }
    assert_eq!(world.relay.usage().allocations, 1, "data flows on until the lifetime ends");
}

/// After a rotation a client's running allocation goes on with the credential it was made with.
#[test]
fn removing_a_secret_ends_no_running_allocation_and_starts_no_new_one() {
    let mut world = World::new();
    let (username, _, _, second) = BY_OPENSSL[0];
    let mut old = client(&mut world, 1000, username, second);
    world.allocate_ok(&mut old);
    let mut rotated = Credentials::new(REALM);
    rotated.add_secret(Secret::new("first").unwrap());
    world.set_live(Live::new(Arc::new(rotated)));
    assert_eq!(world.refresh(&mut old, None).code(), 200);
    let mut again = client(&mut world, 1001, username, second);
    assert_eq!(world.allocate(&mut again).code(), 401);
}
