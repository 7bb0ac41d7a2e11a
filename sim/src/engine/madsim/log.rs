//! The broker's log as part of the history.

use std::fmt::{self, Write};
use std::sync::Arc;

use chronik_core::boundary::Level;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use super::world::World;

/// Takes the lines that the broker's crates log, and none of madsim's own.
pub(super) struct Lines {
    world: Arc<World>,
}

impl Lines {
    pub(super) fn new(world: Arc<World>) -> Lines {
        Lines { world }
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && metadata.target().starts_with("chronik_") && *metadata.level() <= tracing::Level::DEBUG
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        // The broker opens none; whoever would is not listened to.
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let level = match *event.metadata().level() {
            tracing::Level::ERROR => Level::Error,
            tracing::Level::WARN => Level::Warn,
            tracing::Level::INFO => Level::Info,
            _ => Level::Debug,
        };
        let mut line = Line::default();
        event.record(&mut line);
        self.world.logged(level, line.message + &line.values);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// A line as people read it: the sentence, then its values.
#[derive(Default)]
struct Line {
    message: String,
    values: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let written = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.values, " {name}={value:?}"),
        };
        written.expect("writing to a string cannot fail");
    }
}
