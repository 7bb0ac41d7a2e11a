//! The thin shell around `chronik-core`: sockets, files, the command line.

pub mod cli;
pub mod cluster;
pub mod data_dir;
pub mod dump;
pub mod http;
pub mod logging;
pub mod server;
