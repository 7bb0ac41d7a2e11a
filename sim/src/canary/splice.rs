//! Edits of many canaries in one copy of the sources.

use std::collections::BTreeMap;

use super::{Canary, Edit};

/// Files by their path from the workspace's root, with `/` between its parts.
pub type Sources = BTreeMap<String, Vec<u8>>;

/// Where the module that the edits ask goes.
pub const MODULE: &str = "core/src/canary.rs";

/// Its text, which is no part of this crate.
const TEMPLATE: &str = "sim/canaries/canary.rs.in";

/// The core's crate root, which gets that module.
const CORE: &str = "core/src/lib.rs";

/// One edit in its place.
struct Placed<'a> {
    at: usize,
    canary: &'a str,
    edit: &'a Edit,
}

/// Makes the edits of all canaries, and adds the module that they ask.
///
/// # Errors
/// Where a text is not there exactly once, or two edits meet: a sentence that names canary and file.
pub fn splice(sources: &mut Sources, canaries: &[Canary]) -> Result<(), String> {
    let mut by_file: BTreeMap<String, Vec<Placed<'_>>> = BTreeMap::new();
    for canary in canaries {
        for edit in &canary.edits {
            let (file, at) = place(sources, edit).map_err(|why| format!("canary {}: {why}", canary.name))?;
            by_file.entry(file).or_default().push(Placed { at, canary: &canary.name, edit });
        }
    }
    for (file, mut edits) in by_file {
        edits.sort_by_key(|placed| placed.at);
        let spliced = apply(text(sources, &file)?, &edits).map_err(|why| format!("{file}: {why}"))?;
        sources.insert(file, spliced.into_bytes());
    }
    let module = sources.get(TEMPLATE).cloned().ok_or_else(|| format!("{TEMPLATE} is missing"))?;
    sources.insert(MODULE.to_owned(), module);
    let core = format!("{}pub mod canary;\n", text(sources, CORE)?);
    sources.insert(CORE.to_owned(), core.into_bytes());
    Ok(())
}

fn text<'a>(sources: &'a Sources, file: &str) -> Result<&'a str, String> {
    let bytes = sources.get(file).ok_or_else(|| format!("{file} is missing"))?;
    std::str::from_utf8(bytes).map_err(|_| format!("{file} is no text"))
}

/// The file that an edit's text is in, and where.
fn place(sources: &Sources, edit: &Edit) -> Result<(String, usize), String> {
    if edit.find.trim().is_empty() {
        return Err(format!("an edit of {} finds anything", edit.file));
    }
    let folder = format!("{}/", edit.file);
    let is_meant = |path: &str| path == edit.file || (path.starts_with(&folder) && path.ends_with(".rs"));
    let mut places = Vec::new();
    for file in sources.keys().filter(|path| is_meant(path)) {
        places.extend(text(sources, file)?.match_indices(&edit.find).map(|(at, _)| (file.clone(), at)));
    }
    match places.len() {
        1 => Ok(places.swap_remove(0)),
        count => Err(format!("this occurs {count} times in {} and not once: {}", edit.file, edit.find)),
    }
}

/// Makes edits in the order of their places.
fn apply(source: &str, edits: &[Placed<'_>]) -> Result<String, String> {
    let mut out = String::with_capacity(source.len() * 2);
    let mut done = 0;
    let mut before = "";
    for Placed { at, canary, edit } in edits {
        if *at < done {
            return Err(format!("the canaries {before} and {canary} change the same text"));
        }
        out.push_str(&source[done..*at]);
        out.push_str(&edit.replace);
        done = at + edit.find.len();
        before = canary;
    }
    out.push_str(&source[done..]);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canary(name: &str, edits: &[(&str, &str, &str)]) -> Canary {
        let edit = |&(file, find, replace): &(&str, &str, &str)| Edit {
            file: file.to_owned(),
            find: find.to_owned(),
            replace: replace.to_owned(),
        };
        Canary {
            name: name.to_owned(),
            about: String::new(),
            after: Vec::new(),
            claims: Vec::new(),
            engine: super::super::Engine::Core,
            nodes: 1,
            edits: edits.iter().map(edit).collect(),
        }
    }

    fn spliced(canaries: &[Canary]) -> Result<Sources, String> {
        let files =
            [(TEMPLATE, "asks"), (CORE, "mod a;\n"), ("core/src/a.rs", "one two three"), ("core/src/b.rs", "two")];
        let mut sources = files.into_iter().map(|(path, text)| (path.to_owned(), text.into())).collect();
        splice(&mut sources, canaries).map(|()| sources)
    }

    #[test]
    fn edits_of_several_canaries_live_in_one_file() {
        let second = canary("second", &[("core/src/a.rs", "three", "3")]);
        let sources = spliced(&[second, canary("first", &[("core/src/a.rs", "one", "1")])]).expect("they are apart");
        assert_eq!(sources["core/src/a.rs"], b"1 two 3");
        assert_eq!(sources[MODULE], b"asks");
        assert_eq!(sources[CORE], b"mod a;\npub mod canary;\n");
    }

    #[test]
    fn a_folder_stands_for_whichever_of_its_files_has_the_text() {
        let sources = spliced(&[canary("a", &[("core/src", "one", "1")])]).expect("one file has it");
        assert_eq!(sources["core/src/a.rs"], b"1 two three");
        let error = spliced(&[canary("a", &[("core/src", "two", "2")])]).expect_err("two files have it");
        assert!(error.contains("2 times in core/src"), "{error}");
    }

    #[test]
    fn edits_that_find_nothing_or_meet_are_told_by_name() {
        let check = |canaries: &[Canary], expect: &str| {
            let error = spliced(canaries).expect_err(expect);
            assert!(error.contains(expect), "{error}");
        };
        check(&[canary("a", &[("core/src/a.rs", "four", "4")])], "canary a: this occurs 0 times");
        check(&[canary("a", &[("core/src/c.rs", "one", "1")])], "canary a: this occurs 0 times");
        let (a, b) = (canary("a", &[("core/src/a.rs", "one two", "")]), canary("b", &[("core/src/a.rs", "two t", "")]));
        check(&[a, b], "the canaries a and b change the same text");
    }
}
