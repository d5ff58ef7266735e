//! How many connections there may be: in all, and from one source. Shared by the workers, asked once a connection.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::net::quota::prefix;

/// Counts the connections that exist.
#[derive(Debug)]
pub(in crate::net) struct Census {
    total: u32,
    per_source: u32,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    total: u32,
    sources: HashMap<IpAddr, u32>,
}

/// One connection's place; given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    census: Arc<Census>,
    source: Option<IpAddr>,
}

impl Census {
    /// At most so many connections in all and from one source; 0 is no limit.
    pub(in crate::net) fn new(total: u32, per_source: u32) -> Census {
        Census { total, per_source, held: Mutex::default() }
    }

    /// A place, if there is one. Its source is not known yet.
    pub(super) fn enter(self: &Arc<Census>) -> Option<Place> {
        let mut held = self.held();
        if self.total != 0 && held.total >= self.total {
            return None;
        }
        held.total += 1;
        Some(Place { census: self.clone(), source: None })
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Counts the connection for its source. `false` when that has as many as it may have.
    pub(super) fn settle(&mut self, source: IpAddr) -> bool {
        let source = prefix(source);
        let mut held = self.census.held();
        let count = held.sources.get(&source).copied().unwrap_or(0);
        if self.source.is_some() || (self.census.per_source != 0 && count >= self.census.per_source) {
            return false;
        }
        held.sources.insert(source, count + 1);
        self.source = Some(source);
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.census.held();
        held.total = held.total.saturating_sub(1);
        if let Some(source) = self.source
            && let Some(count) = held.sources.get_mut(&source)
        {
            *count -= 1;
            if *count == 0 {
                held.sources.remove(&source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_limited_and_come_back() {
        let census = Arc::new(Census::new(3, 2));
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let mut places: Vec<Place> = (0..3).map(|_| census.enter().unwrap()).collect();
        assert!(census.enter().is_none());
        assert!(places[0].settle(ip("2001:db8::1")) && places[1].settle(ip("2001:db8::2")));
        assert!(!places[2].settle(ip("2001:db8::3")));
        places.remove(0);
        assert!(places[1].settle(ip("2001:db8::3")));
        places.clear();
        let held = census.held();
        assert!(held.total == 0 && held.sources.is_empty());
    }
}
