//! The `chronik-server` binary.

fn main() {}
