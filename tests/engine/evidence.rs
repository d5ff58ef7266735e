//! What is kept of credentials that do not work: enough to find the mistake, and little of it whatever clients do.

use turnwell::credentials::{AuthFailure, Cause, Evidence, Symptom};
use turnwell::relay::Event;

use crate::client::Client;
use crate::harness::{EPOCH, World, credentials, seconds};

fn samples(world: &mut World) -> Vec<Evidence> {
    let of = |event| match event {
        Event::Evidence(sample) => Some(*sample),
        _ => None,
    };
    world.events().into_iter().filter_map(of).collect()
}

fn client(world: &mut World, username: &str, password: &str) -> Client {
    let mut client = Client::new("100.0.0.1:1000", username, password);
    world.challenge(&mut client);
    client
}

#[test]
fn a_bad_signature_is_kept_with_its_message_and_can_be_explained() {
    let mut world = World::new();
    let username = "1700003600:alice";
    let unpadded = "WJ4pLv4gIfUw00I7fMD4bC+IuYg";
    // printf %s 1700003600:alice | openssl dgst -sha1 -hmac $'first\n' -binary | base64
    let newline = client(&mut world, username, "ed7rpw8KguXsF0e7kLELW0FlyUM=");
    let unpadded = client(&mut world, username, unpadded).modern(unpadded, &[0, 2, 0, 0, 0, 1, 0, 0]);
    let guessed = client(&mut world, username, "guessed");
    for (mut client, cause) in
        [(newline, Cause::SecretNewline), (unpadded, Cause::UnpaddedBase64), (guessed, Cause::OtherSecret)]
    {
        assert_eq!(world.allocate(&mut client).code(), 401);
        let samples = samples(&mut world);
        let [sample] = samples.as_slice() else { panic!("one sample: {samples:?}") };
        assert_eq!(sample.symptom, Symptom::Refused(AuthFailure::BadIntegrity));
        assert_eq!((&*sample.username, credentials().diagnose(sample)), (username, cause));
    }
}

#[test]
fn unknown_users_and_expired_credentials_are_kept_without_a_message() {
    let mut world = World::new();
    let issued = credentials().issue(Some("alice"), EPOCH).unwrap();
    for (username, password, cause) in
        [("mallory", "x", Cause::NoTimeStamp), (issued.username.as_str(), issued.password.as_str(), Cause::TimeOfIssue)]
    {
        let mut client = client(&mut world, username, password);
        assert_eq!(world.allocate(&mut client).code(), 401);
        let samples = samples(&mut world);
        assert_eq!((samples.len(), samples[0].message.len()), (1, 0));
        assert_eq!(credentials().diagnose(&samples[0]), cause);
    }
}

#[test]
fn a_time_stamp_in_milliseconds_is_noticed_although_it_is_accepted() {
    let mut world = World::new();
    let issued = credentials().issue(Some("alice"), EPOCH * 1000).unwrap();
    let mut client = client(&mut world, &issued.username, &issued.password);
    world.allocate_ok(&mut client);
    let samples = samples(&mut world);
    assert_eq!(samples.iter().map(|sample| sample.symptom).collect::<Vec<_>>(), [Symptom::NeverExpires]);
}

#[test]
fn challenges_and_requests_in_order_leave_nothing() {
    let mut world = World::new();
    let (mut client, _) = world.allocated(1000);
    assert_eq!(world.refresh(&mut client, Some(0)).code(), 200);
    assert_eq!(samples(&mut world), []);
}

#[test]
fn a_flood_leaves_four_samples_a_second() {
    let mut world = World::new();
    let mut client = client(&mut world, "1700003600:alice", "guessed");
    for second in 0..3 {
        for _ in 0..100 {
            assert_eq!(world.allocate(&mut client).code(), 401);
        }
        assert_eq!(samples(&mut world).len(), 4, "second {second}");
        world.advance(seconds(1));
    }
}
