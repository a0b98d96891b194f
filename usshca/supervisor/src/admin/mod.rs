//! The verbs for administrators. Each asks the signer: the CA's own if it runs, else one for the moment, on the same state and under the same lock.

mod backup;
mod csv;
mod explain;
mod feed;
mod files;
mod find;
mod host;
mod hosts;
mod key;
mod link;
mod list;
mod lost;
mod replay;
mod revoke;
mod table;
mod time;

use std::io::{self, IsTerminal, Write};
use std::path::Path;

use usshca_ipc::admin::{Reply, Request};
use usshca_ipc::layout::Layout;

use self::files::Place;
pub use self::files::certificate_path;
pub use self::link::Link;
pub use self::lost::warnings as lost_serials;
pub use self::time::utc;
use crate::cli::{AdminCommand, HostCommand, KrlArgs};
use crate::failure::Failure;

/// Mode of files for everybody to read.
const PUBLIC: u32 = 0o644;

/// Runs one verb.
pub fn run(layout: &Layout, verb: AdminCommand) -> Result<(), Failure> {
    match verb {
        AdminCommand::List(args) => list::list(layout, &args),
        AdminCommand::Show(args) => list::show(layout, &args),
        AdminCommand::Explain(args) => explain::explain(layout, &args),
        AdminCommand::Revoke(args) => revoke::revoke(layout, &args),
        AdminCommand::Revocations(args) => revoke::list(layout, &args),
        AdminCommand::Krl(args) => krl(layout, &args),
        AdminCommand::Host(HostCommand::Sign(args)) => host::sign(layout, &args),
        AdminCommand::Find(args) => find::find(layout, &args),
        AdminCommand::Backup(args) => backup::backup(layout, &args),
        AdminCommand::Replay(args) => replay::replay(layout, &args),
        AdminCommand::Host(HostCommand::Token(args)) => hosts::token(layout, &args),
        AdminCommand::Host(HostCommand::Tokens(args)) => hosts::tokens(layout, &args),
        AdminCommand::Host(HostCommand::List(args)) => hosts::list(layout, &args),
        AdminCommand::Host(HostCommand::Show(args)) => hosts::show(layout, &args),
        AdminCommand::Host(HostCommand::Remove(args)) => hosts::remove(layout, &args),
        AdminCommand::Publish(args) => feed::publish(layout, &args),
        AdminCommand::Feed(command) => feed::run(layout, command),
        AdminCommand::Key(command) => key::run(layout, &command),
    }
}

/// What has to happen before hosts know of it.
fn next_steps(layout: &Layout) -> String {
    let krl = layout.public.join("krl");
    format!(
        "hosts refuse it once they have the next KRL:\n  \
         usshca{} krl --out {krl}\n  \
         then bring {krl} to the feed folder of each host (file krl), and there: ussh-hostd sync",
        layout_flag(layout),
        krl = krl.display()
    )
}

/// The part of a command line that names this CA: ` --dir D`, or nothing.
pub fn layout_flag(layout: &Layout) -> String {
    match layout.config.parent() {
        Some(dir) if *layout != Layout::system() => format!(" --dir {}", dir.display()),
        _ => String::new(),
    }
}

fn krl(layout: &Layout, args: &KrlArgs) -> Result<(), Failure> {
    let to_file = args.output.as_deref().filter(|path| *path != Path::new("-"));
    if to_file.is_none() && io::stdout().is_terminal() {
        return Err(Failure::usage("a KRL is binary, and standard output is a terminal; try --out FILE"));
    }
    let place = to_file.map(Place::new).transpose()?;
    let krl = receive_krl(&Link::open(layout)?)?;
    match place {
        Some(place) => place.put(&krl, PUBLIC),
        None => write_stdout(&krl),
    }
}

fn receive_krl(link: &Link) -> Result<Vec<u8>, Failure> {
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

/// ssh compares host names in small letters. Says so, where that changes one.
pub fn small_letters(names: &[String]) -> Vec<String> {
    let small = |name: &String| {
        let small = name.to_ascii_lowercase();
        if small != *name {
            let shown = ussh_core::escape::escape(name.as_bytes(), ussh_core::escape::MAX_FIELD);
            let small = ussh_core::escape::escape(small.as_bytes(), ussh_core::escape::MAX_FIELD);
            // Nothing can be done about a closed stderr here.
            let _ = writeln!(
                io::stderr(),
                "usshca: note: ssh compares host names in small letters: {shown} becomes {small}"
            );
        }
        small
    };
    names.iter().map(small).collect()
}

/// An answer to another question.
fn unexpected() -> Failure {
    Failure::internal("the signer gave an answer to another question")
}

fn print(text: &str) -> Result<(), Failure> {
    write_stdout(text.as_bytes())
}

/// A reader that has had enough (`| head`) is no failure.
fn write_stdout(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(Failure::internal(format!("standard output: {e}"))),
        _ => Ok(()),
    }
}
