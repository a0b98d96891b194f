//! `usshca backup`.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::json;
use usshca_ipc::layout::Layout;

use super::files::Place;
use super::print;
use crate::cli::BackupArgs;
use crate::failure::Failure;
use crate::prepare::Base;
use crate::signer_process;

/// Mode of a backup: whoever has it knows who logs in from where.
const PRIVATE: u32 = 0o600;

/// Copies the inventory. The copy was looked through, and is on disk, when this returns.
pub fn backup(layout: &Layout, args: &BackupArgs) -> Result<(), Failure> {
    let path = if args.to.is_dir() { in_folder(&args.to) } else { args.to.clone() };
    let base = Base::load(layout)?;
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
        format!("{}\n", json!({ "file": shown, "bytes": bytes, "rows": rows }))
    } else {
        format!("{shown}: {rows} rows, {bytes} bytes; the CA keys are not in it (docs/operations.md)\n")
    })
}

fn in_folder(folder: &Path) -> PathBuf {
    let time = humantime::format_rfc3339_seconds(SystemTime::now()).to_string().replace([':', '-'], "");
    folder.join(format!("inventory-{time}.db"))
}
