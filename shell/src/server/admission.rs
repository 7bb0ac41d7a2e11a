//! How many connections there may be, in all and from one address.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Counts connections and refuses those above the limits.
#[derive(Debug)]
pub(super) struct Admission {
    /// What the machine has room for, whatever is allowed.
    bound: usize,
    open: Mutex<Open>,
    emptied: Notify,
}

#[derive(Debug, Default)]
struct Open {
    /// What was allowed, whether the machine has room for it or not.
    allowed: usize,
    max: usize,
    max_per_ip: usize,
    all: usize,
    by_ip: BTreeMap<IpAddr, usize>,
}

/// Why a connection is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// There are as many as is allowed in all.
    TooMany,
    /// There are as many as the machine has room for, fewer than is allowed.
    NoRoom,
    /// There are too many from this address.
    TooManyFromAddress,
}

/// One connection's place; dropping it gives it up.
#[derive(Debug)]
pub(super) struct Place {
    admission: Arc<Admission>,
    ip: IpAddr,
}

impl Admission {
    /// Room for `bound` connections, of which none is allowed yet.
    pub(super) fn new(bound: usize) -> Admission {
        Admission { bound, open: Mutex::default(), emptied: Notify::new() }
    }

    /// Allows this many connections from now on. Those that are open stay, even if they are more.
    pub(super) fn allow(&self, max: u32, max_per_ip: u32) {
        let mut open = self.open();
        open.allowed = max as usize;
        open.max = self.bound.min(open.allowed);
        open.max_per_ip = max_per_ip as usize;
    }

    /// A place for one more connection from `ip`.
    pub(super) fn admit(self: &Arc<Admission>, ip: IpAddr) -> Result<Place, Refusal> {
        // One client counts once, whether it came in by an IPv4 or by a mapped IPv6 address.
        let ip = ip.to_canonical();
        let mut open = self.open();
        if open.all >= open.max {
            return Err(if open.allowed > self.bound { Refusal::NoRoom } else { Refusal::TooMany });
        }
        let from_ip = open.by_ip.get(&ip).copied().unwrap_or(0);
        if from_ip >= open.max_per_ip {
            return Err(Refusal::TooManyFromAddress);
        }
        open.by_ip.insert(ip, from_ip + 1);
        open.all += 1;
        Ok(Place { admission: self.clone(), ip })
    }

    /// How many connections there are.
    pub(super) fn count(&self) -> usize {
        self.open().all
    }

    /// Resolves when there is no connection.
    pub(super) async fn is_empty(&self) {
        loop {
            // Asked for before looking, so that a connection that ends in between is not missed.
            let emptied = self.emptied.notified();
            if self.count() == 0 {
                return;
            }
            emptied.await;
        }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.admission.open();
        open.all -= 1;
        if let Some(from_ip) = open.by_ip.get_mut(&self.ip) {
            *from_ip -= 1;
            if *from_ip == 0 {
                open.by_ip.remove(&self.ip);
            }
        }
        if open.all == 0 {
            self.admission.emptied.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted_in_all_and_by_address() {
        let admission = Arc::new(Admission::new(3));
        admission.allow(100, 2);
        let [a, b]: [IpAddr; 2] = ["10.0.0.1", "10.0.0.2"].map(|ip| ip.parse().expect("an address"));
        let mapped: IpAddr = "::ffff:10.0.0.1".parse().expect("an address");
        let first = admission.admit(a).expect("there is room");
        let second = admission.admit(mapped).expect("there is room");
        assert_eq!(admission.admit(a).err(), Some(Refusal::TooManyFromAddress));
        let third = admission.admit(b).expect("there is room");
        assert_eq!(admission.admit(b).err(), Some(Refusal::NoRoom), "100 are allowed");
        admission.allow(3, 2);
        assert_eq!(admission.admit(b).err(), Some(Refusal::TooMany));
        drop(first);
        drop(third);
        assert!(admission.admit(a).is_ok());
        drop(second);
        assert_eq!(admission.count(), 0);
        assert!(admission.open().by_ip.is_empty());
    }

    #[test]
    fn who_is_there_stays_when_fewer_are_allowed() {
        let admission = Arc::new(Admission::new(10));
        let ip: IpAddr = "10.0.0.1".parse().expect("an address");
        assert_eq!(admission.admit(ip).err(), Some(Refusal::TooMany), "none is allowed yet");
        admission.allow(3, 3);
        let places = [(); 3].map(|()| admission.admit(ip).expect("there is room"));
        admission.allow(2, 3);
        assert_eq!(admission.count(), 3);
        let [first, second, _third] = places;
        drop(first);
        assert_eq!(admission.admit(ip).err(), Some(Refusal::TooMany));
        drop(second);
        assert!(admission.admit(ip).is_ok());
    }
}
