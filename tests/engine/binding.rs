//! Binding, and everything that is not ours.

use turnwell::relay::{Discard, FiveTuple, StreamId};
use turnwell::wire::{AttributeType, Class, Method, TransactionId, Writer};

use crate::client::{Client, channel_data, send_indication, udp};
use crate::harness::{Outcome, PEER, World, addr};

fn message(class: Class, method: Method, attributes: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    attributes(&mut Writer::new(&mut bytes, class, method, TransactionId([9; 12])));
    bytes
}

fn binding() -> Vec<u8> {
    message(Class::Request, Method::BINDING, |_| {})
}

#[test]
fn binding_tells_the_reflexive_address_of_either_family_and_nothing_else() {
    let mut world = World::new();
    for text in ["100.0.0.1:1234", "[2a00::77]:4321"] {
        let from = Client::new(text, "nobody", "").at;
        let reply = world.packet(&from, &binding()).reply();
        assert_eq!(reply.code(), 200);
        assert_eq!(reply.mapped(), addr(text));
        assert_eq!(reply.kinds(), [AttributeType::XOR_MAPPED_ADDRESS]);
        assert_eq!(reply.id(), TransactionId([9; 12]));
    }
    world.assert_empty();
}

#[test]
fn binding_answers_on_a_stream_as_well() {
    let mut world = World::new();
    let from = Client::new("100.0.0.1:1234", "nobody", "").at;
    let from = FiveTuple { stream: Some(StreamId(std::num::NonZeroU32::MIN)), ..from };
    assert_eq!(world.packet(&from, &binding()).reply().mapped(), from.client);
}

#[test]
fn binding_with_an_unknown_required_attribute_gets_420_with_the_list() {
    let mut world = World::new();
    let from = Client::new("100.0.0.1:1234", "nobody", "").at;
    let bytes = message(Class::Request, Method::BINDING, |writer| {
        writer
            .attribute(AttributeType(0x7ff1), b"x")
            .attribute(AttributeType::CHANGE_REQUEST, &[0, 0, 0, 6])
            .attribute(AttributeType(0xfff1), b"optional");
    });
    let reply = world.packet(&from, &bytes).reply();
    assert_eq!(reply.code(), 420);
    assert_eq!(reply.unknown(), [AttributeType(0x7ff1), AttributeType::CHANGE_REQUEST]);
    assert_eq!(reply.kinds(), [AttributeType::ERROR_CODE, AttributeType::UNKNOWN_ATTRIBUTES]);
}

#[test]
fn a_420_names_every_attribute_up_to_what_fits_any_path() {
    let mut world = World::new();
    let from = Client::new("100.0.0.1:1234", "nobody", "").at;
    let bytes = message(Class::Request, Method::BINDING, |writer| {
        for kind in 0x7000..0x7100 {
            writer.attribute(AttributeType(kind), b"");
        }
    });
    let reply = world.packet(&from, &bytes).reply();
    assert_eq!(reply.unknown(), (0x7000..0x7040).map(AttributeType).collect::<Vec<_>>());
    assert!(reply.bytes.len() < 500 && reply.bytes.len() < bytes.len());
}

#[test]
fn binding_with_a_malformed_attribute_gets_400() {
    let mut world = World::new();
    let from = Client::new("100.0.0.1:1234", "nobody", "").at;
    let bytes = message(Class::Request, Method::BINDING, |writer| {
        writer.attribute(AttributeType::SOFTWARE, b"1234");
    });
    let mut longer_than_the_message = bytes;
    longer_than_the_message[23] = 200;
    assert_eq!(world.packet(&from, &longer_than_the_message).reply().code(), 400);
}

#[test]
fn fingerprint_is_echoed_only_when_the_request_had_it() {
    let mut world = World::new();
    let from = Client::new("100.0.0.1:1234", "nobody", "").at;
    assert!(!world.packet(&from, &binding()).reply().has_fingerprint());
    let with = message(Class::Request, Method::BINDING, |writer| {
        writer.fingerprint();
    });
    let reply = world.packet(&from, &with).reply();
    assert!(reply.has_fingerprint());
    assert_eq!(reply.kinds().last(), Some(&AttributeType::FINGERPRINT));
    let with = message(Class::Request, Method::ALLOCATE, |writer| {
        writer.fingerprint();
    });
    assert!(world.packet(&from, &with).reply().has_fingerprint(), "a challenge, too");
}

#[test]
fn software_is_told_only_when_the_operator_wants_it() {
    let mut live = crate::harness::live();
    live.software = Some("turnwell".into());
    let mut world = World::with(crate::harness::config(), live);
    let from = Client::new("100.0.0.1:1234", "nobody", "").at;
    let reply = world.packet(&from, &binding()).reply();
    assert_eq!(reply.bytes_of(AttributeType::SOFTWARE), Some(b"turnwell".to_vec()));
}

#[test]
fn what_is_not_ours_is_dropped_under_its_name() {
    let mut world = World::new();
    let (client, _) = world.allocated(1000);
    let stranger = Client::new("100.0.0.9:1", "nobody", "").at;
    let mut rfc3489 = binding();
    rfc3489[4..8].copy_from_slice(&[1, 2, 3, 4]);
    let mut odd_length = binding();
    odd_length[3] = 2;
    odd_length.extend([0, 0]);
    let mut longer = binding();
    longer.push(0);
    let mut shorter = binding();
    shorter[3] = 4;
    let mut fingerprint_wrong = message(Class::Request, Method::BINDING, |writer| {
        writer.fingerprint();
    });
    *fingerprint_wrong.last_mut().unwrap() ^= 1;
    let fingerprint_not_last = message(Class::Request, Method::BINDING, |writer| {
        writer.fingerprint().attribute(AttributeType::SOFTWARE, b"late");
    });
    let unknown_method = message(Class::Request, Method::new(0x0ff), udp);
    let attempt = message(Class::Request, Method::CONNECTION_ATTEMPT, udp);
    let data_from_a_client = message(Class::Indication, Method::DATA, |writer| {
        writer.xor_address(AttributeType::XOR_PEER_ADDRESS, addr(PEER)).attribute(AttributeType::DATA, b"x");
    });
    let cases: Vec<(&str, Vec<u8>, Discard)> = vec![
        ("an empty datagram", vec![], Discard::Foreign),
        ("RTP", vec![0x80, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9], Discard::Foreign),
        ("half a header", binding()[..19].to_vec(), Discard::Short),
        ("one byte", vec![0], Discard::Short),
        ("half a ChannelData header", vec![0x40, 0, 0], Discard::Short),
        ("ChannelData cut short", vec![0x40, 0, 0, 4, 1, 2, 3], Discard::Short),
        ("RFC 3489", rfc3489, Discard::NoCookie),
        ("a length that is no multiple of four", odd_length, Discard::BadLength),
        ("more bytes than announced", longer, Discard::BadLength),
        ("fewer bytes than announced", shorter, Discard::BadLength),
        ("a wrong FINGERPRINT", fingerprint_wrong, Discard::BadFingerprint),
        ("a FINGERPRINT that is not last", fingerprint_not_last, Discard::BadFingerprint),
        ("a success response", message(Class::Success, Method::BINDING, |_| {}), Discard::Response),
        ("an error response", message(Class::Error, Method::ALLOCATE, |_| {}), Discard::Response),
        ("a keep-alive", message(Class::Indication, Method::BINDING, |_| {}), Discard::KeepAlive),
        ("an Allocate indication", message(Class::Indication, Method::ALLOCATE, udp), Discard::BadIndication),
        ("a Data indication from a client", data_from_a_client, Discard::BadIndication),
        ("an unknown method", unknown_method, Discard::UnknownMethod),
        ("a ConnectionAttempt of a client", attempt, Discard::UnknownMethod),
        ("a Send request", message(Class::Request, Method::SEND, udp), Discard::UnknownMethod),
        ("ChannelData without an allocation", channel_data(0x4000, b"x"), Discard::NoAllocation),
        ("Send without an allocation", send_indication(addr(PEER), b"x"), Discard::NoAllocation),
    ];
    for (what, bytes, reason) in cases {
        let before = world.relay.tally().discards[reason.index()];
        assert_eq!(world.packet(&stranger, &bytes), Outcome::Discard(reason), "{what}");
        assert_eq!(world.relay.tally().discards[reason.index()], before + 1, "{what}");
    }
    assert_eq!(world.channel(&client, 0x4000, b"x"), Outcome::Discard(Discard::NoChannel));
    assert_eq!(world.send(&client, PEER, b"x"), Outcome::Discard(Discard::NoPermission));
    assert_eq!(world.send(&client, "[2a00::9]:1", b"x"), Outcome::Discard(Discard::PeerFamily));
    let nobodys = turnwell::relay::RelayId(7);
    assert_eq!(world.peer_sends(nobodys, PEER, b"x"), Outcome::Discard(Discard::UnknownRelay));
}

#[test]
fn an_indication_with_an_unknown_required_attribute_is_dropped() {
    let mut world = World::new();
    let (mut client, _) = world.allocated(1000);
    assert_eq!(world.permit(&mut client, &[PEER]).code(), 200);
    let send = |attributes: &dyn Fn(&mut Writer<'_>)| message(Class::Indication, Method::SEND, |w| attributes(w));
    let peer = |writer: &mut Writer<'_>| {
        writer.xor_address(AttributeType::XOR_PEER_ADDRESS, addr(PEER));
    };
    let data = |writer: &mut Writer<'_>| {
        writer.attribute(AttributeType::DATA, b"x");
    };
    let bad: [&dyn Fn(&mut Writer<'_>); 5] = [
        &|w| peer(w),
        &|w| data(w),
        &|w| {
            peer(w);
            data(w);
            w.attribute(AttributeType(0x7abc), b"");
        },
        &|w| {
            w.attribute(AttributeType::XOR_PEER_ADDRESS, &[0, 1, 2, 3]);
            data(w);
        },
        &|w| {
            w.attribute(AttributeType::XOR_PEER_ADDRESS, &[0, 3, 0, 0, 1, 2, 3, 4]);
            data(w);
        },
    ];
    for (at, attributes) in bad.into_iter().enumerate() {
        let outcome = world.packet(&client.at, &send(attributes));
        assert_eq!(outcome, Outcome::Discard(Discard::BadIndication), "{at}");
    }
    let good: [&dyn Fn(&mut Writer<'_>); 4] = [
        &|w| {
            data(w);
            peer(w);
        },
        &|w| {
            peer(w);
            w.attribute(AttributeType::DONT_FRAGMENT, b"").attribute(AttributeType(0xfabc), b"optional");
            data(w);
        },
        &|w| {
            peer(w);
            data(w);
            w.fingerprint();
        },
        &|w| {
            peer(w);
            w.attribute(AttributeType::USERNAME, b"x");
            data(w);
        },
    ];
    for (at, attributes) in good.into_iter().enumerate() {
        let outcome = world.packet(&client.at, &send(attributes));
        assert!(matches!(outcome, Outcome::ToPeer { ref data, .. } if data == b"x"), "{at}");
    }
}
