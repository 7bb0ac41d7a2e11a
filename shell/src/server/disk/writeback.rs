//! What was written into the page cache goes to the disk soon, and little of it at a time.
//!
//! A sync has to wait for all that is dirty in its file, and so has every commit that comes to the disk after it: one
//! of 64 MiB holds up acknowledgements for some 25 ms. What is on its way before costs them next to nothing.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// How much of one file may become dirty before it is sent to the disk, in bytes; and how much of it is under way at a
/// time, but for what is written meanwhile. Large enough that the disk has its full speed, and sooner has no gain.
pub(super) const BEHIND_BYTES: u64 = 1 << 20;

/// Starts to write what is dirty in a file, and waits until what was started before is written. Makes nothing durable.
///
/// # Errors
/// What went wrong with what was started before; a sync of the same descriptor may not tell of it again.
pub(super) fn go_on(file: &File) -> io::Result<()> {
    send(file, libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE)
}

/// Starts to write what is dirty in a file. Makes nothing durable.
///
/// # Errors
/// What went wrong at once; what does later, a sync tells.
pub(super) fn start(file: &File) -> io::Result<()> {
    send(file, libc::SYNC_FILE_RANGE_WRITE)
}

fn send(file: &File, flags: libc::c_uint) -> io::Result<()> {
    loop {
        // SAFETY: the descriptor is open as long as `file` is borrowed, and no memory is handed over.
        #[expect(unsafe_code, reason = "rustix has no sync_file_range")]
        let result = unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, flags) };
        if result == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINTR) => {}
            // A file system or a sandbox without it: the sync has more to do then.
            Some(libc::ENOSYS | libc::EINVAL | libc::ESPIPE | libc::EOPNOTSUPP | libc::EPERM) => return Ok(()),
            _ => return Err(error),
        }
    }
}
