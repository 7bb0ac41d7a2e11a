//! Connections that were made and are not accepted yet.
//!
//! Whoever accepts is told an address only, and addresses come again: where a client ends a connection before it was
//! accepted, its next one may have the same address, and go to another machine, which is sooner. So connections are told
//! apart by the machine too, and those of one address to one machine by their order.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

/// By the machine that is to accept, and the address that they come from: what names the connection.
#[derive(Debug)]
pub(super) struct Arriving<T> {
    waiting: BTreeMap<(usize, SocketAddr), VecDeque<T>>,
}

impl<T> Arriving<T> {
    pub(super) fn new() -> Arriving<T> {
        Arriving { waiting: BTreeMap::new() }
    }

    /// A connection to the machine is made.
    pub(super) fn made(&mut self, machine: usize, from: SocketAddr, connection: T) {
        self.waiting.entry((machine, from)).or_default().push_back(connection);
    }

    /// The connection that the broker on the machine has accepted; `None` where its process is on its way out.
    pub(super) fn accepted(&mut self, machine: usize, from: SocketAddr) -> Option<T> {
        self.waiting.get_mut(&(machine, from))?.pop_front()
    }

    /// The process on the machine is gone, which accepts none of them any more.
    pub(super) fn forget(&mut self, machine: usize) {
        self.waiting.retain(|&(at, _), _| at != machine);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_from_one_address_are_told_apart() {
        let from = SocketAddr::from(([10, 1, 0, 4], 1));
        let mut arriving = Arriving::new();
        for (machine, connection) in [(0, "first"), (1, "to another machine"), (0, "second")] {
            arriving.made(machine, from, connection);
        }
        assert_eq!(arriving.accepted(1, from), Some("to another machine"), "it does not wait for the slower one");
        assert_eq!(arriving.accepted(1, from), None);
        assert_eq!(arriving.accepted(0, from), Some("first"));
        arriving.forget(0);
        arriving.made(0, from, "of the next process");
        assert_eq!(arriving.accepted(0, from), Some("of the next process"));
    }
}
