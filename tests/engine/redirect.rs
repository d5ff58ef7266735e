//! Try Alternate: who is sent where, and who stays (RFC 8489 §10, §14.8; RFC 8656 §7.2).

use turnwell::relay::{Alternates, Live, Redirect, Why};
use turnwell::wire::{AttributeType, Method};

use crate::client::{Client, Reply, udp};
use crate::harness::{World, addr, config, live};

fn world(servers: &[&str], domain: Option<&str>, redirect: Redirect) -> World {
    let servers = servers.iter().map(|server| addr(server)).collect();
    World::with(
        config(),
        Live { alternates: Alternates { servers, domain: domain.map(Into::into), redirect }, ..live() },
    )
}

fn servers(reply: &Reply) -> Vec<String> {
    let found = reply.attributes().into_iter().filter(|attribute| attribute.kind == AttributeType::ALTERNATE_SERVER);
    found.map(|attribute| attribute.address().unwrap().to_string()).collect()
}

#[test]
fn a_draining_server_names_one_of_the_clients_family_first_and_signs_it() {
    let mut world = world(&["[2001:db8::8]:1", "192.0.2.8:1"], Some("turn2.example.org"), Redirect::Draining);
    let (mut old, _) = world.allocated(1000);
    world.relay.drain();
    for (address, first, second) in
        [("100.0.0.1:1", "192.0.2.8:1", "[2001:db8::8]:1"), ("[2a00::1]:1", "[2001:db8::8]:1", "192.0.2.8:1")]
    {
        let mut client = world.client_of("alice", address);
        // `ask` checks the signature: clients must not follow an unsigned one.
        let reply = world.allocate(&mut client);
        assert_eq!((reply.code(), world.last_refusal()), (300, Some(Why::Redirected)));
        assert_eq!(servers(&reply), [first, second]);
        assert_eq!(reply.find(AttributeType::ALTERNATE_DOMAIN).unwrap().domain(), Ok("turn2.example.org"));
    }
    assert_eq!(world.refresh(&mut old, None).code(), 200, "who has an allocation stays");
    assert_eq!(world.allocate(&mut old).code(), 437);
}

#[test]
fn without_a_server_of_the_clients_family_nothing_changes() {
    let mut world = world(&["[2001:db8::8]:1"], None, Redirect::Draining);
    let mut client = world.client(1000);
    world.allocate_ok(&mut client);
    world.relay.drain();
    let mut late = world.client(1001);
    assert_eq!(world.allocate(&mut late).code(), 508);
    assert_eq!(world.last_refusal(), Some(Why::Draining));
}

#[test]
fn a_server_that_always_points_elsewhere_still_asks_who_it_is() {
    let mut world = world(&["192.0.2.8:1"], None, Redirect::Always);
    let client = world.client(1000);
    let mut unknown = client.as_user("alice", "wrong");
    assert_eq!(world.allocate(&mut unknown).code(), 401);
    let reply = world.allocate(&mut client.clone());
    assert_eq!((reply.code(), servers(&reply)), (300, vec!["192.0.2.8:1".into()]));
    assert!(reply.find(AttributeType::ALTERNATE_DOMAIN).is_none());
    let mut from = Client::new("100.0.0.1:1", "alice", "pw");
    let binding = from.bare(Method::BINDING);
    assert_ne!(world.packet(&from.at, &binding).reply().code(), 300, "a Binding request has no signature to check");
    world.assert_empty();
}

#[test]
fn of_several_servers_every_one_is_named_sometimes() {
    let mut world = world(&["192.0.2.8:1", "192.0.2.9:1", "192.0.2.10:1"], None, Redirect::Always);
    let mut client = world.client(1000);
    let mut named: Vec<String> = (0..30)
        .flat_map(|_| {
            let bytes = client.sign(Method::ALLOCATE, udp);
            servers(&world.packet(&client.at, &bytes).reply())
        })
        .collect();
    assert_eq!(named.len(), 30);
    named.sort();
    named.dedup();
    assert_eq!(named.len(), 3);
}
