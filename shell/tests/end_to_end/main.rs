//! The real binary, over real sockets, judged by a second codec.
//!
//! Every test starts a broker of its own on a free loopback port and speaks to it through `kafka-protocol`, which
//! shares no code with ours. With `CHRONIK_TEST_BOOTSTRAP=host:port` the tests of the protocol run against that broker
//! instead: they hold for Apache Kafka too, and where the two differ, Kafka is right.

mod admin;
mod cluster;
mod compaction;
mod configs;
mod connections;
mod coordinators;
mod crash;
mod fetch;
mod golden;
mod groups;
mod moves;
mod operators;
mod process;
mod produce;
mod producers;
mod quorum;
mod rolling;
mod support;
mod versions;
