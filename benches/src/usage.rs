//! CPU and memory of this process and of the broker's, as the kernel counts them.

use crate::failure::Failure;
use std::fs;
use std::io;
use std::time::Duration;

/// CPU time that this process has used, all threads together.
pub(crate) fn own_cpu() -> Duration {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(used.tv_sec as u64, used.tv_nsec as u32)
}

/// What a process has used, or several together, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ProcessUsage {
    /// User and system time together; the kernel tells it in steps of 10 ms.
    pub(crate) cpu: Duration,
    pub(crate) resident_bytes: u64,
    pub(crate) resident_bytes_max: u64,
}

impl ProcessUsage {
    /// What these have used in all; none where there are none.
    pub(crate) fn of_all(pids: &[u32]) -> Result<Option<ProcessUsage>, Failure> {
        let mut all = None;
        for &pid in pids {
            let one = ProcessUsage::of(pid)?;
            let sum: &mut ProcessUsage = all.get_or_insert_default();
            sum.cpu += one.cpu;
            sum.resident_bytes += one.resident_bytes;
            sum.resident_bytes_max += one.resident_bytes_max;
        }
        Ok(all)
    }

    pub(crate) fn of(pid: u32) -> Result<ProcessUsage, Failure> {
        let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}"));
        let missing = |why: io::Error| Failure::Local { what: format!("cannot watch process {pid}"), why };
        let stat = read("stat").map_err(missing)?;
        let status = read("status").map_err(missing)?;
        ProcessUsage::parse(&stat, &status, rustix::param::clock_ticks_per_second())
            .ok_or_else(|| missing(io::Error::from(io::ErrorKind::InvalidData)))
    }

    /// Reads `/proc/PID/stat` and `/proc/PID/status` (proc(5)).
    fn parse(stat: &str, status: &str, ticks_per_second: u64) -> Option<ProcessUsage> {
        // The second field is the command's name in parentheses and may hold anything, parentheses too.
        let (_, fields) = stat.rsplit_once(')')?;
        let mut times = fields.split_ascii_whitespace().skip(11).map(str::parse::<u64>);
        let ticks = times.next()?.ok()? + times.next()?.ok()?;
        let memory = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_ascii_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
        };
        Some(ProcessUsage {
            cpu: Duration::from_nanos(ticks * 1_000_000_000 / ticks_per_second),
            // Absent from the status of a process that is about to go.
            resident_bytes: memory("VmRSS:").unwrap_or(0),
            resident_bytes_max: memory("VmHWM:").unwrap_or(0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194304 100 0 0 0 150 50 0 0 20 0 1 0 100 1000 200";
        let status = "Name:\ta) b (c\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        assert_eq!(
            ProcessUsage::parse(stat, status, 100),
            Some(ProcessUsage { cpu: Duration::from_secs(2), resident_bytes: 1 << 20, resident_bytes_max: 2 << 20 })
        );
        assert_eq!(ProcessUsage::parse("", "", 100), None);
    }

    #[test]
    fn this_process_can_be_watched() {
        let usage = ProcessUsage::of(std::process::id()).expect("it is running");
        assert!(usage.resident_bytes > 0 && usage.resident_bytes_max >= usage.resident_bytes);
    }

    #[test]
    fn processes_count_together() {
        let me = std::process::id();
        let [none, one, two] = [&[][..], &[me], &[me, me]].map(|pids| ProcessUsage::of_all(pids).expect("they run"));
        assert_eq!(none, None);
        let [one, two] = [one, two].map(|usage| usage.expect("there is one").resident_bytes_max);
        assert!(two >= 2 * one, "{one} and {two}");
    }
}
