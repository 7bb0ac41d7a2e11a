//! A golden folder, which a standalone broker has written, becomes a cluster.

use std::collections::BTreeMap;

use super::Golden;
use super::check;
use super::contents::Contents;
use crate::support::client::Client;
use crate::support::cluster::{Cluster, NODES, wait_for};
use crate::support::code;

/// The folder opens as a cluster of one node; two more are added and hold all of it as well; when the first is gone they
/// have everything, down to what they know of producers.
pub(super) fn check(golden: &Golden) {
    let contents = golden.contents();
    let Some(mut cluster) = Cluster::start_alone_on(|data| golden.unpack(data)) else { return };
    let mut client = cluster.client(1);
    check::identity(cluster.node(1), &mut client, &contents);
    holds(&mut client, &contents);
    cluster.grow();
    for claim in &contents.topics {
        cluster.assign(&claim.topic(), claim.partitions.len(), &NODES);
    }
    for claim in &contents.topics {
        cluster.wait_until_in_sync(&claim.topic(), &NODES, &NODES);
    }
    holds(&mut client, &contents);
    cluster.kill(1);
    wait_for("node 2 leads everything", || leads_everything(&cluster, 2, &contents).then_some(()));
    let mut client = cluster.client(2);
    holds(&mut client, &contents);
    check::producer(&mut client, &contents.producer);
}

/// It has all settings and records of `contents`.
fn holds(client: &mut Client, contents: &Contents) {
    check::settings(client, contents);
    check::records(client, contents, &BTreeMap::new());
}

/// A node leads every partition, and knows where it begins and ends.
fn leads_everything(cluster: &Cluster, node: i32, contents: &Contents) -> bool {
    contents.topics.iter().all(|claim| {
        let (topic, mut client) = (claim.topic(), cluster.client(node));
        (0..claim.partitions.len() as i32).all(|partition| {
            let is_led = |at| topic.offset_at(&mut client, 5, partition, at).error_code == code::NONE;
            [-1, -2].into_iter().all(is_led)
        })
    })
}
