//! What ends a run before its time: each failure names what happened, where, and what to do about it, and has the exit
//! code that a script sees.

use crate::wire::{Api, ErrorCode, Malformed};
use std::fmt;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

/// Why a run could not be finished.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The arguments contradict each other, or the topic.
    Usage(String),
    /// No broker of the list, or a broker that the list led to, can be connected to.
    Unreachable { address: String, advertised: bool, why: io::Error },
    /// The broker closed the connection while requests were unanswered.
    Closed { address: String, unanswered: usize, why: Option<io::Error> },
    /// The broker holds the connection open but does not answer.
    Silent { address: String, unanswered: usize, waited: Duration },
    /// What arrived is not a Kafka response that this client can read.
    Unreadable { address: String, why: Malformed },
    /// The broker serves no version of `api` that this client speaks.
    Unserved { address: String, api: Api, served: Option<(i16, i16)> },
    /// The topic does not exist, and is not to be, or cannot be, created.
    TopicMissing { topic: String },
    /// The topic to read holds no record.
    Empty { topic: String },
    /// The broker declined a request.
    Refused { api: Api, subject: String, code: ErrorCode, message: Option<String> },
    /// The local system declined something: a thread, a file, a child process.
    Local { what: String, why: io::Error },
    /// A broker that `compare` started did not come up.
    NotStarted { broker: String, why: String },
}

impl Failure {
    /// The exit code: 2 for the arguments, 3 for the connection, 4 for a refusal by the broker, 5 for this machine.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Failure::Usage(_) => 2,
            Failure::Unreachable { .. }
            | Failure::Closed { .. }
            | Failure::Silent { .. }
            | Failure::Unreadable { .. } => 3,
            Failure::Unserved { .. }
            | Failure::TopicMissing { .. }
            | Failure::Empty { .. }
            | Failure::Refused { .. } => 4,
            Failure::Local { .. } | Failure::NotStarted { .. } => 5,
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Usage(what) => out.write_str(what),
            Failure::Unreachable { address, advertised: false, why } => {
                write!(out, "cannot connect to {address}: {why}; is the broker running and --bootstrap-servers right?")
            }
            Failure::Unreachable { address, advertised: true, why } => write!(
                out,
                "cannot connect to {address}, which the broker advertises as a partition's leader: {why}; \
                 start the broker with an advertised address that is reachable from here"
            ),
            Failure::Closed { address, unanswered, why } => {
                write!(out, "{address} closed the connection with {unanswered} requests unanswered")?;
                if let Some(why) = why {
                    write!(out, " ({why})")?;
                }
                out.write_str("; its log should say why")
            }
            Failure::Silent { address, unanswered, waited } => write!(
                out,
                "{address} left {unanswered} requests unanswered for {} s; \
                 look at its log, or lower --concurrency if it is overloaded",
                waited.as_secs()
            ),
            Failure::Unreadable { address, why } => {
                write!(out, "cannot read what {address} answers: {why}; is this the port of a Kafka listener?")
            }
            Failure::Unserved { address, api, served: None } => {
                write!(out, "{address} does not serve {api}, which this run needs")
            }
            Failure::Unserved { address, api, served: Some((low, high)) } => write!(
                out,
                "{address} serves {api} {low} to {high}, this client speaks {} to {}: no version in common",
                api.spoken().start(),
                api.spoken().end()
            ),
            Failure::TopicMissing { topic } => {
                write!(out, "topic {topic} does not exist; produce to it first, or name another with --topic")
            }
            Failure::Empty { topic } => {
                write!(out, "topic {topic} holds no record; produce to it first, or name another with --topic")
            }
            Failure::Refused { api, subject, code, message } => {
                write!(out, "{api} of {subject} was refused: {code}")?;
                if let Some(message) = message {
                    write!(out, " ({message})")?;
                }
                match code.remedy() {
                    Some(remedy) => write!(out, "; {remedy}"),
                    None => Ok(()),
                }
            }
            Failure::Local { what, why } => write!(out, "{what}: {why}"),
            Failure::NotStarted { broker, why } => write!(out, "{broker} did not start: {why}"),
        }
    }
}
