//! What waits to be written to one client: media up to a limit in bytes and time, the oldest dropped first; control
//! replies are never dropped in favour of media.

use std::collections::VecDeque;
use std::time::Duration;

use crate::relay::Mono;

/// A buffer that has grown beyond this is given back to the system as soon as it is empty.
const KEPT: usize = 64 * 1024;

/// What a message costs beside its bytes.
const ITEM: usize = size_of::<Item>();

/// How much may wait for one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::net) struct QueueLimits {
    /// Bytes, of media and replies together, with what it takes to tell messages apart. Memory is at most
    /// two and a half times that, as buffers grow by doubling.
    pub(in crate::net) bytes: usize,
    /// Media that has waited longer is of no use to a call.
    pub(in crate::net) delay: Duration,
}

/// Messages in order, in one piece.
#[derive(Debug, Default)]
pub(super) struct Queue {
    bytes: Vec<u8>,
    /// What stands before is written.
    start: usize,
    items: VecDeque<Item>,
    /// Messages dropped, and not reported yet.
    dropped: u64,
}

#[derive(Clone, Copy, Debug)]
struct Item {
    /// Bytes that are not written yet.
    length: usize,
    /// When media was queued; replies have no age.
    media: Option<Mono>,
    /// The beginning is written, so the rest has to follow.
    begun: bool,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    /// Bytes that wait.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// What that costs.
    fn weight(&self) -> usize {
        self.len() + self.items.len() * ITEM
    }

    /// What can be written.
    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    /// Messages dropped since it was last asked.
    pub(super) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// Queues relayed data; what is too much drops the oldest.
    pub(super) fn media(&mut self, now: Mono, parts: [&[u8]; 3], limits: QueueLimits) {
        let length = parts.iter().map(|part| part.len()).sum();
        let more = length + ITEM;
        if self.weight() + more > limits.bytes {
            // Down to half at once, so that a client that is always behind does not cost a pass per packet.
            self.shed(|item, left| left + more > limits.bytes / 2 || is_late(item, now, limits.delay));
        }
        if self.weight() + more > limits.bytes {
            self.dropped += 1;
            return;
        }
        self.push(parts, Item { length, media: Some(now), begun: false }, limits);
    }

    /// Queues a reply. `false` when there is no room although all media was dropped: the client does not read.
    pub(super) fn reply(&mut self, bytes: &[u8], limits: QueueLimits) -> bool {
        let more = bytes.len() + ITEM;
        if self.weight() + more > limits.bytes {
            self.shed(|_, left| left + more > limits.bytes / 2);
        }
        if self.weight() + more > limits.bytes {
            return false;
        }
        self.push([bytes, &[], &[]], Item { length: bytes.len(), media: None, begun: false }, limits);
        true
    }

    /// Drops media that has waited too long.
    pub(super) fn drop_late(&mut self, now: Mono, limits: QueueLimits) {
        if self
            .items
            .iter()
            .find(|item| item.media.is_some() && !item.begun)
            .is_some_and(|item| is_late(item, now, limits.delay))
        {
            self.shed(|item, _| is_late(item, now, limits.delay));
        }
    }

    /// So many bytes are written.
    pub(super) fn written(&mut self, count: usize) {
        self.start += count;
        let mut left = count;
        while let Some(front) = self.items.front_mut() {
            if front.length > left {
                front.begun |= left > 0;
                front.length -= left;
                break;
            }
            left -= front.length;
            self.items.pop_front();
        }
        if self.is_empty() {
            self.start = 0;
            self.bytes.clear();
            if self.bytes.capacity() > KEPT {
                self.bytes = Vec::new();
                self.items = VecDeque::new();
            }
        }
    }

    /// An empty buffer to lend to others, or none when something waits.
    pub(super) fn lend(&mut self) -> Option<Vec<u8>> {
        (self.is_empty() && self.bytes.capacity() > 0).then(|| std::mem::take(&mut self.bytes))
    }

    /// Takes a lent buffer where there is none.
    pub(super) fn borrow(&mut self, buffer: impl FnOnce() -> Option<Vec<u8>>) {
        if self.bytes.capacity() == 0
            && let Some(buffer) = buffer()
        {
            self.bytes = buffer;
        }
    }

    fn push(&mut self, parts: [&[u8]; 3], item: Item, limits: QueueLimits) {
        if self.bytes.len() + item.length > self.bytes.capacity() {
            self.grow(item.length, limits);
        }
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        self.items.push_back(item);
    }

    /// Makes room for so many more bytes. A client that is always a little behind never empties its queue: what it has
    /// got already goes before all this is half as much again as may wait.
    fn grow(&mut self, more: usize, limits: QueueLimits) {
        let most = (limits.bytes + limits.bytes / 2).saturating_sub(self.items.len() * ITEM);
        if self.bytes.len() + more > most {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        let needed = self.bytes.len() + more;
        let wanted = (self.bytes.capacity() * 2).min(most).max(needed);
        self.bytes.reserve_exact(wanted - self.bytes.len());
    }

    /// Drops media, the oldest first, as long as `drop` says so; it is told what would be left.
    fn shed(&mut self, drop: impl Fn(&Item, usize) -> bool) {
        let mut left = self.weight();
        let (mut from, mut to) = (self.start, self.start);
        let bytes = &mut self.bytes;
        let before = self.items.len();
        self.items.retain(|item| {
            let range = from..from + item.length;
            from = range.end;
            if item.media.is_some() && !item.begun && drop(item, left) {
                left -= item.length + ITEM;
                return false;
            }
            bytes.copy_within(range, to);
            to += item.length;
            true
        });
        bytes.truncate(to);
        self.dropped += (before - self.items.len()) as u64;
    }
}

fn is_late(item: &Item, now: Mono, delay: Duration) -> bool {
    item.media.is_some_and(|queued| now.since(queued) > delay)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: QueueLimits = QueueLimits { bytes: 1000, delay: Duration::from_secs(1) };

    /// A message that weighs so much in all.
    fn of(byte: u8, weight: usize) -> Vec<u8> {
        vec![byte; weight - ITEM]
    }

    fn media(queue: &mut Queue, now: Mono, byte: u8, weight: usize) {
        let message = of(byte, weight);
        queue.media(now, [&message[..1], &message[1..], &[]], LIMITS);
    }

    fn reply(queue: &mut Queue, weight: usize) -> bool {
        queue.reply(&of(b'r', weight), LIMITS)
    }

    #[test]
    fn the_oldest_media_goes_first_and_replies_stay() {
        let mut queue = Queue::default();
        let now = Mono(0);
        media(&mut queue, now, b'a', 300);
        assert!(reply(&mut queue, 100));
        media(&mut queue, now, b'b', 300);
        media(&mut queue, now, b'c', 300);
        assert_eq!((queue.weight(), queue.take_dropped()), (1000, 0));
        media(&mut queue, now, b'd', 100);
        assert_eq!(queue.bytes(), [of(b'r', 100), of(b'c', 300), of(b'd', 100)].concat());
        assert_eq!(queue.take_dropped(), 2);
    }

    #[test]
    fn a_message_that_is_begun_is_finished() {
        let mut queue = Queue::default();
        let now = Mono(0);
        media(&mut queue, now, b'a', 600);
        queue.written(100);
        media(&mut queue, now, b'b', 400);
        media(&mut queue, now, b'c', 400);
        assert_eq!(queue.bytes(), [of(b'a', 500), of(b'c', 400)].concat());
        queue.written(of(b'a', 500).len());
        queue.written(of(b'c', 400).len());
        assert!(queue.is_empty() && queue.items.is_empty());
    }

    #[test]
    fn a_client_that_reads_no_replies_is_told_apart() {
        let mut queue = Queue::default();
        media(&mut queue, Mono(0), b'a', 600);
        assert!(reply(&mut queue, 600));
        assert_eq!((queue.weight(), queue.take_dropped()), (600, 1));
        assert!(!reply(&mut queue, 600));
        assert_eq!(queue.weight(), 600);
        media(&mut queue, Mono(0), b'b', 500);
        assert_eq!((queue.weight(), queue.take_dropped()), (600, 1));
    }

    #[test]
    fn media_gets_too_old() {
        let mut queue = Queue::default();
        let later = |milliseconds| Mono(0).after(Duration::from_millis(milliseconds));
        media(&mut queue, later(0), b'a', 100);
        assert!(queue.reply(b"r", LIMITS));
        media(&mut queue, later(900), b'b', 100);
        let before = queue.len();
        queue.drop_late(later(1000), LIMITS);
        assert_eq!(queue.len(), before);
        queue.drop_late(later(1001), LIMITS);
        assert_eq!(queue.bytes(), [b"r".to_vec(), of(b'b', 100)].concat());
        assert_eq!(queue.take_dropped(), 1);
    }

    /// Whoever is always a little behind, or is sent nothing but empty messages, costs little more than the limit says.
    #[test]
    fn memory_stays_near_the_limit() {
        let limits = QueueLimits { bytes: 256 * 1024, ..LIMITS };
        for length in [0, 1, 1200, 60_000] {
            let (mut queue, message) = (Queue::default(), vec![0; length]);
            for turn in 0..100_000_usize {
                queue.media(Mono(0), [&[0; 4], &message, &[]], limits);
                queue.written(queue.len().min(if turn < 50_000 { 0 } else { length + 4 }));
                let memory = queue.bytes.capacity() + queue.items.capacity() * ITEM;
                assert!(memory <= 5 * limits.bytes / 2, "{memory} bytes after {turn} messages of {length}");
            }
            assert!(!queue.is_empty());
        }
    }
}
