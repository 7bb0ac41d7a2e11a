//! Delta debugging of a list.

use std::ops::ControlFlow;

/// The shortest list that `keeps` takes, reached by dropping runs of items: half of them, a quarter, ... single ones,
/// until no single one can go. `items` itself is taken to be kept, and is never asked about. It ends sooner where
/// `keeps` breaks off.
pub(super) fn minimise<T: Clone>(mut items: Vec<T>, mut keeps: impl FnMut(&[T]) -> ControlFlow<(), bool>) -> Vec<T> {
    // All at once, first: often the other dimension of a plan alone is what fails.
    if !items.is_empty() && keeps(&[]) == ControlFlow::Continue(true) {
        return Vec::new();
    }
    let mut run = items.len().div_ceil(2);
    while run > 0 {
        let mut at = 0;
        let mut has_dropped = false;
        while at < items.len() {
            let end = (at + run).min(items.len());
            let without: Vec<T> = items[..at].iter().chain(&items[end..]).cloned().collect();
            // The empty list was asked about already.
            let is_kept = if without.is_empty() { ControlFlow::Continue(false) } else { keeps(&without) };
            match is_kept {
                ControlFlow::Continue(true) => (items, has_dropped) = (without, true),
                ControlFlow::Continue(false) => at = end,
                ControlFlow::Break(()) => return items,
            }
        }
        run = match run {
            1 if has_dropped => 1,
            _ => run / 2,
        };
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(length: u32, needed: &[u32]) {
        let mut asked = 0;
        let left = minimise((0..length).collect(), |items| {
            asked += 1;
            ControlFlow::Continue(needed.iter().all(|item| items.contains(item)))
        });
        assert_eq!(left, needed, "of {length}");
        // Each needed item costs a descent; far below one question per item and item.
        let most = 10 + 2 * length + 8 * needed.len() as u32 * (32 - length.leading_zeros());
        assert!(asked <= most, "{asked} questions for {needed:?} of {length}, at most {most}");
    }

    #[test]
    fn what_is_needed_is_left_and_nothing_else() {
        check(0, &[]);
        check(1, &[]);
        check(1, &[0]);
        check(100, &[]);
        check(100, &[0]);
        check(100, &[99]);
        check(100, &[50]);
        check(1_000, &[3, 500, 501, 998]);
        check(7, &[0, 1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn an_item_that_can_only_go_after_another_goes() {
        // Only the last one can go, again and again.
        let is_prefix = |items: &[u32]| items.iter().enumerate().all(|(at, item)| at as u32 == *item);
        let left = minimise((0..6).collect(), |items| ControlFlow::Continue(!items.is_empty() && is_prefix(items)));
        assert_eq!(left, [0]);
    }

    #[test]
    fn what_breaks_off_leaves_what_was_kept_so_far() {
        let mut asked = 0;
        let left = minimise((0..8).collect(), |items: &[u32]| {
            asked += 1;
            if asked > 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(items.contains(&7)) }
        });
        assert_eq!(left, [4, 5, 6, 7]);
    }
}
