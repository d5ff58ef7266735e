//! What waits to be written to one client: media up to a limit in bytes and time, the oldest dropped first; control
//! replies are never dropped in favour of media.

use std::collections::VecDeque;
use std::time::Duration;

use crate::relay::Mono;

/// A buffer that has grown beyond this is given back to the system as soon as it is empty.
const KEPT: usize = 64 * 1024;

/// How much may wait for one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::net) struct QueueLimits {
    /// Bytes, of media and replies together.
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
        if self.len() + length > limits.bytes {
            // Down to half at once, so that a client that is always behind does not cost a pass per packet.
            self.shed(|item, left| left + length > limits.bytes / 2 || is_late(item, now, limits.delay));
        }
        if self.len() + length > limits.bytes {
            self.dropped += 1;
            return;
        }
        self.push(parts, Item { length, media: Some(now), begun: false });
    }

    /// Queues a reply. `false` when there is no room although all media was dropped: the client does not read.
    pub(super) fn reply(&mut self, bytes: &[u8], limits: QueueLimits) -> bool {
        if self.len() + bytes.len() > limits.bytes {
            self.shed(|_, left| left + bytes.len() > limits.bytes / 2);
        }
        if self.len() + bytes.len() > limits.bytes {
            return false;
        }
        self.push([bytes, &[], &[]], Item { length: bytes.len(), media: None, begun: false });
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

    fn push(&mut self, parts: [&[u8]; 3], item: Item) {
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        self.items.push_back(item);
    }

    /// Drops media, the oldest first, as long as `drop` says so; it is told how many bytes would be left.
    fn shed(&mut self, drop: impl Fn(&Item, usize) -> bool) {
        let mut left = self.len();
        let (mut from, mut to) = (self.start, self.start);
        let bytes = &mut self.bytes;
        let before = self.items.len();
        self.items.retain(|item| {
            let range = from..from + item.length;
            from = range.end;
            if item.media.is_some() && !item.begun && drop(item, left) {
                left -= item.length;
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

    const LIMITS: QueueLimits = QueueLimits { bytes: 100, delay: Duration::from_secs(1) };

    fn media(queue: &mut Queue, now: Mono, byte: u8, length: usize) {
        queue.media(now, [&[byte], &vec![byte; length - 1], &[]], LIMITS);
    }

    #[test]
    fn the_oldest_media_goes_first_and_replies_stay() {
        let mut queue = Queue::default();
        let now = Mono(0);
        media(&mut queue, now, b'a', 30);
        assert!(queue.reply(&[b'r'; 10], LIMITS));
        media(&mut queue, now, b'b', 30);
        media(&mut queue, now, b'c', 30);
        assert_eq!((queue.len(), queue.take_dropped()), (100, 0));
        media(&mut queue, now, b'd', 10);
        assert_eq!(queue.bytes(), [&[b'r'; 10][..], &[b'c'; 30], &[b'd'; 10]].concat());
        assert_eq!(queue.take_dropped(), 2);
    }

    #[test]
    fn a_message_that_is_begun_is_finished() {
        let mut queue = Queue::default();
        let now = Mono(0);
        media(&mut queue, now, b'a', 60);
        queue.written(10);
        media(&mut queue, now, b'b', 40);
        media(&mut queue, now, b'c', 40);
        assert_eq!(queue.bytes(), [&[b'a'; 50][..], &[b'c'; 40]].concat());
        queue.written(50);
        queue.written(40);
        assert!(queue.is_empty() && queue.items.is_empty());
    }

    #[test]
    fn a_client_that_reads_no_replies_is_told_apart() {
        let mut queue = Queue::default();
        media(&mut queue, Mono(0), b'a', 60);
        assert!(queue.reply(&[b'r'; 60], LIMITS));
        assert_eq!((queue.len(), queue.take_dropped()), (60, 1));
        assert!(!queue.reply(&[b'r'; 60], LIMITS));
        assert_eq!(queue.len(), 60);
        media(&mut queue, Mono(0), b'b', 50);
        assert_eq!((queue.len(), queue.take_dropped()), (60, 1));
    }

    #[test]
    fn media_gets_too_old() {
        let mut queue = Queue::default();
        let later = |milliseconds| Mono(0).after(Duration::from_millis(milliseconds));
        media(&mut queue, later(0), b'a', 10);
        assert!(queue.reply(b"r", LIMITS));
        media(&mut queue, later(900), b'b', 10);
        queue.drop_late(later(1000), LIMITS);
        assert_eq!(queue.len(), 21);
        queue.drop_late(later(1001), LIMITS);
        assert_eq!(queue.bytes(), b"rbbbbbbbbbb");
        assert_eq!(queue.take_dropped(), 1);
    }
}
