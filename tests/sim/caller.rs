//! A TURN client as it should be: it retransmits (RFC 8489 §6.2.1), takes realm and nonce from 401 and 438, begins
//! anew where its five-tuple is taken or its allocation lost, and refreshes everything in time.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use turnwell::wire::{AttributeType, Class, Kind, Message, Method, Writer};

use crate::client::{Client, Received, Reply, channel_data, send_indication, udp};
use crate::network::{SECOND, Time};
use crate::payload::{Party, Payload};
use crate::random::Random;

/// RFC 8489 §6.2.1: 500 ms, doubled up to seven sendings, the last one being waited for 16 times as long as the first.
const FIRST_TIMEOUT: Time = 500;
const SENDINGS: u32 = 7;
const LAST_TIMEOUT: Time = 16 * FIRST_TIMEOUT;

/// What a caller is like.
#[derive(Clone, Debug)]
pub(crate) struct Habits {
    /// It binds channels; else everything goes in indications, as with Firefox.
    channels: bool,
    lifetime: Option<u32>,
    permits_every: Time,
    binds_every: Time,
    keepalive_every: Time,
    sends_every: Time,
    /// A new five-tuple begins with the nonce of the old one.
    keeps_nonce: bool,
    /// It deletes its allocation when it leaves.
    deletes: bool,
}

impl Habits {
    pub(crate) fn new(random: &mut Random) -> Habits {
        Habits {
            channels: random.permille(700),
            lifetime: [None, Some(600), Some(900), Some(3600)][random.below(4)],
            permits_every: random.within(30..120) * SECOND,
            binds_every: random.within(60..150) * SECOND,
            keepalive_every: random.within(10..20) * SECOND,
            sends_every: random.within(2000..12_000),
            keeps_nonce: random.permille(500),
            deletes: random.permille(500),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Binding,
    Allocate,
    Refresh(Option<u32>),
    Permit(Party, SocketAddr),
    Bind(Party, SocketAddr, u16),
}

struct Transaction {
    what: What,
    bytes: Vec<u8>,
    sendings: u32,
    /// When it is sent again, or given up.
    next: Time,
}

/// Somebody whom the caller talks with.
#[derive(Default)]
struct Contact {
    address: Option<SocketAddr>,
    /// The address that is permitted.
    permitted: Option<SocketAddr>,
    /// The number by which the address is bound.
    channel: Option<(u16, SocketAddr)>,
    permit_at: Time,
    bind_at: Time,
}

impl Contact {
    /// Whether it can be written to. Port 9 stands for one that is not known yet; such a peer has to write first.
    fn is_known(&self) -> bool {
        self.address.is_some_and(|address| address.port() != 9)
    }
}

pub(crate) struct Caller {
    pub(crate) index: usize,
    habits: Habits,
    client: Client,
    /// The socket inside; another one is another five-tuple.
    pub(crate) port: u16,
    pub(crate) relayed: Option<SocketAddr>,
    /// Every relayed address this five-tuple or an earlier one was told.
    addresses: Vec<SocketAddr>,
    mapped: Option<SocketAddr>,
    transactions: Vec<Transaction>,
    contacts: BTreeMap<Party, Contact>,
    numbers: BTreeMap<u16, SocketAddr>,
    next_number: u16,
    allocate_at: Time,
    refresh_at: Time,
    keepalive_at: Time,
    send_at: Time,
    /// When the simulation calls it next.
    pub(crate) woken: Time,
    hanging_up: bool,
    pub(crate) gone: bool,
    out: Vec<Vec<u8>>,
    /// How often something of note happened, by its name.
    pub(crate) seen: BTreeMap<String, u32>,
    /// When what arrived last from somebody had been sent.
    pub(crate) heard: BTreeMap<Party, Time>,
}

impl Caller {
    pub(crate) fn new(index: usize, starts: Time, habits: Habits, others: &[Party]) -> Caller {
        let user = ["alice", "bob"][index];
        Caller {
            index,
            habits,
            client: Client::new(&format!("10.0.{index}.1:1000"), user, "pw"),
            port: 1000,
            relayed: None,
            addresses: Vec::new(),
            mapped: None,
            transactions: Vec::new(),
            contacts: others.iter().map(|other| (*other, Contact::default())).collect(),
            numbers: BTreeMap::new(),
            next_number: 0x4000,
            allocate_at: starts,
            refresh_at: Time::MAX,
            keepalive_at: Time::MAX,
            send_at: Time::MAX,
            woken: Time::MAX,
            hanging_up: false,
            gone: false,
            out: Vec::new(),
            seen: BTreeMap::new(),
            heard: BTreeMap::new(),
        }
    }

    /// What is to be sent to the server since the last call.
    pub(crate) fn take_out(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.out)
    }

    /// When `tick` has something to do.
    pub(crate) fn deadline(&self) -> Time {
        let timers = [self.allocate_at, self.refresh_at, self.keepalive_at, self.send_at];
        let contacts = self.contacts.values().filter(|contact| self.relayed.is_some() && contact.address.is_some());
        let contacts = contacts.flat_map(|contact| {
            [Some(contact.permit_at), Some(contact.bind_at).filter(|_| self.habits.channels && contact.is_known())]
        });
        let transactions = self.transactions.iter().map(|transaction| transaction.next);
        timers.into_iter().chain(contacts.flatten()).chain(transactions).min().unwrap_or(Time::MAX)
    }

    /// By signaling, somebody has another address, or none.
    pub(crate) fn learn(&mut self, other: Party, address: Option<SocketAddr>) {
        let contact = self.contacts.get_mut(&other).expect("a contact");
        if contact.address != address {
            *contact = Contact { address, permit_at: 1, bind_at: 1, ..Contact::default() };
        }
    }

    /// Deletes the allocation, and tries until it is told so; or just leaves, as it is its habit.
    pub(crate) fn hang_up(&mut self, now: Time) {
        [self.allocate_at, self.refresh_at, self.keepalive_at, self.send_at] = [Time::MAX; 4];
        self.transactions.clear();
        self.hanging_up = true;
        match self.relayed.take() {
            Some(_) if self.habits.deletes => self.begin(now, What::Refresh(Some(0))),
            _ => self.gone = true,
        }
    }

    pub(crate) fn tick(&mut self, now: Time, random: &mut Random) {
        self.retransmit(now);
        if now >= self.allocate_at {
            self.allocate_at = Time::MAX;
            self.begin(now, What::Allocate);
        }
        if now >= self.refresh_at {
            self.refresh_at = Time::MAX;
            self.begin(now, What::Refresh(self.habits.lifetime));
        }
        if now >= self.keepalive_at {
            self.keepalive_at = now + self.habits.keepalive_every;
            self.begin(now, What::Binding);
        }
        if self.relayed.is_some() {
            self.keep_contacts(now);
            if now >= self.send_at {
                self.send_at = now + self.habits.sends_every;
                self.send(now, random);
            }
        }
    }

    fn retransmit(&mut self, now: Time) {
        let mut gave_up = false;
        for transaction in self.transactions.iter_mut().filter(|transaction| now >= transaction.next) {
            if transaction.sendings == SENDINGS {
                gave_up = true;
                continue;
            }
            transaction.sendings += 1;
            let wait = if transaction.sendings == SENDINGS {
                LAST_TIMEOUT
            } else {
                FIRST_TIMEOUT << (transaction.sendings - 1)
            };
            transaction.next = now + wait;
            self.out.push(transaction.bytes.clone());
        }
        if gave_up {
            self.note("given up");
            self.restart(now, 0);
        }
    }

    /// Another five-tuple, and everything from the beginning (RFC 8656 §7.4).
    fn restart(&mut self, now: Time, after: Time) {
        self.transactions.clear();
        if self.hanging_up {
            self.gone = true;
            return;
        }
        self.port += 1;
        [self.refresh_at, self.keepalive_at, self.send_at] = [Time::MAX; 3];
        (self.relayed, self.mapped, self.allocate_at) = (None, None, now + after);
        self.numbers.clear();
        for contact in self.contacts.values_mut() {
            *contact = Contact { address: contact.address, permit_at: 1, bind_at: 1, ..Contact::default() };
        }
        if !self.habits.keeps_nonce {
            self.client.nonce.clear();
        }
        self.note("five-tuple");
    }

    fn keep_contacts(&mut self, now: Time) {
        let mut begun = Vec::new();
        for (party, contact) in &mut self.contacts {
            let Some(address) = contact.address else { continue };
            if now >= contact.permit_at {
                contact.permit_at = now + self.habits.permits_every;
                begun.push(What::Permit(*party, address));
            }
            if self.habits.channels && now >= contact.bind_at && contact.is_known() {
                contact.bind_at = now + self.habits.binds_every;
                // The same number as before, whether or not an answer ever came: both are taken for each other.
                let known = self.numbers.iter().find(|(_, bound)| **bound == address).map(|(number, _)| *number);
                let number = known.unwrap_or(self.next_number);
                self.next_number += u16::from(known.is_none());
                self.numbers.insert(number, address);
                begun.push(What::Bind(*party, address, number));
            }
        }
        begun.into_iter().for_each(|what| self.begin(now, what));
    }

    fn begin(&mut self, now: Time, what: What) {
        let bytes = match what {
            What::Binding => {
                let mut bytes = Vec::new();
                let id = self.client.next_id();
                Writer::new(&mut bytes, Class::Request, Method::BINDING, id).finish();
                bytes
            }
            What::Allocate if self.client.nonce.is_empty() => self.client.bare(Method::ALLOCATE),
            What::Allocate => self.client.sign(Method::ALLOCATE, |writer| {
                udp(writer);
                if let Some(lifetime) = self.habits.lifetime {
                    writer.u32(AttributeType::LIFETIME, lifetime);
                }
            }),
            What::Refresh(lifetime) => self.client.sign(Method::REFRESH, |writer| {
                if let Some(lifetime) = lifetime {
                    writer.u32(AttributeType::LIFETIME, lifetime);
                }
            }),
            What::Permit(_, peer) => self.client.sign(Method::CREATE_PERMISSION, |writer| {
                writer.xor_address(AttributeType::XOR_PEER_ADDRESS, peer);
            }),
            What::Bind(_, peer, number) => self.client.sign(Method::CHANNEL_BIND, |writer| {
                writer.u32(AttributeType::CHANNEL_NUMBER, u32::from(number) << 16);
                writer.xor_address(AttributeType::XOR_PEER_ADDRESS, peer);
            }),
        };
        self.out.push(bytes.clone());
        self.transactions.push(Transaction { what, bytes, sendings: 1, next: now + FIRST_TIMEOUT });
    }

    /// To everybody who can be reached, by channel where there is one.
    fn send(&mut self, now: Time, random: &mut Random) {
        for (party, contact) in &self.contacts {
            let Some(address) = contact.address.filter(|_| contact.is_known()) else { continue };
            let payload = Payload { from: Party::Caller(self.index), to: *party, address, sent: now };
            let data = payload.encode(random.below(50));
            match contact.channel {
                Some((number, bound)) if bound == address => self.out.push(channel_data(number, &data)),
                _ if contact.permitted.is_some_and(|permitted| permitted.ip() == address.ip()) => {
                    self.out.push(send_indication(address, &data));
                }
                _ => {}
            }
        }
    }

    /// A packet from the server.
    pub(crate) fn receive(&mut self, now: Time, bytes: &[u8]) {
        let answers = Kind::of(bytes) == Kind::Stun
            && Message::parse(bytes).is_ok_and(|message| matches!(message.class(), Class::Success | Class::Error));
        if answers {
            self.answer(now, &Reply { bytes: bytes.to_vec() });
        } else {
            self.hear(Received::read(bytes));
        }
    }

    fn hear(&mut self, received: Received) {
        let (source, data) = match received {
            Received::Channel { number, data } => {
                (*self.numbers.get(&number).expect("nothing comes on a channel that was not asked for"), data)
            }
            Received::Indication { peer, data } => (peer, data),
            Received::Icmp { .. } => panic!("nobody reported an ICMP error"),
        };
        let payload = Payload::decode(&data);
        assert_eq!(payload.to, Party::Caller(self.index), "what {:?} sent got to the wrong client", payload.from);
        assert!(
            self.addresses.contains(&payload.address),
            "sent to {}, which never was an address of caller {}",
            payload.address,
            self.index
        );
        let contact = self.contacts.get_mut(&payload.from).expect("only contacts write");
        let heard = self.heard.entry(payload.from).or_default();
        *heard = payload.sent.max(*heard);
        // A peer behind a translator is where it writes from.
        if let Party::Peer(_) = payload.from
            && contact.address.is_some_and(|known| known.ip() == source.ip() && known.port() != source.port())
        {
            contact.address = Some(source);
            contact.bind_at = 1;
        }
    }

    fn answer(&mut self, now: Time, reply: &Reply) {
        let id = reply.id().0;
        let Some(at) = self.transactions.iter().position(|transaction| transaction.bytes[8..20] == id) else {
            return self.note("late answer");
        };
        let what = self.transactions.remove(at).what;
        let code = reply.code();
        self.note(&code.to_string());
        if what != What::Binding && !matches!(code, 401 | 438) {
            assert!(reply.signature(&self.client.key).is_some(), "{code} to {what:?} is not signed");
        }
        match (code, what) {
            (200, _) => self.succeed(now, what, reply),
            (401 | 438, _) => {
                assert!(code == 438 || what == What::Allocate, "401 to {what:?} with the right password");
                self.client.nonce = reply.bytes_of(AttributeType::NONCE).expect("a nonce");
                self.begin(now, what);
            }
            (437, _) => self.restart(now, 0),
            (508, What::Allocate) => self.restart(now, 5 * SECOND),
            (403, What::Permit(party, _)) => self.refused(party, now + 20 * SECOND, Time::MAX),
            (403, What::Bind(party, ..)) => self.refused(party, Time::MAX, now + 20 * SECOND),
            (code, what) => panic!("{code} to {what:?}"),
        }
    }

    fn refused(&mut self, party: Party, permit_at: Time, bind_at: Time) {
        let contact = self.contacts.get_mut(&party).expect("a contact");
        contact.permit_at = contact.permit_at.min(permit_at);
        contact.bind_at = contact.bind_at.min(bind_at);
        (contact.permitted, contact.channel) = (None, None);
    }

    fn succeed(&mut self, now: Time, what: What, reply: &Reply) {
        match what {
            What::Binding => {
                // Another mapping: the server knows nobody there.
                if self.mapped.is_some_and(|mapped| mapped != reply.mapped()) {
                    self.note("new mapping");
                    self.restart(now, 0);
                }
            }
            What::Allocate => {
                self.relayed = Some(reply.relayed());
                self.addresses.push(reply.relayed());
                self.mapped = Some(reply.mapped());
                self.refresh_at = refresh_after(now, reply);
                self.keepalive_at = now + self.habits.keepalive_every;
                self.send_at = now + self.habits.sends_every;
            }
            What::Refresh(_) if self.hanging_up => self.gone = true,
            What::Refresh(_) => self.refresh_at = refresh_after(now, reply),
            What::Permit(party, address) => {
                let contact = self.contacts.get_mut(&party).expect("a contact");
                if contact.address.is_some_and(|known| known.ip() == address.ip()) {
                    contact.permitted = Some(address);
                }
            }
            What::Bind(party, address, number) => {
                let contact = self.contacts.get_mut(&party).expect("a contact");
                if contact.address == Some(address) {
                    contact.channel = Some((number, address));
                }
            }
        }
    }

    fn note(&mut self, what: &str) {
        *self.seen.entry(what.into()).or_default() += 1;
    }
}

/// A minute before the end.
fn refresh_after(now: Time, reply: &Reply) -> Time {
    now + Time::from(reply.lifetime().expect("a lifetime") - 60) * SECOND
}
