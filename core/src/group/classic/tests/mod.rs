//! Scenarios of classic groups, each a transcript: what is asked, and behind dashes what is answered and written.
//!
//! ```text
//! a joins                 JoinGroup as a client does it, with the id that the answer to the first one gives
//!   v3                    in this version; the newest otherwise
//!   named x               as the static member x
//!   anew                  without the id that it had
//!   with p,q              which protocols it supports; range otherwise
//!   type t                what they are about; consumer otherwise
//!   session 10s           after how long it is taken for dead; 10 s otherwise
//!   rebalance 60s         how long it may take to join; 60 s otherwise
//!   to t,u                the topics that it subscribes to
//! a asks                  the same, but one JoinGroup only
//! a syncs a=1 b=2         SyncGroup, from the leader with what members are assigned
//! a beats                 Heartbeat
//! a commits               OffsetCommit, as far as the group judges it
//!   generation 7          any of these in another generation than the one that the member knows
//! a leaves                LeaveGroup
//! remove x y              LeaveGroup from an operator, for static members
//! 3s pass                 time passes, and whatever is due happens at its time
//! a b@x have joined       a generation that a leads, with b named x, in which nobody has synced
//! a b@x are stable        the same one, and each is assigned its name in capitals
//! set max 2               a setting: max, delay, record
//! reload                  another node leads: the group is made anew of its records
//! describe                what DescribeGroups says, and what the members subscribe to
//! ```
//! A client is called by its `client.id`; its second member id is `a'`, its third `a''`.

mod faithful;
mod hostile;
mod joining;
mod leaving;
mod memory;
mod rebalancing;
mod script;
mod static_members;
mod syncing;

use self::script::play;
