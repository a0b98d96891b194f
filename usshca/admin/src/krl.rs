//! `usshca krl`.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use usshca_ipc::admin::{Reply, Request};

use super::{Desk, Link, PUBLIC, own, place, unexpected};
use crate::cli::KrlArgs;
use crate::failure::Failure;

/// What a KRL begins with (PROTOCOL.krl, KRL_MAGIC).
const MAGIC: &[u8] = b"SSHKRL\n\0";

/// Writes the KRL, whole or not at all.
pub fn krl(desk: &dyn Desk, args: &KrlArgs) -> Result<(), Failure> {
    let to_file = args.output.as_deref().filter(|path| *path != Path::new("-"));
    if to_file.is_none() && desk.is_terminal() {
        return Err(Failure::usage("a KRL is binary, and standard output is a terminal; try --out FILE"));
    }
    let place = to_file.map(|path| replaces_krl(desk, path).and_then(|()| place(desk, path))).transpose()?;
    let krl = receive(desk.link()?.as_ref())?;
    match place {
        Some(place) => place.put(&krl, PUBLIC),
        None => desk.print(&krl),
    }
}

/// A KRL takes the place of an older one, or of an empty file; whatever else is there was hardly meant. Nor is it put to where it would be read as something else: a policy.
fn replaces_krl(desk: &dyn Desk, path: &Path) -> Result<(), Failure> {
    let refuse = |what: &str| {
        Err(Failure::output(format!("{}: {what}; nothing was changed: name another file", path.display())))
    };
    if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("toml")) {
        return refuse("the name of a configuration or a policy, and this is a KRL");
    }
    if let Some(layout) = desk.here() {
        own::not_in_configuration(layout, path)?;
    }
    // What is no regular file is not replaced anyway, and a pipe would wait for a writer here.
    if !path.symlink_metadata().is_ok_and(|found| found.is_file()) {
        return Ok(());
    }
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAGIC.len() as u64).read_to_end(&mut start));
    read.map_err(|e| Failure::output(format!("{}: {e}", path.display())))?;
    if start.is_empty() || start == MAGIC { Ok(()) } else { refuse("there is a file that is no KRL") }
}

fn receive(link: &dyn Link) -> Result<Vec<u8>, Failure> {
    let mut krl = Vec::new();
    let mut reply = link.ask(&Request::Krl)?;
    while let Reply::Krl { chunk, more } = reply {
        krl.extend_from_slice(&chunk);
        if !more {
            return Ok(krl);
        }
        reply = link.next()?;
    }
    Err(unexpected())
}
