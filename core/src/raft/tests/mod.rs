//! Claims about the quorum: in a small world full of faults, in single scenarios, and at its door.

mod bytes;
mod claims;
mod door;
mod scenarios;
mod world;
