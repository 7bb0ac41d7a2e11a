//! Fuzz target bodies; plain `cargo test` runs them over the corpus.
