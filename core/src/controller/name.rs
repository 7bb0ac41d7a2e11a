//! Which names a topic may have.

use super::Refused;
use crate::wire::ErrorCode;

/// The longest name, in bytes: with a partition's index and a suffix it still fits a folder's name.
const LONGEST: usize = 249;

/// The topic that keeps what groups must not lose: their committed offsets, and who is in them.
pub const GROUP_OFFSETS: &str = "__consumer_offsets";

/// Whether a topic of this name is one of the broker's own.
pub fn is_internal(name: &str) -> bool {
    matches!(name, GROUP_OFFSETS | "__transaction_state" | "__share_group_state")
}

/// Checks `name` as the name of a topic.
pub(super) fn check(name: &str) -> Result<(), Refused> {
    let refuse = |message| Err(Refused::new(ErrorCode::InvalidTopicException, message));
    match name {
        "" => refuse("A topic's name must not be empty.".to_owned()),
        "." | ".." => refuse("A topic's name must not be \".\" or \"..\".".to_owned()),
        _ if name.len() > LONGEST => {
            refuse(format!("A topic's name is {LONGEST} characters long at most, this one is {}.", name.len()))
        }
        _ if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) => refuse(format!(
            "A topic's name consists of ASCII letters and digits, \".\", \"_\" and \"-\"; \"{name}\" does not."
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kafkas() {
        for legal in ["a", "A-b_c.9", "...", "_", &"x".repeat(249)] {
            assert_eq!(check(legal), Ok(()), "{legal}");
        }
        for illegal in ["", ".", "..", "a b", "a/b", "ä", "a\0", &"x".repeat(250)] {
            assert!(check(illegal).is_err(), "{illegal}");
        }
    }
}
