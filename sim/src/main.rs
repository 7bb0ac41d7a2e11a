//! `cargo sim`: see the crate's documentation.

fn main() {}
