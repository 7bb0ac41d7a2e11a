//! What goes wrong between machines.

use super::{Step, World};
use crate::engine::core::world::Event;
use crate::plan::Way;

/// What is wrong with one way between two machines.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::engine::core) struct Line {
    /// Nothing arrives.
    pub(in crate::engine::core) is_muted: bool,
    /// It takes up to so many nanoseconds longer.
    pub(in crate::engine::core) late: u64,
    /// Who dials is told that nobody listens, whoever does.
    pub(in crate::engine::core) refuses: bool,
}

impl World<'_> {
    /// Changes what is wrong with one way, and lets what stood still go on where it can. Returns whether there is one.
    pub(in crate::engine::core) fn change_line(
        &mut self,
        machine: usize,
        to: u32,
        change: impl FnOnce(&mut Line),
    ) -> bool {
        let Some(to) = self.machine_of(to).filter(|&to| to != machine) else { return false };
        let place = self.place(machine, to);
        change(&mut self.lines[place]);
        let there =
            self.routes[place].calls.iter().filter_map(|(&call, at)| Some((at.there.due()?, Step::There(call))));
        let there: Vec<_> = there.map(|(due, step)| (due, Event::Route(place, step))).collect();
        let place = self.place(to, machine);
        let back = self.routes[place].calls.iter().filter_map(|(&call, at)| Some((at.back.due()?, Step::Back(call))));
        let back: Vec<_> = back.map(|(due, step)| (due, Event::Route(place, step))).collect();
        for (due, event) in there.into_iter().chain(back) {
            self.plan_at(due, event);
        }
        true
    }

    /// Parts a machine from all others, or joins it to them again.
    pub(in crate::engine::core) fn part(&mut self, machine: usize, way: Way, is_muted: bool) {
        let number = self.machines[machine].number;
        for other in 0..self.machines.len() {
            if way != Way::In {
                self.change_line(machine, self.machines[other].number, |line| line.is_muted = is_muted);
            }
            if way != Way::Out {
                self.change_line(other, number, |line| line.is_muted = is_muted);
            }
        }
    }

    /// Has calls between two machines refused, either way, or taken again. Returns whether there are two.
    pub(in crate::engine::core) fn refuse_calls(&mut self, machine: usize, with: u32, refuses: bool) -> bool {
        let Some(other) = self.machine_of(with).filter(|&other| other != machine) else { return false };
        for place in [self.place(machine, other), self.place(other, machine)] {
            self.lines[place].refuses = refuses;
        }
        true
    }

    /// The calls between two machines break, wherever in a frame they are.
    pub(in crate::engine::core) fn reset_routes(&mut self, machine: usize, with: u32, bits: u64) {
        let Some(with) = self.machine_of(with).filter(|&with| with != machine) else { return };
        for route in [self.place(machine, with), self.place(with, machine)] {
            let calls: Vec<u64> = self.routes[route].calls.keys().copied().collect();
            for call in calls {
                self.count("link_reset");
                let chance = self.route_chance(route, call, bits);
                let at = self.routes[route].calls.get_mut(&call).expect("it was just there");
                let arrived = at.there.break_off(chance);
                at.back.forget();
                if !arrived.is_empty() && at.acceptor.is_some() {
                    self.listen(route, call, &arrived);
                }
                if let Some(at) = self.routes[route].calls.get_mut(&call) {
                    at.acceptor = None;
                }
                self.lost(route, call);
            }
        }
    }

    /// Nothing is wrong between machines any more.
    pub(in crate::engine::core) fn heal_routes(&mut self) {
        for machine in 0..self.machines.len() {
            for to in 0..self.machines.len() {
                self.change_line(machine, self.machines[to].number, |line| *line = Line::default());
            }
        }
    }
}
