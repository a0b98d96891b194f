#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::fs::{Permissions, read_dir, set_permissions, write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;

struct Run {
    folder: TempDir,
    uid: u32,
}

impl Run {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let uid = folder.path().metadata().unwrap().uid();
        Run { folder, uid }
    }

    fn spool(&self) -> PathBuf {
        self.folder.path().join("ussh-hostd/sessions")
    }

    fn owner(&self) -> Owner<'static> {
        Owner { uid: self.uid, below: None }
    }

    fn write(&self, record: &SessionRecord) -> PathBuf {
        record.write_as(&self.spool(), &self.owner()).unwrap();
        self.spool().join(record.file_name())
    }

    fn read(&self, file: &Path) -> Result<SessionRecord, RecordError> {
        SessionRecord::read_as(file, &self.owner())
    }

    fn is_malformed(&self, file: &Path, why: &str) -> bool {
        matches!(self.read(file), Err(RecordError::Malformed(text)) if text.contains(why))
    }

    fn names(&self) -> Vec<String> {
        let entries = read_dir(self.spool()).unwrap();
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }
}

fn record() -> SessionRecord {
    SessionRecord {
        version: VERSION,
        pid: 4711,
        start_time: 123_456,
        boot_id: "0d4b1d5c-5d1e-4f43-9d1c-3f1a2b3c4d5e".into(),
        user: "alice".into(),
        uid: 1000,
        rhost: "192.0.2.7".into(),
        certificate: Some("ssh-ed25519-cert-v01@openssh.com AAAA".into()),
        opened: UnixTime(1_700_000_000),
    }
}

#[test]
fn what_was_written_is_read() {
    let run = Run::new();
    for certificate in [None, record().certificate] {
        let record = SessionRecord { certificate, ..record() };
        let file = run.write(&record);
        assert_eq!(run.read(&file).unwrap(), record);
        assert_eq!(run.names(), ["4711-123456.json"], "no temporary file is left");
    }
}

#[test]
fn spool_and_record_are_their_owners_alone() {
    let run = Run::new();
    let file = run.write(&record());
    let mode = |path: &Path| path.metadata().unwrap().mode() & 0o777;
    assert_eq!(mode(&file), 0o600);
    assert_eq!(mode(&run.spool()), 0o700);
    assert_eq!(mode(run.spool().parent().unwrap()) & 0o022, 0);
}

#[test]
fn a_leftover_of_a_dead_writer_is_in_nobodys_way() {
    let run = Run::new();
    run.write(&record());
    write(run.spool().join(".4711-123456.json.new"), b"half").unwrap();
    let file = run.write(&record());
    assert_eq!(run.read(&file).unwrap(), record());
    assert_eq!(run.names().len(), 1);
}

#[test]
fn a_record_that_cannot_be_put_in_place_leaves_nothing_behind() {
    let run = Run::new();
    let blocked = run.spool().join(record().file_name());
    std::fs::create_dir_all(blocked.join("in the way")).unwrap();
    set_permissions(run.spool(), Permissions::from_mode(0o700)).unwrap();
    assert!(matches!(record().write_as(&run.spool(), &run.owner()), Err(RecordError::Io(_))));
    assert_eq!(run.names(), [record().file_name()]);
}

#[test]
fn refuses_to_write_into_a_spool_that_others_can_write() {
    let run = Run::new();
    run.write(&record());
    for mode in [0o770, 0o707, 0o777, 0o1777] {
        set_permissions(run.spool(), Permissions::from_mode(mode)).unwrap();
        let refused = record().write_as(&run.spool(), &run.owner()).unwrap_err();
        assert!(matches!(refused, RecordError::Folder(_)), "{mode:o}");
        let (folder, refused) = (run.spool(), refused.to_string());
        assert!(refused.starts_with(&format!("{}: bad ownership or modes (uid ", folder.display())), "{refused}");
        assert!(refused.contains(&format!(", mode {mode:04o})")), "{refused}");
        assert!(mode == 0o1777 || refused.ends_with("; try chmod go-w"), "{refused}");
    }
}

#[test]
fn refuses_to_write_through_a_link() {
    let run = Run::new();
    let elsewhere = run.folder.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    std::fs::create_dir(run.spool().parent().unwrap()).unwrap();
    symlink(&elsewhere, run.spool()).unwrap();
    assert!(record().write_as(&run.spool(), &run.owner()).is_err());
    assert_eq!(read_dir(&elsewhere).unwrap().count(), 0);
}

#[test]
fn refuses_to_write_what_it_would_not_read() {
    let run = Run::new();
    let large = SessionRecord { certificate: Some("A".repeat(MAX_RECORD)), ..record() };
    assert!(matches!(large.write_as(&run.spool(), &run.owner()), Err(RecordError::Malformed(_))));
    let newer = SessionRecord { version: 2, ..record() };
    assert!(matches!(newer.write_as(&run.spool(), &run.owner()), Err(RecordError::Malformed(_))));
}

#[test]
fn refuses_a_record_that_others_could_have_written() {
    let run = Run::new();
    let file = run.write(&record());
    for mode in [0o620, 0o602, 0o666] {
        set_permissions(&file, Permissions::from_mode(mode)).unwrap();
        assert!(run.is_malformed(&file, "ownership"), "{mode:o}");
    }
    set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    assert!(run.read(&file).is_ok());
}

#[test]
fn the_public_functions_take_roots_records_only() {
    let run = Run::new();
    let file = run.write(&record());
    if run.uid == 0 {
        assert_eq!(SessionRecord::read(&file).unwrap(), record());
        std::os::unix::fs::chown(&file, Some(65534), None).unwrap();
        std::os::unix::fs::chown(run.spool(), Some(65534), None).unwrap();
    }
    assert!(matches!(SessionRecord::read(&file), Err(RecordError::Malformed(_))));
    assert!(matches!(record().write(&run.spool()), Err(RecordError::Folder(_))));
}

#[test]
fn refuses_links_folders_and_fifos_without_waiting() {
    let run = Run::new();
    let file = run.write(&record());
    let link = run.spool().join("1-1.json");
    symlink(&file, &link).unwrap();
    assert!(matches!(run.read(&link), Err(RecordError::Io(_))));
    assert!(run.is_malformed(&run.spool(), "regular"));
    let fifo = run.spool().join("2-2.json");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    assert!(run.is_malformed(&fifo, "regular"));
}

#[test]
fn refuses_content_that_is_not_exactly_a_record() {
    let run = Run::new();
    let file = run.write(&record());
    let good = std::fs::read_to_string(&file).unwrap();
    let mut bad = vec![
        String::new(),
        "{}".into(),
        "null".into(),
        format!("{good}x"),
        good[..good.len() - 1].into(),
        good.replace("\"pid\":4711", "\"pid\":4711,\"new\":1"),
        good.replace("\"pid\":4711", "\"pid\":4711,\"pid\":4711"),
        good.replace("\"pid\":4711", "\"pid\":-1"),
        good.replace("\"uid\":1000,", ""),
        good.replace("\"version\":1", "\"version\":2"),
        good.replace("alice", "al\u{0}ice"),
    ];
    bad.push(format!("{good}{}", " ".repeat(MAX_RECORD)));
    for text in bad {
        assert_ne!(text, good);
        write(&file, &text).unwrap();
        assert!(matches!(run.read(&file), Err(RecordError::Malformed(_))), "{}", &text[..text.len().min(300)]);
    }
}

#[test]
fn refuses_a_record_under_another_ones_name() {
    let run = Run::new();
    let file = run.write(&record());
    let other = run.spool().join("4712-123456.json");
    std::fs::rename(file, &other).unwrap();
    assert!(run.is_malformed(&other, "another record's name"));
}

#[test]
fn removing_twice_is_fine() {
    let run = Run::new();
    let file = run.write(&record());
    record().remove(&run.spool()).unwrap();
    assert!(!file.exists());
    record().remove(&run.spool()).unwrap();
}

#[test]
fn a_user_name_with_odd_characters_survives() {
    let run = Run::new();
    let record = SessionRecord { user: "a\"l\\i\nce é".into(), rhost: String::new(), ..record() };
    assert_eq!(run.read(&run.write(&record)).unwrap(), record);
}
