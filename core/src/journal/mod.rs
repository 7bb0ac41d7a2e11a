//! The journal: the only file that an acknowledgement waits for.
