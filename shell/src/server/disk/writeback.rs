//! What was written into the page cache goes to the disk soon, and little of it at a time.
//!
//! A sync has to wait for all that is dirty in its file, and so has every commit that comes to the disk after it: one
//! of 64 MiB holds up acknowledgements for some 25 ms. What is on its way before costs them next to nothing.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::OnceLock;

/// How much of one file becomes dirty before it is sent to the disk, and about how much of it is on its way at a time, in
/// bytes. Large enough that the disk has its full speed.
pub(super) const BEHIND_BYTES: u64 = 1 << 20;

/// Waits until what was started before is written, and starts to write what else is dirty in a file. Makes nothing
/// durable.
///
/// # Errors
/// What went wrong with what was started before. The kernel tells a descriptor of it once: a sync that follows succeeds,
/// though pages that it stands for are lost.
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
    static IS_THERE: OnceLock<bool> = OnceLock::new();
    // Without flags it does nothing, where the system and its sandbox have it.
    if *IS_THERE.get_or_init(|| sync_file_range(file, 0).is_ok()) { sync_file_range(file, flags) } else { Ok(()) }
}

/// sync_file_range(2), of the whole file.
fn sync_file_range(file: &File, flags: libc::c_uint) -> io::Result<()> {
    loop {
        // SAFETY: the descriptor is open as long as `file` is borrowed, and no memory is handed over.
        #[expect(unsafe_code, reason = "rustix has no sync_file_range")]
        let result = unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, flags) };
        if result == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}
