//! How a process ends, what is left of its files, and what its clients know then.

use super::*;
use crate::compact::Progress;

impl World {
    pub(super) fn stop(&mut self) {
        self.step(Input::Stop);
        self.settle();
        assert!(self.is_stopped, "the node stops, with a full disk or without");
        let unanswered: Vec<_> = self.asked.values().filter(|asked| !matches!(asked, Asked::Fetch(_))).collect();
        assert!(unanswered.is_empty() || self.was_full, "in an orderly stop everything is answered: {unanswered:?}");
        self.crash();
    }

    /// The process dies, somewhere in what it is doing, and perhaps the power with it. It starts again.
    pub(super) fn crash(&mut self) {
        // Work goes on for some changes of files, of which the node never hears.
        let changes = self.draw.below(8);
        self.files.die_after(changes);
        if let Some((commit, direct)) = self.commits.pop_front() {
            self.write(&commit, &direct);
        }
        for (_, task) in std::mem::take(&mut self.tasks) {
            // Of a dead process nobody learns how it went.
            let _ = task.run(&self.files);
        }
        if let Some(mut pass) = self.pass.take() {
            while let Ok(Progress::Ahead) = pass.step(&self.files) {}
        }
        let lost_power = self.fail_power();
        if self.one_in(3) {
            // It dies again while it recovers.
            let changes = self.draw.below(6);
            self.files.die_after(changes);
            self.starts += 1;
            let _ = Node::recover(settings(self.is_os), &self.files, [self.starts; 32], self.now);
            self.fail_power();
        }
        self.starts += 1;
        let (node, report) = match Node::recover(settings(self.is_os), &self.files, [self.starts; 32], self.now) {
            Ok(recovered) => recovered,
            Err(error) => panic!("seed {}: no start after a crash: {error}", self.seed),
        };
        assert!(report.notes.iter().all(|note| !note.contains("does not serve")), "{:?}", report.notes);
        node.invariants();
        self.compacted += self.node.counters().compaction_records_removed;
        self.node = node;
        self.reads.clear();
        self.served.clear();
        self.unsynced.clear();
        (self.is_stopped, self.was_full) = (false, false);
        let asked = std::mem::take(&mut self.asked);
        self.lost.clear();
        for known in self.known.values_mut() {
            known.producer.unacked.iter_mut().for_each(|batch| batch.request = None);
        }
        self.relearn_topics(&asked);
        if lost_power && self.is_os {
            self.forget_progress();
            self.forget_what_the_system_lost();
        }
    }

    fn fail_power(&mut self) -> bool {
        let keeps = self.below(4);
        match keeps {
            0 => self.files.restart(),
            _ => {
                let mut draw = self.draw.keyed(9, u64::from(self.starts));
                self.files.lose_power(|| match keeps {
                    1 => false,
                    2 => draw.below(2) == 0,
                    _ => draw.below(10) != 0,
                });
            }
        }
        keeps != 0
    }

    /// After a crash only the node knows what became of requests to create and delete that were not answered.
    fn relearn_topics(&mut self, asked: &BTreeMap<u64, Asked>) {
        for name in NAMES {
            let now = self.node.controller.image().topic_named(name).map(|topic| topic.id);
            let before = self.topics.get(name).copied();
            let is_open =
                asked.values().any(|asked| matches!(asked, Asked::Create(of) | Asked::Delete(of, _) if *of == name));
            assert!(is_open || now == before, "topic {name} was {before:?} and is {now:?}");
            match now {
                Some(id) => self.topics.insert(name, id),
                None => self.topics.remove(name),
            };
        }
        let live: BTreeSet<TopicId> = self.topics.values().copied().collect();
        self.known.retain(|id, _| live.contains(&id.topic));
    }

    /// Where appends are acknowledged unsynced, a power cut may take the newest of them: those, and no others.
    fn forget_what_the_system_lost(&mut self) {
        for (&id, known) in &mut self.known {
            let slot = self.node.by_id[&id];
            let end = self.node.hosts[slot as usize].as_ref().expect("it is hosted").partition.log().end();
            known.values.retain(|&offset, _| offset < end.0);
            known.start.0 = 0;
            known.producer = Producer::default();
        }
    }
}
