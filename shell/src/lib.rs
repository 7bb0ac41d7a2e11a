//! The thin shell around `chronik-core`: sockets, files, the command line.
