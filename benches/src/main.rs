//! A load generator for Kafka brokers.

fn main() {}
