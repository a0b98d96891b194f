#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
use std::os::unix::fs::MetadataExt;

use super::*;
use crate::test_support::trusted_folder;

/// Path, inode, mode, time, contents; of a folder path and mode alone.
type Seen = (PathBuf, u64, u32, i64, Vec<u8>);

fn tree(folder: &Path) -> Vec<Seen> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let m = path.symlink_metadata().unwrap();
        if m.is_dir() {
            found.extend(tree(&path));
        }
        let data = if m.is_file() { std::fs::read(&path).unwrap() } else { Vec::new() };
        found.push((
            path,
            if m.is_dir() { 0 } else { m.ino() },
            m.mode(),
            if m.is_dir() { 0 } else { m.mtime_nsec() },
            data,
        ));
    }
    found.sort();
    found
}

fn some() -> (tempfile::TempDir, Vec<Seen>) {
    let folder = trusted_folder();
    std::fs::write(folder.path().join("one"), "old").unwrap();
    std::fs::write(folder.path().join("real"), "old").unwrap();
    std::os::unix::fs::symlink("real", folder.path().join("link")).unwrap();
    let before = tree(folder.path());
    (folder, before)
}

fn new(folder: &tempfile::TempDir) -> Vec<NewFile> {
    let at = |name: &str| folder.path().join(name);
    vec![NewFile::public(at("one"), "new"), NewFile::private(at("link"), "new"), NewFile::public(at("a/b/two"), "new")]
}

#[test]
fn all_are_in_place_with_their_modes_and_a_link_stays_one() {
    let (folder, _) = some();
    let placed = put(new(&folder)).unwrap();
    assert_eq!(placed.changed().len(), 3);
    placed.keep();
    let found: Vec<_> = tree(folder.path()).into_iter().filter(|f| !f.4.is_empty()).collect();
    let named: Vec<_> = found.iter().map(|f| (f.0.file_name().unwrap().to_str().unwrap(), f.2 & 0o777)).collect();
    assert_eq!(named, [("two", 0o644), ("one", 0o644), ("real", 0o600)]);
    assert!(found.iter().all(|f| f.4 == b"new") && folder.path().join("link").is_symlink());
    let again = put(new(&folder)).unwrap();
    assert!(again.changed().is_empty(), "they are there already");
    again.keep();
    assert_eq!(tree(folder.path()).iter().filter(|f| f.4 == b"new").count(), 3);
}

#[test]
fn undone_or_forgotten_everything_is_the_very_file_that_it_was() {
    let (folder, before) = some();
    put(new(&folder)).unwrap().undo().unwrap();
    assert_eq!(tree(folder.path()), before);
    drop(put(new(&folder)).unwrap());
    assert_eq!(tree(folder.path()), before);
}

#[test]
fn one_that_cannot_be_put_in_place_undoes_those_before_it() {
    let (folder, before) = some();
    let mut files = new(&folder);
    files.push(NewFile::public(folder.path().join("one/below"), "new"));
    let error = put(files).unwrap_err().to_string();
    assert!(error.contains("one") && !error.contains("put back"), "{error}");
    assert_eq!(tree(folder.path()), before);
    std::fs::create_dir(folder.path().join("folder")).unwrap();
    let before = tree(folder.path());
    let mut files = new(&folder);
    files.push(NewFile::public(folder.path().join("folder"), "new"));
    assert!(put(files).unwrap_err().to_string().contains("not a regular file"));
    assert_eq!(tree(folder.path()), before);
}

#[test]
fn a_rename_that_fails_takes_back_the_ones_that_did_not() {
    let (folder, before) = some();
    let placed = begin(new(&folder), None).unwrap();
    std::fs::remove_file(placed.files[2].temporary()).unwrap();
    assert!(placed.files[0].put_in_place().is_ok() && placed.files[1].put_in_place().is_ok());
    assert!(placed.files[2].put_in_place().is_err());
    placed.undo().unwrap();
    assert_eq!(tree(folder.path()), before);
}

#[test]
fn what_one_that_was_killed_left_behind_is_taken_away() {
    let (folder, before) = some();
    // Of a file that is none of this run's as well.
    for name in [".one.ussh-hostd-new", ".one.ussh-hostd-before", ".key.ussh-hostd-before"] {
        std::fs::write(folder.path().join(name), "half").unwrap();
    }
    drop(put(new(&folder)).unwrap());
    assert_eq!(tree(folder.path()), before);
    // And nothing but that.
    for name in ["one.ussh-hostd-new", ".one.ussh-hostd-newer", ".one.old"] {
        std::fs::write(folder.path().join(name), "somebody's").unwrap();
    }
    let before = tree(folder.path());
    drop(put(new(&folder)).unwrap());
    assert_eq!(tree(folder.path()), before);
}

/// Files in place of a run that ends here without a word, as by SIGKILL.
fn killed_after(folder: &tempfile::TempDir, journal: &Path, in_place: usize) {
    let placed = begin(new(folder), Some(journal)).unwrap();
    for file in &placed.files[..in_place] {
        file.put_in_place().unwrap();
    }
    std::mem::forget(placed);
}

fn undone(journal: &Path) -> Vec<PathBuf> {
    Journal::read(journal).unwrap().unwrap().undo(journal).unwrap()
}

#[test]
fn what_was_killed_after_any_file_is_undone_by_its_journal() {
    for in_place in 0..=3 {
        let (folder, before) = some();
        let journal = folder.path().join("state/enrolling.json");
        killed_after(&folder, &journal, in_place);
        assert_eq!(journal.metadata().unwrap().mode() & 0o777, 0o600);
        assert_ne!(tree(folder.path()), before);
        assert_eq!(undone(&journal), Vec::<PathBuf>::new());
        assert_eq!(tree(folder.path()), before, "{in_place}");
        assert!(Journal::read(&journal).unwrap().is_none());
    }
}

#[test]
fn what_was_killed_between_the_second_name_and_the_rename_is_undone() {
    let (folder, before) = some();
    let journal = folder.path().join("enrolling.json");
    let placed = begin(new(&folder), Some(&journal)).unwrap();
    std::fs::hard_link(&placed.files[0].target, placed.files[0].kept()).unwrap();
    std::mem::forget(placed);
    undone(&journal);
    assert_eq!(tree(folder.path()), before);
}

#[test]
fn undoing_that_was_killed_is_done_by_the_next_one() {
    for put_back in 0..=3 {
        let (folder, before) = some();
        let journal = folder.path().join("enrolling.json");
        killed_after(&folder, &journal, 3);
        let Journal { files, .. } = Journal::read(&journal).unwrap().unwrap();
        for file in files.iter().rev().take(put_back) {
            assert!(matches!(file.put_back(), Ok(Back::AsBefore)));
        }
        undone(&journal);
        assert_eq!(tree(folder.path()), before, "{put_back}");
    }
}

#[test]
fn what_somebody_has_written_meanwhile_stays_and_so_does_what_was_there_before() {
    let (folder, _) = some();
    let at = |name: &str| folder.path().join(name);
    let journal = at("enrolling.json");
    killed_after(&folder, &journal, 3);
    for name in ["one", "a/b/two"] {
        std::fs::write(at(name), "somebody's").unwrap();
    }
    assert_eq!(undone(&journal), [at("a/b/two"), at("one")]);
    let found = ["one", "one.before-enroll", "real", "a/b/two"].map(|name| std::fs::read(at(name)).unwrap());
    assert_eq!(found, [&b"somebody's"[..], b"old", b"old", b"somebody's"]);
    assert!(!at(".one.ussh-hostd-before").exists());
    // A file that was taken away is not brought back either.
    std::fs::remove_file(at("one.before-enroll")).unwrap();
    killed_after(&folder, &journal, 3);
    std::fs::remove_file(at("one")).unwrap();
    assert_eq!(undone(&journal), [at("one")]);
    assert_eq!((at("one").exists(), std::fs::read(at("one.before-enroll")).unwrap()), (false, b"somebody's".into()));
}

#[test]
fn what_is_kept_or_undone_has_no_journal_any_more_and_one_that_cannot_be_undone_has() {
    let (folder, before) = some();
    let journal = folder.path().join("enrolling.json");
    put_with_journal(new(&folder), &journal).unwrap().undo().unwrap();
    assert_eq!(tree(folder.path()), before);
    let placed = put_with_journal(new(&folder), &journal).unwrap();
    assert!(journal.exists());
    // Nobody can tell whose it is.
    let one = folder.path().join("one");
    std::fs::remove_file(&one).unwrap();
    std::fs::create_dir(&one).unwrap();
    assert_eq!(placed.undo().unwrap_err(), one);
    assert!(journal.exists() && folder.path().join(".one.ussh-hostd-before").exists());
    std::fs::remove_dir(&one).unwrap();
    std::fs::write(&one, "new").unwrap();
    undone(&journal);
    assert_eq!(tree(folder.path()), before);
    put_with_journal(new(&folder), &journal).unwrap().complete().unwrap();
    assert!(!journal.exists() && tree(folder.path()).iter().filter(|f| f.4 == b"new").count() == 3);
}
