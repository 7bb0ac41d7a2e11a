//! Whom a client with connections to several brokers asks, and when it steps.

use std::time::Duration;

use chronik_core::time::{Instant, Timestamp};

use crate::client::caller::Caller;
use crate::client::{ClientNow, Happened, Link, Wanted};
use crate::testing::cluster_plan;

#[test]
fn a_broker_is_not_dialled_while_another_one_greets() {
    let mut caller = Caller::new(&cluster_plan(3), "test", Duration::from_secs(1), 0);
    let mut now = ClientNow { instant: Instant(0), wall: Timestamp(0) };
    let mut wanted = Vec::new();
    for node in [1, 2] {
        assert!(!caller.is_free(now, Some(node), &mut wanted));
    }
    assert_eq!(wanted, [Wanted::Connect(Link(0), 1), Wanted::Connect(Link(1), 2)]);
    caller.take(now, Happened::Refused(Link(1)), &mut wanted);
    caller.take(now, Happened::Connected(Link(0)), &mut wanted);
    // It is time to dial the second broker again, and the first one has not answered.
    now.instant = Instant(0) + Duration::from_millis(900);
    wanted.clear();
    assert_eq!(caller.take(now, Happened::Timer, &mut wanted).map(|_| ()), None);
    assert!(!caller.is_free(now, Some(2), &mut wanted));
    caller.rest(now, true, None, &mut wanted);
    // When the greeting is given up, and not at once: it would be stepped for ever, and time stands meanwhile.
    assert_eq!(wanted, [Wanted::WakeAt(Instant(0) + Duration::from_secs(1))]);
}
