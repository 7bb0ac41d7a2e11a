//! Replication as decisions: what a partition's leader says to whom, what it may believe, and what a follower takes.
//!
//! Everything here is over offsets and epochs. There is no log, no disk and no connection: the node reads and writes the
//! log, gathers what it is told to say into one [message](crate::peer) for each peer, and hands in what came back. The
//! design, and the losses that its rules prevent, are in `docs/decisions/0008-a-cluster.md`.
//!
//! ```text
//!  leader's view of a follower (progress.rs)         follower (follower.rs)
//!
//!  Apart ◄──────────── disconnected                  Waiting ◄─── new leader epoch, mismatch, interruption
//!    │ connected, asked                                 │ greeted in the epoch that it knows
//!    ▼                                                  ▼
//!  Greeting ──────────── Greet ────────────────────► Agreeing
//!    │ ◄──────────────── Epochs ───────────────────     │        again, where 64 epochs are not enough
//!    ▼                                                  ▼
//!  Cutting ───────────── Cut ──────────────────────► Cutting
//!    │ ◄──────────────── CutDone ──────────────────     │        once it is durable
//!    ▼                                                  ▼
//!  Streaming ─────────── Append ───────────────────► Following
//!      ◄──────────────── Acked, Mismatch ──────────
//! ```
//!
//! Every arrow back to the top begins a new session; what belongs to an older one is ignored. A connection between two
//! processes delivers in order or ends, and one that is taken over by a newer one is not read any more, so within a
//! session nothing is lost, doubled or overtaken. There is no timer for what might have been lost: whoever of the two
//! learns last that they are leader and follower speaks, and a new connection, whichever way, begins anew.
//!
//! **Cost.** An appended batch costs a constant for each follower, an acknowledgement a constant and a minimum over the
//! set. A partition is queued at a peer at most once for each lane, so a turn costs what has changed, never a walk over
//! all partitions.
//!
//! | file | what it is |
//! |---|---|
//! | `divergence` | where two histories part |
//! | `peers` | whose turn it is to be sent to which peer, and how many bytes may be on their way there |
//! | `in_sync` | the in-sync set: as committed, and as proposed |
//! | `progress` | a follower, as its leader knows it |
//! | `leader` | a partition that is led here |
//! | `follower` | a partition that is followed here |
//! | `throttle` | a bound on bytes a second, for replicas that are made anew |

mod divergence;
mod follower;
mod in_sync;
mod leader;
mod peers;
mod progress;
#[cfg(test)]
mod tests;
mod throttle;

use std::time::Duration;

use crate::ids::{LeaderEpoch, NodeId, Offset, PartitionEpoch};
use crate::peer::Replica;

pub use divergence::{Agreement, agree, common_end, newest_epochs};
pub use follower::{CutDecision, Follower, Leadership, Said, Taken};
pub use leader::{Behind, Facts, Leader, Next};
pub use peers::{Lane, Peers};
pub use throttle::Throttle;

/// What replication obeys.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Who was not caught up at any moment for so long leaves the in-sync set: `replica.lag.time.max.ms`.
    pub lag_time_max: Duration,
    /// Who lacks more entries than this, without a break for that whole time, leaves too; none where entries do not count.
    pub lag_entries_max: Option<u64>,
    /// Bytes of one partition that may be on their way to one follower. One batch may exceed it alone.
    pub partition_credit: usize,
    /// Bytes that one message takes of one partition at most, unless one batch is larger.
    pub read_bytes_max: usize,
    /// How long a follower may be left without a newer high watermark or log start when there are no batches to carry it.
    pub news_within: Duration,
    /// How long to wait before trying again what was refused.
    pub backoff: Duration,
    /// After how long a proposal without an answer, or whose answer the metadata do not bear out yet, is sent again.
    pub proposal_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            lag_time_max: Duration::from_secs(10),
            // What is in flight at a million records a second are more entries than anybody would call a lag.
            lag_entries_max: None,
            // What a follower's disk takes in a few milliseconds, so that its commits are full while acks travel.
            partition_credit: 4 << 20,
            read_bytes_max: 1 << 20,
            // Consumers that read at a follower see records so much later, and an idle partition costs one message.
            news_within: Duration::from_millis(10),
            backoff: Duration::from_millis(200),
            proposal_timeout: Duration::from_secs(2),
        }
    }
}

/// How far a log has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// Its first offset, durably.
    pub start: Offset,
    /// Everything below is durable.
    pub durable: Offset,
    /// The offset that the next record will get.
    pub end: Offset,
    /// Whether it has been cut, or emptied, and that is not durable yet.
    pub is_cutting: bool,
}

/// A broker that holds a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Which broker, and which process of it is registered.
    pub replica: Replica,
    /// Whether it may join an in-sync set: it is neither fenced nor about to stop (KIP-841).
    pub may_join: bool,
}

/// A partition's state as the metadata have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The number of its leadership.
    pub leader_epoch: LeaderEpoch,
    /// The number of this state.
    pub partition_epoch: PartitionEpoch,
    /// Who holds it, the leader included.
    pub replicas: Vec<Member>,
    /// Those of them that are in sync, the leader included.
    pub in_sync: Vec<NodeId>,
}
