//! The smallest plan that still fails the same way.
