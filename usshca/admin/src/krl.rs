//! `usshca krl`.

use std::path::Path;

use usshca_ipc::admin::{Reply, Request};

use super::{Desk, Link, PUBLIC, place, unexpected};
use crate::cli::KrlArgs;
use crate::failure::Failure;

/// Writes the KRL, whole or not at all.
pub fn krl(desk: &dyn Desk, args: &KrlArgs) -> Result<(), Failure> {
    let to_file = args.output.as_deref().filter(|path| *path != Path::new("-"));
    if to_file.is_none() && desk.is_terminal() {
        return Err(Failure::usage("a KRL is binary, and standard output is a terminal; try --out FILE"));
    }
    let place = to_file.map(|path| place(desk, path)).transpose()?;
    let krl = receive(desk.link()?.as_ref())?;
    match place {
        Some(place) => place.put(&krl, PUBLIC),
        None => desk.print(&krl),
    }
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
