//! `usshca backup`.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::json;
use usshca_admin::{json, own};
use usshca_ipc::layout::Layout;

use super::files::Place;
use super::print;
use crate::cli::BackupArgs;
use crate::failure::Failure;
use crate::prepare::Base;
use crate::signer_process;

/// Mode of a backup: whoever has it knows who logs in from where.
const PRIVATE: u32 = 0o600;
/// What an SQLite database begins with (sqlite.org/fileformat.html, 1.3.1).
const SQLITE: &[u8] = b"SQLite format 3\0";

/// Copies the inventory. The copy was looked through, and is on disk, when this returns.
pub fn backup(layout: &Layout, args: &BackupArgs) -> Result<(), Failure> {
    if args.to == Path::new("-") {
        return Err(Failure::usage(
            "backup: a copy counts once it is on disk, whole, under its name, which standard output has not: name a file or a folder (a file that is called - is ./-)",
        ));
    }
    let path = if args.to.is_dir() { in_folder(&args.to) } else { args.to.clone() };
    let base = Base::load(layout)?;
    own::spare(layout, &path)?;
    own::not_in_public(layout, base.config.publish.as_deref(), &path)?;
    replaces_backup(&path)?;
    let mut place = Place::new(&path)?;
    let failed = |e: &io::Error| Failure::output(format!("{}: {e}", path.display()));
    let (mut reader, writer) = io::pipe().map_err(|e| failed(&e))?;
    let copier = signer_process::start_backup(&base, writer.into())?;
    let copied = io::copy(&mut reader, place.file()).map_err(|e| failed(&e));
    // What it has to say of a copy that broke off is worth more than that the pipe has ended.
    let said = copier.wait_copied();
    copier.finish();
    let (bytes, rows) = said?;
    if copied? != bytes {
        return Err(Failure::internal("the copy of the inventory broke off"));
    }
    place.keep(PRIVATE)?;
    let shown = path.display().to_string();
    print(&if args.json {
        json::line(&json!({ "file": shown, "bytes": bytes, "rows": rows }))
    } else {
        format!("{shown}: {rows} rows, {bytes} bytes; the CA keys are not in it (docs/operations.md)\n")
    })
}

/// A backup takes the place of an older one, or of an empty file; whatever else is there was hardly meant.
fn replaces_backup(path: &Path) -> Result<(), Failure> {
    let Ok(found) = path.symlink_metadata() else { return Ok(()) };
    // A pipe would wait for a writer here. A link is not replaced anyway.
    if !found.is_file() {
        if found.is_symlink() || found.is_dir() {
            return Ok(());
        }
        return Err(Failure::output(format!(
            "{}: a device, a pipe or a socket: it is not replaced; name a file or a folder",
            path.display()
        )));
    }
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(SQLITE.len() as u64).read_to_end(&mut start));
    read.map_err(|e| Failure::output(format!("{}: {e}", path.display())))?;
    if start.is_empty() || start == SQLITE {
        return Ok(());
    }
    Err(Failure::output(format!(
        "{}: there is a file that is no backup; it is not replaced: name another one, or take it away first",
        path.display()
    )))
}

fn in_folder(folder: &Path) -> PathBuf {
    let time = humantime::format_rfc3339_seconds(SystemTime::now()).to_string().replace([':', '-'], "");
    folder.join(format!("inventory-{time}.db"))
}
