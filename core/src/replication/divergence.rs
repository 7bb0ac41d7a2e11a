//! Where two histories part (KIP-101, KIP-279).
//!
//! A leader epoch has one leader, which writes each offset once, and logs grow only behind what they share. So two logs
//! that have the same epoch at one offset are the same up to there, and it is enough to find the last such offset. The
//! follower's list, both ends and the leader's list are in one hand here, so one exchange finds it, whatever number of
//! elections either has missed (KAFKA-6361, KAFKA-7164).
//!
//! Compaction takes epochs away: of one that lost all its batches on the leader, a follower that caught up since has
//! never heard, and when it leads, its list says of these offsets that an older epoch has them. By the lists alone,
//! whoever still has that epoch would be cut below what all were known to hold, and would refuse, each time anew. But
//! below the high watermark all logs are one history, whatever is left of it where. So two logs agree at least as far
//! as the follower has heard of it.

use super::Ends;
use crate::ids::{LeaderEpoch, Offset};
use crate::peer::{EPOCHS_MAX, Epochs};

type Entry = (LeaderEpoch, Offset);

/// What is to become of a follower's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agreement {
    /// Both are the same below; it is to end there.
    Cut(Offset),
    /// Nothing of it is of use; it is to be empty and start there.
    StartAnew(Offset),
    /// The epochs told do not say. Those that begin below must be asked for.
    Older(Offset),
}

/// The offset after the last one at which both logs have the same epoch; `None` where there is none.
///
/// Entries are epochs with their starts, oldest first, both rising; ends are the offsets after the last records. An epoch
/// without records, as a leader without time to write leaves it, shares no offset with anything (KAFKA-7415,
/// KAFKA-10706).
pub fn common_end(ours: &[Entry], our_end: Offset, theirs: &[Entry], their_end: Offset) -> Option<Offset> {
    let (mut ours, mut our_end) = (ours, our_end);
    let (mut theirs, mut their_end) = (theirs, their_end);
    loop {
        let (&(our_epoch, our_start), our_rest) = ours.split_last()?;
        let (&(their_epoch, their_start), their_rest) = theirs.split_last()?;
        if our_epoch == their_epoch {
            let end = our_end.min(their_end);
            if our_start.max(their_start) < end {
                return Some(end);
            }
        }
        if our_epoch >= their_epoch {
            (ours, our_end) = (our_rest, our_start);
        }
        if their_epoch >= our_epoch {
            (theirs, their_end) = (their_rest, their_start);
        }
    }
}

/// The newest epochs of those that begin below an offset, as a follower tells them.
pub fn newest_epochs(epochs: &[Entry], below: Offset) -> &[Entry] {
    let asked = &epochs[..epochs.partition_point(|&(_, start)| start < below)];
    &asked[asked.len().saturating_sub(EPOCHS_MAX)..]
}

/// Judges what a follower told of its log, when it was asked for epochs that begin below `below`.
pub fn agree(ours: &[Entry], log: Ends, told: &Epochs, below: Offset) -> Agreement {
    let rises = |pair: &[Entry]| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1;
    let is_sound = Offset(0) <= told.start
        && told.start <= told.end
        && told.epochs.len() <= EPOCHS_MAX
        && told.epochs.windows(2).all(rises);
    if !is_sound {
        return Agreement::StartAnew(log.start);
    }
    // What the whole set holds, both do: of that, what both still have.
    let held = told.high_watermark.min(told.end).min(log.end);
    let held = Some(held).filter(|held| *held >= told.start.max(log.start));
    if let Some(end) = common_end(ours, log.end, &told.epochs, told.end.min(below)) {
        // What it shares with us may be below all that we still have.
        let end = held.map_or(end, |held| end.max(held));
        return if end < log.start { Agreement::StartAnew(log.start) } else { Agreement::Cut(end) };
    }
    match (told.epochs.first(), held) {
        // Each exchange is about older epochs than the one before, or the last. Below our start there is nothing to share,
        // and below what all hold nothing to find out.
        (Some(&(_, oldest)), _) if told.start.max(log.start).max(told.high_watermark) < oldest && oldest < below => {
            Agreement::Older(oldest)
        }
        (_, Some(held)) => Agreement::Cut(held),
        // No offset is shared. What is empty where it starts is the beginning of every log that has that offset.
        _ if log.start <= told.start && told.start <= log.end => Agreement::Cut(told.start),
        _ => Agreement::StartAnew(log.start),
    }
}
