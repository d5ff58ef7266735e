//! What an operator does to a running engine: new rules, drain, close.

use std::sync::Arc;

use turnwell::credentials::Credentials;
use turnwell::relay::{Discard, EndReason, Event, Live, PeerPolicy, Why};
use turnwell::wire::{AttributeType, Method};

use crate::client::{REALM, udp};
use crate::harness::{OTHER_PEER, Outcome, PEER, World, live, seconds};

fn policy(allow: &[&str], deny: &[&str]) -> Live {
    let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>();
    Live { peers: PeerPolicy::new(&nets(allow), &nets(deny)), ..live() }
}

#[test]
fn a_peer_that_is_denied_now_loses_permission_channel_and_flow_at_once() {
    let mut world = World::new();
    let (mut client, relay) = world.allocated(1000);
    world.bind(&mut client, 0x4000, PEER);
    world.bind(&mut client, 0x4001, OTHER_PEER);
    world.events();
    world.set_live(policy(&[], &["9.9.9.0/24"]));
    let events = world.events();
    assert!(matches!(events.as_slice(), [Event::FlowDown(_), Event::FlowDown(_)]), "{events:?}");
    assert_eq!(world.channel(&client, 0x4000, b"x"), Outcome::Discard(Discard::NoChannel));
    assert_eq!(world.send(&client, PEER, b"x"), Outcome::Discard(Discard::NoPermission));
    assert_eq!(world.peer_sends(relay, PEER, b"x"), Outcome::Discard(Discard::NoPermission));
    assert!(matches!(world.channel(&client, 0x4001, b"x"), Outcome::ToPeer { .. }), "the others go on");
    assert_eq!(world.permit(&mut client, &[PEER]).code(), 403);
    assert_eq!(world.bind(&mut client, 0x4000, PEER).code(), 403);
    world.set_live(live());
    assert_eq!(world.bind(&mut client, 0x4000, PEER).code(), 200);
}

#[test]
fn what_an_operator_allowed_ends_when_he_takes_it_back() {
    let mut world = World::with(crate::harness::config(), policy(&["10.1.0.0/16"], &[]));
    let (mut client, _) = world.allocated(1000);
    assert_eq!(world.bind(&mut client, 0x4000, "10.1.2.3:4").code(), 200);
    assert_eq!(world.permit(&mut client, &["10.2.0.1:1"]).code(), 403);
    world.set_live(live());
    assert_eq!(world.relay.usage().flows, 0);
    assert_eq!(world.send(&client, "10.1.2.3:4", b"x"), Outcome::Discard(Discard::NoPermission));
}

#[test]
fn a_reload_that_forbids_nothing_changes_nothing() {
    let mut world = World::new();
    let (mut client, _) = world.allocated(1000);
    world.bind(&mut client, 0x4000, PEER);
    world.events();
    let (usage, deadline) = (world.relay.usage(), world.relay.poll_timeout());
    world.set_live(live());
    assert_eq!(world.events(), []);
    assert_eq!((world.relay.usage(), world.relay.poll_timeout()), (usage, deadline));
}

#[test]
fn deadlines_of_what_a_reload_ended_are_gone() {
    let mut world = World::new();
    let (mut client, _) = world.allocated(1000);
    world.permit(&mut client, &[PEER]);
    assert_eq!(world.relay.poll_timeout().unwrap().since(world.now.mono), seconds(300));
    world.set_live(policy(&[], &["9.9.9.9/32"]));
    assert_eq!(world.relay.poll_timeout().unwrap().since(world.now.mono), seconds(600));
}

#[test]
fn new_lifetimes_hold_for_what_is_asked_next() {
    let mut world = World::new();
    let (mut client, _) = world.allocated(1000);
    let mut shorter = live();
    shorter.lifetimes.default = seconds(60);
    shorter.lifetimes.maximum = seconds(120);
    world.set_live(shorter);
    assert_eq!(world.relay.poll_timeout().unwrap().since(world.now.mono), seconds(600), "a promise is kept");
    assert_eq!(world.refresh(&mut client, Some(3600)).lifetime(), Some(120));
    assert_eq!(world.refresh(&mut client, None).lifetime(), Some(60));
}

#[test]
fn taking_away_every_credential_refuses_requests_and_lets_data_flow_to_the_end() {
    let mut world = World::new();
    let (mut client, _) = world.allocated(1000);
    world.permit(&mut client, &[PEER]);
    world.set_live(Live::new(Arc::new(Credentials::new(REALM))));
    assert_eq!(world.refresh(&mut client, Some(0)).code(), 403);
    assert!(matches!(world.send(&client, PEER, b"x"), Outcome::ToPeer { .. }));
    world.advance(seconds(600));
    world.assert_empty();
}

/// RFC 8656 §5 binds an allocation to its user name, not to realm and password.
#[test]
fn a_running_allocation_survives_a_new_realm_and_a_new_password() {
    let mut world = World::new();
    let (mut client, _) = world.allocated(1000);
    let mut renewed = Credentials::new("new.example.org");
    renewed.add_user("alice", "new");
    world.set_live(Live::new(Arc::new(renewed)));
    // Another set of users may mean another offer, and with it a new nonce: what a running client takes in its stride.
    world.challenge(&mut client);
    let reply = world.refresh(&mut client, None);
    assert_eq!(reply.code(), 401);
    assert_eq!(world.last_refusal(), Some(Why::WrongRealm));
    assert_eq!(reply.bytes_of(AttributeType::REALM), Some(b"new.example.org".to_vec()));
    client.realm = "new.example.org".into();
    let mut renewed = client.as_user("alice", "new");
    assert_eq!(world.refresh(&mut renewed, None).code(), 200);
    assert_eq!(world.permit(&mut renewed, &[PEER]).code(), 200);
    assert_eq!(world.refresh(&mut client.as_user("alice", "pw"), None).code(), 401, "the old password, the new realm");
}

#[test]
fn a_draining_engine_takes_no_new_allocation_and_serves_the_others() {
    let mut world = World::new();
    let mut client = world.client(1000);
    let first = client.sign(Method::ALLOCATE, udp);
    let answer = world.packet(&client.at, &first);
    world.relay.drain();
    let mut late = world.client(1001);
    assert_eq!(world.allocate(&mut late).code(), 508);
    assert_eq!(world.last_refusal(), Some(Why::Draining));
    assert_eq!(world.packet(&client.at, &first), answer, "a retransmission is nothing new");
    assert_eq!(world.refresh(&mut client, None).code(), 200);
    assert_eq!(world.permit(&mut client, &[PEER]).code(), 200);
    assert_eq!(world.bind(&mut client, 0x4000, PEER).code(), 200);
    assert!(matches!(world.channel(&client, 0x4000, b"x"), Outcome::ToPeer { .. }));
    assert_eq!(world.refresh(&mut client, Some(0)).code(), 200);
    assert_eq!(world.allocate(&mut client).code(), 508);
    world.assert_empty();
}

#[test]
fn close_ends_one_allocation_and_only_that() {
    let mut world = World::new();
    let (client, _) = world.allocated(1);
    let (other, _) = world.allocated(2);
    world.events();
    world.close(&client);
    assert_eq!(world.ended().iter().map(|(_, reason)| *reason).collect::<Vec<_>>(), [EndReason::Closed]);
    world.close(&client);
    assert_eq!(world.events(), [], "closing nothing is nothing");
    assert_eq!(world.relay.usage().allocations, 1);
    world.close(&other);
    world.assert_empty();
}
