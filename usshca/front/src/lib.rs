//! `usshca-front`: one SSH connection to the CA.
//!
//! Process: one per connection, made by the supervisor. uid: `usshca-front`; no capabilities, NoNewPrivs, a seccomp filter without open, socket, exec or fork.
//! Trusted: its setup. Untrusted: every byte from the network and from the forwarded agent.
//!
//! It holds the CA machine's SSH host key, passwords while they are typed, and the subject key until the user's agent has it. It can ask for two things: a PAM worker, and
//! a certificate for whoever passed PAM on this very connection, or whose registered key signed the signer's own message for it.
#![forbid(unsafe_code)]

mod admin;
mod agent;
mod certify;
pub mod channel;
mod doors;
mod feed;
mod handler;
mod host;
pub mod login;
mod mine;
mod prove;
pub mod session;
mod sign;
mod signer;
mod strict_kex;
pub mod text;
pub mod transport;
pub mod wish;
pub mod words;

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use russh::Disconnect;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use ussh_os::process;
use ussh_os::sandbox::{self, Profile};
use ussh_os::seqpacket::SeqPacket;
use usshca_ipc::by_hand;
use usshca_ipc::channel::decode;
use usshca_ipc::front::{FrontSetup, descriptors};
use zeroize::{Zeroize, Zeroizing};

use crate::channel::Channel;
use crate::handler::{Handler, Phase};
use crate::login::Login;
use crate::signer::Signer;
use crate::transport::{Hangup, Transport};

/// Most bytes of a setup.
const MAX_SETUP: u64 = 256 * 1024;
/// Address space, in bytes: russh's buffers are bounded, and this is the bound behind them.
const ADDRESS_SPACE: u64 = 512 << 20;
/// CPU time of one connection, in seconds.
const CPU_SECONDS: u64 = 30;
/// Open files.
const OPEN_FILES: u64 = 32;
/// How long it takes at most to send the client away.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The program. It is a library too, so that the parsers in it can be fuzzed.
pub fn main() -> ExitCode {
    if let Some(complaint) = by_hand::complaint("usshca-front") {
        // Nothing can be done about a closed stderr here.
        let _ = io::stderr().write_all(complaint.as_bytes());
        return ExitCode::from(by_hand::EX_USAGE);
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            say(&format!("cannot serve: {e}"));
            ExitCode::from(70)
        }
    }
}

/// One line for the supervisor's log. (eprintln! would panic were the supervisor gone.)
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

fn run() -> io::Result<()> {
    let tcp = TcpStream::from(process::inherited_descriptor(descriptors::TCP)?);
    let supervisor = SeqPacket::from_fd(process::inherited_descriptor(descriptors::SUPERVISOR)?)?;
    let signer = SeqPacket::from_fd(process::inherited_descriptor(descriptors::SIGNER)?)?;
    let setup = process::inherited_descriptor(descriptors::SETUP)?;
    process::redirect_output(process::inherited_descriptor(descriptors::LOG)?)?;
    process::harden_memory()?;
    let mut setup = read_setup(setup)?;
    let config = handler::config(&setup);
    setup.host_key.zeroize();
    let config = Arc::new(config?);

    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let guard = runtime.enter();
    let hangup = Hangup::watch(&tcp)?;
    let transport = Transport::new(tcp)?;
    let (phase, phases) = watch::channel(Phase::Login);
    let grace = Duration::from_secs(setup.login_grace_seconds.into());
    // russh does not send anybody away while it waits for the login.
    let deadline = Instant::now() + grace.saturating_sub(LAST_WORDS);
    let login = Login::new(Channel::new(supervisor)?, hangup, setup.max_attempts, deadline);
    let handler = Handler::new(login, Signer::new(Channel::new(signer)?), phase, setup.ca_name);
    drop(guard);

    // Not a byte has been read from the network so far.
    sandbox::limit(Some(ADDRESS_SPACE), Some(CPU_SECONDS), Some(OPEN_FILES))?;
    sandbox::enter(Profile::Front)?;
    runtime.block_on(serve(config, transport, handler, phases, grace));
    Ok(())
}

fn read_setup(file: OwnedFd) -> io::Result<FrontSetup> {
    let mut bytes = Zeroizing::new(Vec::new());
    File::from(file).take(MAX_SETUP).read_to_end(&mut bytes)?;
    decode(&bytes).map_err(io::Error::other)
}

/// Serves until the client goes, or the time of the present phase is up. However it ends is the client's affair, and no failure of ours.
async fn serve(
    config: Arc<russh::server::Config>,
    transport: Transport,
    handler: Handler,
    mut phases: watch::Receiver<Phase>,
    grace: Duration,
) {
    let mut deadline = Instant::now() + grace;
    let greeted = timeout_at(deadline, russh::server::run_stream(config, transport, handler)).await;
    let mut running = match greeted {
        Ok(Ok(running)) => running,
        Ok(Err(e)) => return say(&format!("connection ended: {e}")),
        Err(_) => return say(Phase::Login.overtime()),
    };
    loop {
        tokio::select! {
            result = &mut running => {
                if let Err(e) = result {
                    say(&format!("connection ended: {e}"));
                }
                return;
            }
            Ok(()) = phases.changed() => {
                let phase = *phases.borrow();
                deadline = Instant::now() + phase.patience(grace);
            }
            () = sleep_until(deadline) => {
                let why = phases.borrow().overtime();
                say(why);
                let handle = running.handle();
                let told = handle.disconnect(Disconnect::ByApplication, why.to_owned(), String::new()).await;
                if told.is_ok() {
                    // A client that is still there reads them and goes.
                    let _ = timeout(LAST_WORDS, running).await;
                }
                return;
            }
        }
    }
}
