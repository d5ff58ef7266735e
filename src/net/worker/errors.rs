//! ICMP errors that relayed packets met: from the error queues of relay sockets to their clients.

use super::{HOT, LISTENER, WAKE, Worker};
use crate::net::sys::receive_error;
use crate::relay::{IcmpError, Now, PeerAddr, RelayId};

/// Errors taken from a relay socket before the others have their turn.
const ERRORS: usize = 16;

impl Worker<'_> {
    /// Reads the error queue of a relay socket; to be called where epoll tells of an error, and never else.
    pub(super) fn receive_errors(&mut self, now: Now, token: u64) {
        let hot = token >= HOT;
        if token == WAKE || (!hot && token >= LISTENER) {
            return;
        }
        let id = RelayId(token as u32);
        for _ in 0..ERRORS {
            let Some((socket, _)) = self.core.relays.get_mut(id).and_then(|relay| relay.reader(hot)) else { return };
            let error = match receive_error(socket) {
                Ok(Some(error)) => error,
                Ok(None) => continue,
                Err(_) => {
                    // An error that found no room in the queue; asking for it clears it.
                    let _ = socket.take_error();
                    return;
                }
            };
            let relay = self.core.relays.get_mut(id);
            let peer = PeerAddr(relay.map_or(error.destination, |relay| relay.destination(error.destination)));
            let error = IcmpError { kind: error.kind, code: error.code, mtu: error.mtu };
            let action = self.core.relay.handle_icmp(now, id, peer, error, &mut self.core.outbox.bytes);
            if let Some(action) = self.core.divert(now.mono, action, &[]) {
                self.core.act_for_peer(id, action, 0);
            }
        }
    }
}
