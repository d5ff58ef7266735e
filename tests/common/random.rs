//! A small generator whose numbers a test can have again (xorshift64*).

#![allow(dead_code, reason = "each binary uses its part")]

use std::ops::Range;

#[derive(Clone)]
pub(crate) struct Random(u64);

impl Random {
    /// The numbers of a seed; those of neighbouring seeds have nothing in common.
    pub(crate) fn new(seed: u64) -> Random {
        let mut random = Random((seed ^ 0x7ea5_0f7e_a50f_7ea5).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        (0..4).for_each(|_| _ = random.next());
        random
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap() % bound
    }

    pub(crate) fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + (self.next() >> 16) % (range.end - range.start)
    }

    /// True in so many of a thousand cases.
    pub(crate) fn permille(&mut self, chance: u64) -> bool {
        self.within(0..1000) < chance
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.next().to_be_bytes()[0]
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.byte()).collect()
    }
}
