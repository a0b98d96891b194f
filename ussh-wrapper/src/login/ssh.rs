//! Running ssh to the CA, with the guarded agent served to it until it ends.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::sys::signal::Signal;
use ussh_os::process::{self, ProcessHandle};

use super::heard::{Ear, Heard, LIMITS};
use super::signals::Signals;
use super::{LoginError, Prompting};
use crate::config::CaAddress;
use crate::exec::ExecError;
use crate::guard::{CaSide, Guard};

/// Most that is taken of what the CA prints, bytes: what can be kept.
const MAX_PRINTED: u64 = crate::files::MAX_FILE;

/// How ssh ended.
pub(super) struct Ended {
    pub(super) status: io::Result<ExitStatus>,
    /// What it and the CA have said.
    pub(super) heard: Heard,
    /// What the guarded agent was asked for.
    pub(super) side: CaSide,
    /// On standard output, where it was given something on standard input.
    pub(super) printed: Vec<u8>,
}

/// Runs ssh and serves the guarded agent to it until it ends.
pub(super) fn run(
    ssh: &Path,
    arguments: &[String],
    input: Option<&str>,
    prompting: Prompting,
    mut guard: Guard,
    ca: &CaAddress,
) -> Result<Ended, LoginError> {
    // Private keys pass through this process. ssh is dumpable again by its exec.
    nix::sys::prctl::set_dumpable(false).map_err(io::Error::from)?;
    let mut child = spawn(ssh, arguments, input.is_some(), prompting)?;
    if let (Some(mut pipe), Some(input)) = (child.stdin.take(), input) {
        // A line fits into the pipe. An ssh that has gone says itself why.
        let _ = pipe.write_all(input.as_bytes());
    }
    let printed = child.stdout.take().map(|mut pipe| {
        std::thread::spawn(move || {
            let mut printed = Vec::new();
            let _ = pipe.by_ref().take(MAX_PRINTED).read_to_end(&mut printed);
            // Whatever else comes is nobody's, and must not stop ssh.
            let _ = io::copy(&mut pipe, &mut io::sink());
            printed
        })
    });
    let ear = Ear::listen(&mut child, ca, LIMITS);
    let attended = attend(&child, &mut guard);
    if attended.is_err() {
        // Without its agent it would only ask for a password in vain.
        let _ = child.kill();
    }
    let status = child.wait();
    let heard = ear.map(Ear::heard).unwrap_or_default();
    let printed = printed.and_then(|reader| reader.join().ok()).unwrap_or_default();
    // The socket and its folder go before a signal can end us.
    let side = guard.into_side();
    match attended?.end()? {
        Some(signal) => Err(LoginError::Interrupted(signal)),
        None => Ok(Ended { status, heard, side, printed }),
    }
}

/// Until ssh has ended; the signals are still blocked then.
fn attend(child: &Child, guard: &mut Guard) -> Result<Signals, LoginError> {
    // Only now: a child inherits blocked signals, and ssh must get its Ctrl-C.
    let signals = Signals::block()?;
    let opened = process::start_time(child.id()).and_then(|start| ProcessHandle::open(child.id(), start));
    match opened {
        Ok(handle) => {
            guard.serve(handle.as_fd(), signals.as_fd(), &mut || signals.pass_on(&handle))?;
        }
        // It has ended already, and was reaped because our parent had us ignore SIGCHLD.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    Ok(signals)
}

fn spawn(ssh: &Path, arguments: &[String], has_input: bool, prompting: Prompting) -> Result<Child, LoginError> {
    // The CA's words must not get into the output of the command that the user is running.
    let output = || Ok::<_, io::Error>(Stdio::from(io::stderr().as_fd().try_clone_to_owned()?));
    let (input, output) = if has_input { (Stdio::piped(), Stdio::piped()) } else { (Stdio::null(), output()?) };
    let mut command = Command::new(ssh);
    prompting.tell(&mut command);
    command.args(arguments).env_remove("SSH_AUTH_SOCK").stdin(input).stdout(output).stderr(Stdio::piped());
    // Left alone it would go on asking at the terminal, with nobody to take a certificate, while the next in line asks too. By this signal it gives the terminal back as it was.
    process::end_with_parent(&mut command, Signal::SIGTERM as i32);
    command.spawn().map_err(|source| ExecError::Failed { path: ssh.to_path_buf(), source }.into())
}
