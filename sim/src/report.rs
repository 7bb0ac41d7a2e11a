//! Failures as text.
