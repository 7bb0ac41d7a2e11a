//! Planted bugs: how good the simulator is at finding them.
