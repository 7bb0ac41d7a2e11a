//! Where brokers spend their time while they are measured: a recording by perf(1).

use crate::failure::Failure;
use std::io::{self, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A second has this many samples: a prime number, so that they do not fall in step with what happens at even intervals.
const SAMPLES_PER_SECOND: &str = "997";
const INSTALL: &str =
    "cannot run perf; install it (Debian: linux-perf; Ubuntu: linux-tools-generic; Fedora, Arch: perf)";

/// A recording that is being made.
pub(crate) struct Recording {
    perf: Child,
}

impl Recording {
    /// Records these processes, all of their threads, for so long.
    pub(crate) fn begin(file: &Path, pids: &[u32], duration: Duration) -> Result<Recording, Failure> {
        let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
        let perf = Command::new("perf")
            .args(["record", "--quiet", "--call-graph", "fp", "--freq", SAMPLES_PER_SECOND])
            .args(["--pid", &pids.join(",")])
            .arg("--output")
            .arg(file)
            // It ends with this command.
            .args(["--", "sleep", &duration.as_secs_f64().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|why| Failure::Local { what: INSTALL.to_owned(), why })?;
        Ok(Recording { perf })
    }

    /// Waits until it is written.
    pub(crate) fn finish(mut self) -> Result<(), Failure> {
        let failed = |why| Failure::Local { what: "perf cannot record".to_owned(), why };
        let mut said = String::new();
        if let Some(mut errors) = self.perf.stderr.take() {
            errors.read_to_string(&mut said).map_err(failed)?;
        }
        let status = self.perf.wait().map_err(failed)?;
        if status.success() { Ok(()) } else { Err(failed(io::Error::other(said))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_is_not_there_is_told() {
        let file = std::env::temp_dir().join(format!("chronik-bench-{}.perf", std::process::id()));
        let recording = Recording::begin(&file, &[u32::MAX], Duration::from_millis(1));
        // On a machine without perf the remedy is told instead.
        let told = recording.and_then(Recording::finish).expect_err("there is no such process").to_string();
        let _ = std::fs::remove_file(&file);
        assert!(told.contains("perf"), "{told}");
    }
}
