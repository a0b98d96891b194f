//! `usshca serve`: the supervisor.
//!
//! Process: one, single-threaded. uid: root, or the ordinary user who runs a CA for an account of his own.
//! It accepts connections and never reads a byte from one; it makes the processes, joins them with sockets, and ends what takes too long.
//! Untrusted: what fronts say (one message: "a worker for this user name"), and what any child writes to its log.

mod activation;
mod connection;
pub mod counters;
pub mod desk;
mod doors;
mod event_loop;
mod exposition;
mod liveness;
pub mod max_startups;
mod own_socket;
pub mod penalties;
mod publisher;
mod signer;
mod source;
mod turned_away;
mod turns;
mod watch;
mod worker;

use std::net::TcpListener;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use ussh_os::notify::Notify;
use ussh_os::process;
use ussh_os::resident::give_back_start_up;
use ussh_os::seqpacket::SeqPacketListener;
use usshca_ipc::layout::Layout;

use crate::cli::ServeArgs;
use crate::failure::Failure;
use crate::listen;
use crate::log;
use crate::prepare::{Base, HostIdentity};

use self::desk::Desk;
use self::event_loop::EventLoop;
use self::signer::Signer;

/// Mode of the admin socket: its owner alone may connect (and the signer asks the kernel who did).
const ADMIN_SOCKET_MODE: u32 = 0o600;
/// Descriptors of the supervisor for each connection (channel, pidfds, log pipes of a front and a worker), with room for those on their way.
const DESCRIPTORS_PER_CONNECTION: u64 = 8;

/// Listeners, the signer, scrapers, and those who are being turned away.
const OTHER_DESCRIPTORS: u64 = 160;

/// Everything that a connection's processes are made from.
pub struct Ground {
    /// Config, accounts, programs.
    pub base: Base,
    /// The CA machine's host key and certificate.
    pub host: HostIdentity,
}

/// Runs the CA until it is told to end.
pub fn run(layout: &Layout, args: &ServeArgs) -> Result<(), Failure> {
    let activated = activation::take()?;
    let ready_fd = args.ready_fd.map(process::inherited_descriptor).transpose();
    let ready_fd = ready_fd.map_err(|e| Failure::usage(format!("--ready-fd: {e}")))?;
    let notify = Notify::new(ready_fd);
    process::harden_memory().map_err(|e| Failure::internal(format!("no protection from core dumps: {e}")))?;

    let base = Base::load(layout)?;
    log::set_format(base.config.log_format);
    base.check_pam_service()?;
    let host = base.host_identity()?;
    for warning in base.warnings()? {
        log::warning(&warning);
    }
    allow_descriptors(base.config.max_connections)?;
    let admin = listen_for_admins(&base)?;
    let listeners = match activated.listeners {
        none if none.is_empty() => listen::bind(&base)?,
        given => given,
    };
    let status = layout.status_socket();
    let desk = Desk::open(&status, base.config.metrics.as_ref(), activated.metrics)
        .map_err(|(what, e)| Failure::unavailable(format!("cannot listen on {what}: {e}")))?;
    // Fronts are told that nobody is there until the signer is ready: better a late start than one that refuses.
    let signer = Signer::start(&base, admin.into_fd())?;

    let addresses = addresses(&listeners)?;
    let event_loop = EventLoop::new(Ground { base, host }, listeners, signer, desk, notify)?;
    give_back_start_up();
    log::info(&format!("listening on {addresses}"));
    let ended = event_loop.run();
    // One that is left behind does no harm: the next start sees that nobody answers on it.
    let _ = std::fs::remove_file(&layout.admin_socket);
    let _ = std::fs::remove_file(status);
    ended
}

fn addresses(listeners: &[TcpListener]) -> Result<String, Failure> {
    let each: Result<Vec<_>, _> = listeners.iter().map(|l| l.local_addr().map(|a| a.to_string())).collect();
    Ok(each.map_err(|e| Failure::internal(e.to_string()))?.join(", "))
}

fn listen_for_admins(base: &Base) -> Result<SeqPacketListener, Failure> {
    let path = &base.layout.admin_socket;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|e| Failure::output(format!("{}: {e}", folder.display())))?;
    }
    SeqPacketListener::bind(path, ADMIN_SOCKET_MODE).map_err(|e| {
        if e.kind() == std::io::ErrorKind::AddrInUse {
            return Failure::unavailable(format!("{}: another usshca is running here", path.display()));
        }
        Failure::output(format!("{}: {e}", path.display()))
    })
}

/// Raises the soft limit as far as the connections that are allowed need it.
fn allow_descriptors(connections: u32) -> Result<(), Failure> {
    let needed = u64::from(connections) * DESCRIPTORS_PER_CONNECTION + OTHER_DESCRIPTORS;
    let failed = |e| Failure::internal(format!("RLIMIT_NOFILE: {e}"));
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(failed)?;
    if soft >= needed {
        return Ok(());
    }
    if hard < needed {
        return Err(Failure::config(format!(
            "max_connections = {connections} needs {needed} open files, and this process may have {hard} (systemd: LimitNOFILE=)"
        )));
    }
    setrlimit(Resource::RLIMIT_NOFILE, needed, hard).map_err(failed)
}

#[cfg(test)]
pub use self::exposition::tests::report as sample_report;
