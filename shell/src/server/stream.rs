//! The port to the network: a stream of bytes.

use tokio::io::{AsyncRead, AsyncWrite};

/// One connection's bytes: read, vectored write and flush, and nothing that only a TCP socket has, so that a simulator
/// can stand in for it or wrap it with faults. What was written counts as sent only after a flush.
pub trait ByteStream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> ByteStream for T {}
