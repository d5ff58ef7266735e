//! Every error code with every reason behind it, in one table.

use turnwell::credentials::AuthFailure;
use turnwell::relay::{OpenError, PeerClass, Why};
use turnwell::wire::{AttributeType, Method, Writer};

use crate::client::{Client, udp};
use crate::harness::{PEER, PEER_V6, World, addr};

type Attributes = fn(&mut Writer<'_>);

fn peer(writer: &mut Writer<'_>) {
    writer.xor_address(AttributeType::XOR_PEER_ADDRESS, addr(PEER));
}

fn number(writer: &mut Writer<'_>, value: u32) {
    writer.u32(AttributeType::CHANNEL_NUMBER, value);
}

fn family(writer: &mut Writer<'_>, family: u8) {
    writer.attribute(AttributeType::REQUESTED_ADDRESS_FAMILY, &[family, 0, 0, 0]);
}

/// What a client without an allocation is refused: (what, code, why, attributes of its Allocate).
const ALLOCATE: &[(&str, u16, Why, Attributes)] = &[
    ("no transport", 400, Why::Malformed, |_| {}),
    ("a short transport", 400, Why::Malformed, |w| {
        w.attribute(AttributeType::REQUESTED_TRANSPORT, &[17]);
    }),
    ("a long transport", 400, Why::Malformed, |w| {
        w.attribute(AttributeType::REQUESTED_TRANSPORT, &[17; 5]);
    }),
    ("TCP", 442, Why::Unsupported, |w| {
        w.attribute(AttributeType::REQUESTED_TRANSPORT, &[6, 0, 0, 0]);
    }),
    ("no protocol", 442, Why::Unsupported, |w| {
        w.attribute(AttributeType::REQUESTED_TRANSPORT, &[0; 4]);
    }),
    ("an unknown attribute", 420, Why::Unknown, |w| {
        udp(w);
        w.attribute(AttributeType(0x7abc), b"");
    }),
    ("an unknown attribute, even without transport", 420, Why::Unknown, |w| {
        w.attribute(AttributeType(0x7abc), b"");
    }),
    ("a family nobody knows", 440, Why::Unsupported, |w| {
        udp(w);
        family(w, 3);
    }),
    ("a malformed family", 400, Why::Malformed, |w| {
        udp(w);
        w.attribute(AttributeType::REQUESTED_ADDRESS_FAMILY, &[1]);
    }),
    ("a malformed EVEN-PORT", 400, Why::Malformed, |w| {
        udp(w);
        w.attribute(AttributeType::EVEN_PORT, &[0x80, 0]);
    }),
    ("a malformed LIFETIME", 400, Why::Malformed, |w| {
        udp(w);
        w.attribute(AttributeType::LIFETIME, &[1, 2]);
    }),
    ("a token of seven bytes", 400, Why::Malformed, |w| {
        udp(w);
        w.attribute(AttributeType::RESERVATION_TOKEN, &[7; 7]);
    }),
    ("a token and EVEN-PORT", 400, Why::Malformed, |w| {
        udp(w);
        w.attribute(AttributeType::RESERVATION_TOKEN, &[7; 8]).attribute(AttributeType::EVEN_PORT, &[0]);
    }),
    ("a token and a family", 400, Why::Malformed, |w| {
        udp(w);
        w.attribute(AttributeType::RESERVATION_TOKEN, &[7; 8]);
        family(w, 1);
    }),
    ("a token of nobody", 508, Why::NoReservation, |w| {
        udp(w);
        w.attribute(AttributeType::RESERVATION_TOKEN, &[7; 8]);
    }),
];

/// What the owner of an IPv4 allocation is refused.
const OWNER: &[(&str, Method, u16, Why, Attributes)] = &[
    ("a second Allocate", Method::ALLOCATE, 437, Why::AlreadyAllocated, udp),
    ("a second Allocate, unknown attribute", Method::ALLOCATE, 420, Why::Unknown, |w| {
        udp(w);
        w.attribute(AttributeType(0x7abc), b"");
    }),
    ("a malformed LIFETIME", Method::REFRESH, 400, Why::Malformed, |w| {
        w.attribute(AttributeType::LIFETIME, &[1]);
    }),
    ("the other family", Method::REFRESH, 443, Why::Unsupported, |w| family(w, 2)),
    ("a family nobody knows", Method::REFRESH, 443, Why::Unsupported, |w| family(w, 9)),
    ("no peer", Method::CREATE_PERMISSION, 400, Why::Malformed, |_| {}),
    ("half a peer", Method::CREATE_PERMISSION, 400, Why::Malformed, |w| {
        peer(w);
        w.attribute(AttributeType::XOR_PEER_ADDRESS, &[0, 1, 0, 0]);
    }),
    ("a peer of the other family", Method::CREATE_PERMISSION, 443, Why::Unsupported, |w| {
        peer(w);
        w.xor_address(AttributeType::XOR_PEER_ADDRESS, addr(PEER_V6));
    }),
    ("a forbidden peer among others", Method::CREATE_PERMISSION, 403, Why::ForbiddenPeer(PeerClass::Private), |w| {
        peer(w);
        w.xor_address(AttributeType::XOR_PEER_ADDRESS, addr("10.0.0.1:1"));
    }),
    ("an unknown attribute", Method::CREATE_PERMISSION, 420, Why::Unknown, |w| {
        peer(w);
        w.attribute(AttributeType(0x7abc), b"");
    }),
    ("no number", Method::CHANNEL_BIND, 400, Why::Malformed, peer),
    ("no peer", Method::CHANNEL_BIND, 400, Why::Malformed, |w| number(w, 0x4000 << 16)),
    ("half a number", Method::CHANNEL_BIND, 400, Why::Malformed, |w| {
        w.attribute(AttributeType::CHANNEL_NUMBER, &[0x40, 0]);
        peer(w);
    }),
    ("a number below the range", Method::CHANNEL_BIND, 400, Why::Malformed, |w| {
        number(w, 0x3fff << 16);
        peer(w);
    }),
    ("a number above the range", Method::CHANNEL_BIND, 400, Why::Malformed, |w| {
        number(w, 0x5000 << 16);
        peer(w);
    }),
    ("a peer of the other family", Method::CHANNEL_BIND, 443, Why::Unsupported, |w| {
        number(w, 0x4000 << 16);
        w.xor_address(AttributeType::XOR_PEER_ADDRESS, addr(PEER_V6));
    }),
    ("a forbidden peer", Method::CHANNEL_BIND, 403, Why::ForbiddenPeer(PeerClass::LinkLocal), |w| {
        number(w, 0x4000 << 16);
        w.xor_address(AttributeType::XOR_PEER_ADDRESS, addr("169.254.169.254:80"));
    }),
];

/// What the host could not do.
const HOST: &[(OpenError, u16, Why)] = &[
    (OpenError::UserQuota, 486, Why::UserQuota),
    (OpenError::SourceQuota, 486, Why::SourceQuota),
    (OpenError::TotalQuota, 508, Why::Capacity),
    (OpenError::NoReservation, 508, Why::NoReservation),
    (OpenError::Unavailable, 508, Why::Host),
];

#[test]
fn an_allocate_that_cannot_be_granted_gets_its_code() {
    for (what, code, why, attributes) in ALLOCATE {
        let mut world = World::new();
        let mut client = world.client(1000);
        let reply = world.ask(&mut client, Method::ALLOCATE, attributes);
        assert_eq!((reply.code(), world.last_refusal()), (*code, Some(*why)), "{what}");
        world.assert_empty();
    }
}

#[test]
fn an_owners_bad_request_gets_its_code_and_changes_nothing() {
    for (what, method, code, why, attributes) in OWNER {
        let mut world = World::new();
        let (mut client, _) = world.allocated(1000);
        let (usage, deadline) = (world.relay.usage(), world.relay.poll_timeout());
        let reply = world.ask(&mut client, *method, attributes);
        assert_eq!((reply.code(), world.last_refusal()), (*code, Some(*why)), "{what}");
        assert_eq!((world.relay.usage(), world.relay.poll_timeout()), (usage, deadline), "{what}");
    }
}

#[test]
fn what_the_host_cannot_do_gets_its_code() {
    for (error, code, why) in HOST {
        let mut world = World::new();
        let mut client = world.client(1000);
        world.refusals.push_back(*error);
        assert_eq!(world.allocate(&mut client).code(), *code, "{error:?}");
        assert_eq!(world.last_refusal(), Some(*why));
        world.assert_empty();
        world.allocate_ok(&mut client);
    }
}

#[test]
fn without_an_allocation_every_method_gets_437_after_its_user_is_known() {
    let mut world = World::new();
    let mut client = world.client(1000);
    assert_eq!(world.refresh(&mut client, None).code(), 437);
    assert_eq!(world.refresh(&mut client, Some(0)).code(), 437);
    assert_eq!(world.permit(&mut client, &[PEER]).code(), 437);
    assert_eq!(world.bind(&mut client, 0x4000, PEER).code(), 437);
    assert_eq!(world.bind(&mut client, 0x1, PEER).code(), 437, "before the attributes are looked at");
    assert_eq!(world.last_refusal(), Some(Why::NoAllocation));
    let mut wrong = client.as_user("alice", "wrong");
    assert_eq!(world.refresh(&mut wrong, None).code(), 401);
}

#[test]
fn a_420_after_authentication_is_signed_and_lists_the_attributes() {
    let mut world = World::new();
    let mut client = world.client(1000);
    let reply = world.ask(&mut client, Method::ALLOCATE, |w| {
        w.attribute(AttributeType(0x7001), b"a").attribute(AttributeType::USE_CANDIDATE, b"");
    });
    assert_eq!(reply.unknown(), [AttributeType(0x7001), AttributeType::USE_CANDIDATE]);
    assert!(reply.signature(&client.key).is_some());
}

/// Each answer is counted under its method and code, and told as an event with who and why.
#[test]
fn answers_are_counted_by_method_and_code() {
    let mut world = World::new();
    let (mut client, _) = world.allocated(1000);
    world.permit(&mut client, &["127.0.0.1:1"]);
    world.bind(&mut client, 0x4000, PEER);
    let tally = world.relay.tally();
    let count = |method: Method, code: u16| {
        let row = turnwell::relay::METHODS.iter().position(|(known, _)| *known == method).unwrap();
        let column = turnwell::relay::CODES.iter().position(|known| *known == code).unwrap();
        tally.responses[row][column]
    };
    assert_eq!(count(Method::ALLOCATE, 401), 1);
    assert_eq!(count(Method::ALLOCATE, 200), 1);
    assert_eq!(count(Method::CREATE_PERMISSION, 403), 1);
    assert_eq!(count(Method::CHANNEL_BIND, 200), 1);
    assert_eq!(tally.responses.iter().flatten().sum::<u64>(), 4);
    assert_eq!((tally.challenges, tally.allocations), (1, 1));
    let refusal = world.last_refused().unwrap();
    assert_eq!((refusal.client, refusal.method), (client.at.client, Method::CREATE_PERMISSION));
    assert_eq!((refusal.code.number(), refusal.why), (403, Why::ForbiddenPeer(PeerClass::Loopback)));
    assert_eq!(refusal.username, None, "names are told where a credential is the cause");
}

#[test]
fn failed_logins_are_counted_apart_from_challenges() {
    let mut world = World::new();
    let client = world.client(1000);
    for (user, why) in [("alice", AuthFailure::BadIntegrity), ("eve", AuthFailure::UnknownUser)] {
        world.allocate(&mut Client { ..client.as_user(user, "no") });
        assert_eq!(world.last_refusal(), Some(Why::Auth(why)));
    }
    let tally = world.relay.tally();
    assert_eq!((tally.challenges, tally.auth_bad_integrity, tally.auth_unknown_user), (1, 1, 1));
}
