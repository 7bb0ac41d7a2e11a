//! Bytes in flight over all connections, bounded.
//!
//! A connection waits for its share only between requests, never in the middle of one: were it otherwise, many half
//! requests could hold the whole budget while none of them could be completed. So before reading it needs room for one
//! read, and before reading the body of a large request room for all of it. Large requests have a part of the budget
//! to themselves, so that small ones pass by while large ones queue. Within each part whoever asks first is first
//! served.
//!
//! Responses take at most half of the part for small requests, and no room beyond that is refused to them: who has more
//! is not read until they have been sent.
//!
//! This counts what clients make the broker hold: requests until they are answered, and responses until they are sent.
//! It reserves numbers, not memory: a request that is announced and never sent takes no memory.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::connection::READ_BYTES;

/// What a semaphore's permit stands for, in bytes. Coarse, since a semaphore counts in 32 bits.
const UNIT: usize = 1024;

/// The budget of one process.
#[derive(Debug)]
pub(super) struct Budget {
    small: Arc<Semaphore>,
    large: Arc<Semaphore>,
    units: usize,
    /// What responses leave of the part for small requests.
    spared: usize,
    /// What accounts hold beyond it, in units.
    overdraft: Arc<AtomicUsize>,
}

/// What one connection holds of the budget. Dropping it gives everything back.
#[derive(Default)]
pub(super) struct Account {
    small: Option<OwnedSemaphorePermit>,
    large: Option<OwnedSemaphorePermit>,
    overdraft: Option<Overdraft>,
    /// Set while more is held than there was room for: responses, which nobody could refuse. Nothing is read until they
    /// have been sent.
    is_overdrawn: bool,
    waiting: Option<Waiting>,
}

/// What an account holds that there was no room for, counted until it is dropped.
struct Overdraft {
    units: usize,
    total: Arc<AtomicUsize>,
}

impl Overdraft {
    fn new(units: usize, total: &Arc<AtomicUsize>) -> Overdraft {
        total.fetch_add(units, Ordering::Relaxed);
        Overdraft { units, total: total.clone() }
    }
}

impl Drop for Overdraft {
    fn drop(&mut self) {
        self.total.fetch_sub(self.units, Ordering::Relaxed);
    }
}

type Waiting = Pin<Box<dyn Future<Output = OwnedSemaphorePermit> + Send>>;

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = |part: &Option<OwnedSemaphorePermit>| part.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let Account { small, large, overdraft, is_overdrawn, waiting } = self;
        f.debug_struct("Account")
            .field("small", &units(small))
            .field("large", &units(large))
            .field("overdraft", &overdraft.as_ref().map_or(0, |overdraft| overdraft.units))
            .field("is_overdrawn", is_overdrawn)
            .field("is_waiting", &waiting.is_some())
            .finish()
    }
}

impl Budget {
    /// A budget of `bytes`, at least twice `request_bytes_max`: three quarters of it are for large requests.
    pub(super) fn new(bytes: usize, request_bytes_max: usize) -> Budget {
        let units = bytes.max(request_bytes_max.saturating_mul(2)).max(4 * READ_BYTES).div_ceil(UNIT);
        // Semaphores hold at most an eighth of the address space in permits, acquired by at most 2^32 at once.
        let units = units.min(u32::MAX as usize);
        let large = units / 4 * 3;
        Budget {
            small: Arc::new(Semaphore::new(units - large)),
            large: Arc::new(Semaphore::new(large)),
            units,
            spared: (units - large) / 2,
            overdraft: Arc::default(),
        }
    }

    /// The bytes held now by all connections; more than the budget has where answers were larger than what was left.
    pub(super) fn used(&self) -> usize {
        let free = self.small.available_permits() + self.large.available_permits();
        (self.units.saturating_sub(free) + self.overdraft.load(Ordering::Relaxed)) * UNIT
    }
}

impl Account {
    /// Ready, with room for one read, once the connection may begin on further requests. Worth another try after
    /// whatever is held has changed, and when `cx` is woken.
    pub(super) fn poll_read(&mut self, budget: &Budget, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_overdrawn {
            return Poll::Pending;
        }
        let permit = ready!(acquire(&mut self.waiting, &budget.small, READ_BYTES, cx));
        join(&mut self.small, permit);
        Poll::Ready(())
    }

    /// Ready, with room for a request of `bytes`, once the connection may read its body.
    pub(super) fn poll_large(&mut self, budget: &Budget, bytes: usize, cx: &mut Context<'_>) -> Poll<()> {
        let permit = ready!(acquire(&mut self.waiting, &budget.large, bytes, cx));
        join(&mut self.large, permit);
        Poll::Ready(())
    }

    /// Whether more is held than there was room for, so that nothing is read.
    pub(super) fn is_overdrawn(&self) -> bool {
        self.is_overdrawn
    }

    /// Gives back, or takes if there is room, so that so many bytes of requests and of responses are held.
    pub(super) fn settle(&mut self, budget: &Budget, requests: usize, responses: usize) {
        let units = (requests + responses).div_ceil(UNIT);
        let large = shrink(&mut self.large, units);
        let small = shrink(&mut self.small, units - large);
        let missing = units - large - small;
        self.is_overdrawn = false;
        self.overdraft = None;
        if missing > 0 {
            // Answers leave half of the part to those who ask: were it otherwise, few who do not read theirs would keep
            // everybody from being read.
            let spared = if responses > 0 { budget.spared } else { 0 };
            let has_room = budget.small.available_permits() >= missing + spared;
            let permit = has_room
                .then(|| budget.small.clone().try_acquire_many_owned(missing.try_into().unwrap_or(u32::MAX)).ok());
            match permit.flatten() {
                Some(permit) => join(&mut self.small, permit),
                None => {
                    self.overdraft = Some(Overdraft::new(missing, &budget.overdraft));
                    // Without responses nothing of this account may ever move again but what it waits to read.
                    self.is_overdrawn = responses > 0;
                }
            }
        }
    }
}

fn acquire(
    waiting: &mut Option<Waiting>,
    from: &Arc<Semaphore>,
    bytes: usize,
    cx: &mut Context<'_>,
) -> Poll<OwnedSemaphorePermit> {
    if waiting.is_none() {
        let units = bytes.div_ceil(UNIT).try_into().unwrap_or(u32::MAX);
        if let Ok(permit) = from.clone().try_acquire_many_owned(units) {
            return Poll::Ready(permit);
        }
        let from = from.clone();
        *waiting = Some(Box::pin(async move {
            from.acquire_many_owned(units).await.expect("the budget's semaphores are never closed")
        }));
    }
    let future = waiting.as_mut().expect("set above");
    let permit = ready!(future.as_mut().poll(cx));
    *waiting = None;
    Poll::Ready(permit)
}

fn join(held: &mut Option<OwnedSemaphorePermit>, more: OwnedSemaphorePermit) {
    match held {
        Some(held) => held.merge(more),
        None => *held = Some(more),
    }
}

/// Keeps at most `units`; returns how many are held.
fn shrink(held: &mut Option<OwnedSemaphorePermit>, units: usize) -> usize {
    let Some(permit) = held else { return 0 };
    let has = permit.num_permits();
    if has <= units {
        return has;
    }
    drop(permit.split(has - units));
    if units == 0 {
        *held = None;
    }
    units
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    const MIB: usize = 1 << 20;

    fn cx() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    #[test]
    fn what_is_settled_is_what_is_used_and_all_comes_back() {
        let budget = Budget::new(64 * MIB, MIB);
        let mut account = Account::default();
        assert!(account.poll_read(&budget, &mut cx()).is_ready());
        assert_eq!(budget.used(), READ_BYTES);
        account.settle(&budget, 300, 0);
        assert_eq!(budget.used(), UNIT);
        assert!(account.poll_large(&budget, MIB, &mut cx()).is_ready());
        account.settle(&budget, MIB, 300);
        assert_eq!(budget.used(), MIB + UNIT);
        drop(account);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn large_requests_queue_in_order_while_small_ones_pass() {
        let budget = Budget::new(8 * MIB, MIB);
        let mut accounts: Vec<Account> = (0..4).map(|_| Account::default()).collect();
        assert!(accounts[0].poll_large(&budget, 5 * MIB, &mut cx()).is_ready());
        assert!(accounts[1].poll_large(&budget, 3 * MIB, &mut cx()).is_pending());
        assert!(accounts[2].poll_large(&budget, MIB / 2, &mut cx()).is_pending(), "it would fit, but came later");
        assert!(accounts[3].poll_read(&budget, &mut cx()).is_ready());
        accounts[0].settle(&budget, 0, 0);
        assert!(accounts[1].poll_large(&budget, 3 * MIB, &mut cx()).is_ready());
        assert!(accounts[2].poll_large(&budget, MIB / 2, &mut cx()).is_ready());
    }

    #[test]
    fn answers_that_nobody_reads_leave_room_for_those_who_ask() {
        let budget = Budget::new(8 * MIB, MIB);
        let mut stalled: Vec<Account> = (0..100).map(|_| Account::default()).collect();
        for account in &mut stalled {
            account.settle(&budget, 0, 100 * UNIT);
        }
        assert_eq!(budget.used(), 100 * 100 * UNIT, "all of it counts");
        let mut others: Vec<Account> = (0..16).map(|_| Account::default()).collect();
        for account in &mut others {
            assert!(account.poll_read(&budget, &mut cx()).is_ready());
        }
        drop((stalled, others));
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn who_holds_more_than_there_is_reads_nothing_and_holds_up_nobody() {
        let budget = Budget::new(8 * MIB, MIB);
        let mut slow = Account::default();
        slow.settle(&budget, 0, 50 * MIB);
        assert!(slow.poll_read(&budget, &mut cx()).is_pending());
        assert_eq!(budget.used(), 50 * MIB);
        let mut other = Account::default();
        assert!(other.poll_read(&budget, &mut cx()).is_ready());
        slow.settle(&budget, 0, 40 * MIB);
        assert_eq!(budget.used(), 40 * MIB + READ_BYTES);
        slow.settle(&budget, 0, 0);
        assert!(slow.poll_read(&budget, &mut cx()).is_ready());
        slow.settle(&budget, 0, 50 * MIB);
        drop((slow, other));
        assert_eq!(budget.used(), 0);
    }
}
