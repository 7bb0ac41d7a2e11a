//! A broker's machine: its disk, the process on it, and what is wrong with it now.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Mutex;

use chronik_core::boundary::Committer;
use chronik_core::time::Instant;
use tokio::sync::oneshot;

use crate::disk::SimDisk;
use crate::engine::Lane;
use crate::engine::chance::{Chance, MACHINES};
use crate::engine::work::Work;
use crate::plan::{NodePlan, Plan};

/// One broker's machine.
pub(super) struct Machine {
    /// The broker's number, from 1 on.
    pub(super) number: u32,
    pub(super) plan: NodePlan,
    pub(super) chance: Chance,
    pub(super) disk: SimDisk,
    pub(super) troubles: Mutex<Troubles>,
    pub(super) works: Mutex<Works>,
    pub(super) process: Mutex<Process>,
    /// The id of its cluster as its data folder keeps it; empty until it is known.
    pub(super) cluster_id: Mutex<String>,
}

/// What is wrong with a machine now.
#[derive(Debug)]
pub(super) struct Troubles {
    pub(super) disk_factor: u64,
    pub(super) disk_stalled_until: Instant,
    /// The process stands still until then: it was stopped, or waits for its disk.
    pub(super) paused_until: Instant,
    /// Its operator wants no process on it.
    pub(super) is_off: bool,
    /// How often its disk was replaced.
    pub(super) replaced: u8,
    /// The next recovery dies after so many changes, and whether the power fails with it.
    pub(super) dies_in_recovery: Option<(u32, bool)>,
    pub(super) cuts_index: bool,
}

/// A broker's disk work.
#[derive(Debug)]
pub(super) struct Works {
    pub(super) committer: Committer,
    /// What has begun and is not done, by number.
    pub(super) under_way: BTreeMap<u64, Work>,
    pub(super) begun: u64,
}

/// A broker's process.
#[derive(Debug, Default)]
pub(super) struct Process {
    /// How often the broker was started or ended: what belongs to an earlier incarnation is void.
    pub(super) incarnation: u64,
    /// Asks it to stop.
    pub(super) stop: Option<oneshot::Sender<()>>,
    /// Whether it serves.
    pub(super) is_up: bool,
}

impl Machine {
    /// The machine of the broker of this number.
    pub(super) fn new(plan: &Plan, number: u32) -> Machine {
        let chance = Chance::from_seed(plan.seed);
        let troubles = Troubles {
            disk_factor: 1,
            disk_stalled_until: Instant::default(),
            paused_until: Instant::default(),
            is_off: number > plan.founders(),
            replaced: 0,
            dies_in_recovery: None,
            cuts_index: false,
        };
        let committer = Committer::new(plan.node.trusts_os);
        Machine {
            number,
            plan: plan.machine(number),
            // The first one draws as if it were alone: a cluster that loses its others is what is left.
            chance: if number == 1 { chance } else { chance.keyed(MACHINES).keyed(u64::from(number)) },
            disk: SimDisk::default(),
            troubles: Mutex::new(troubles),
            works: Mutex::new(Works { committer, under_way: BTreeMap::new(), begun: 0 }),
            process: Mutex::default(),
            cluster_id: Mutex::default(),
        }
    }

    pub(super) fn lane(&self) -> Lane {
        Lane::Node(self.number)
    }

    pub(super) fn disk_lane(&self) -> Lane {
        Lane::Disk(self.number)
    }

    pub(super) fn ip(&self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + self.number))
    }
}
