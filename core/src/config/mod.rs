//! Kafka's configuration names: which are obeyed, their types, ranges and defaults.
