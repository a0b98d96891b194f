//! Getting a certificate: the system's `ssh` to the CA, with the guarded agent forwarded in place of the user's own.

mod command;
mod down;
mod heard;
mod known_hosts;
mod order;
mod probe;
mod revoke;
mod signals;
mod skew;

pub use command::{Missing, Prompting, login_arguments};
pub use heard::{Cause, HostKeyTrouble};
pub use known_hosts::KnownHostsError;
pub use order::{Order, OrderError, REASON_VARIABLE};
pub use probe::probe;
pub use revoke::revoke_all;
pub use skew::Skew;

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use ussh_core::agent::Identity;
use ussh_core::certificate::Certificate;
use ussh_core::clock::{Clock, SystemClock, UnixTime};
use ussh_core::escape::escape;
use ussh_os::process::{self, ProcessHandle};

use crate::certificates::{Judge, NotGood, readable_certificate};
use crate::config::{CA_VARIABLE, CaAddress, CaUser, Config, SYSTEM_FILE};
use crate::exec::{ExecError, find_ssh};
use crate::guard::{CaSide, Guard, GuardError, HomeError, NotAdded, PrivateDirectory};
use crate::keeper::{Keeper, OwnKey};
use crate::status::duration;
use crate::user_agent::{AgentProblem, UserAgent};
use down::Down;
use heard::{Ear, Heard, LIMITS};
use signals::Signals;

/// Why there is no new certificate.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// Nobody to ask.
    #[error("no CA is configured ({CA_VARIABLE}, or `ca` in {SYSTEM_FILE})")]
    NoCa,
    /// The CA could not prove itself.
    #[error("{0}")]
    KnownHosts(#[from] KnownHostsError),
    /// It takes no connection, or is mute.
    #[error("the CA {ca} does not answer: {reason}")]
    NoAnswer {
        /// The CA.
        ca: CaAddress,
        /// In ssh's words.
        reason: String,
    },
    /// It took the connection, and then was silent for too long.
    #[error("the CA {ca} was silent for {}, and is not waited for any longer", duration(LIMITS.silence.as_secs()))]
    Silent {
        /// The CA.
        ca: CaAddress,
    },
    /// The same of several.
    #[error("none of the CAs answers: {0}")]
    NoneAnswers(String),
    /// It did not answer a moment ago, and nobody waits for it anew.
    #[error("the CA {ca} did not answer {} ago, and is asked again in {}", duration(*ago), duration(down::LEFT_ALONE_SECONDS.saturating_sub(*ago)))]
    LeftAlone {
        /// The CA.
        ca: CaAddress,
        /// In seconds.
        ago: u64,
    },
    /// What answers has not proved to be the CA.
    #[error("{}", not_proven(ca, trouble, known_hosts))]
    NotProven {
        /// The CA.
        ca: CaAddress,
        /// What is wrong with its proof.
        trouble: HostKeyTrouble,
        /// The file by which the CA is known.
        known_hosts: PathBuf,
    },
    /// What answers has a host certificate, and is another program.
    #[error("what answers as the CA {ca} is no CA: it announces itself as {program}, and not as usshca")]
    NoUsshca {
        /// The CA.
        ca: CaAddress,
        /// As it has announced itself.
        program: String,
    },
    /// No ssh.
    #[error("{0}")]
    Ssh(#[from] ExecError),
    /// The guarded agent could not be set up or broke.
    #[error("{0}")]
    Guard(#[from] GuardError),
    /// The user's agent is gone.
    #[error("{0}")]
    Agent(#[from] AgentProblem),
    /// `ssh` to the CA failed and no certificate came.
    #[error("the login at the CA {ca} as {user} failed: {}", failed(*denied, *prompting, said))]
    Failed {
        /// The CA.
        ca: CaAddress,
        /// The name used there.
        user: String,
        /// The CA let nobody in: its answer, not an end of the connection.
        denied: bool,
        /// The last that ssh said, or how it ended.
        said: String,
        /// Whether somebody could be asked.
        prompting: Prompting,
    },
    /// The CA let the user in, but gave no certificate; it says why itself.
    #[error("the CA {ca} let {user} in, but gave no certificate")]
    NotGiven {
        /// The CA.
        ca: CaAddress,
        /// The name used there.
        user: String,
        /// It wants a reason.
        wants_reason: bool,
    },
    /// The CA was content, but no good certificate is in the agent.
    #[error("the CA {ca} was content, but no good certificate has come{reason}")]
    NothingCame {
        /// The CA.
        ca: CaAddress,
        /// Empty, or why one that came was not taken.
        reason: String,
        /// Whether that one was for another account.
        somebody_elses: bool,
        /// How far this machine's clock is from the CA's.
        skew: Option<Skew>,
    },
    /// The user's agent would not have it.
    #[error("the agent at {path} ({program}) did not take the certificate of the CA {ca}: {reason}")]
    AgentRefused {
        /// The CA.
        ca: CaAddress,
        /// The agent's socket.
        path: String,
        /// Its program.
        program: String,
        /// What it said.
        reason: String,
    },
    /// It could not be written to files.
    #[error("the certificate of the CA {ca} could not be kept: {reason}")]
    NotKept {
        /// The CA.
        ca: CaAddress,
        /// Why not.
        reason: String,
        /// The certificate is for a key of the user's own.
        own_key: bool,
    },
    /// Somebody else asked for us, and got none.
    #[error("another ussh has asked in the meantime: {0}")]
    Shared(String),
    /// Somebody else asked for us, and no CA was to be had.
    #[error("another ussh has asked in the meantime: {0}")]
    SharedCaFailure(String),
    /// Somebody else asks, and gets no answer.
    #[error("another ussh has been asking for a certificate for {} minutes, and nobody answers it", .0.as_secs() / 60)]
    WaitedInVain(Duration),
    /// The file by which one waits for another.
    #[error("{0}")]
    Line(HomeError),
    /// The user, or somebody else, wants us to end.
    #[error("interrupted")]
    Interrupted(i32),
}

impl From<io::Error> for LoginError {
    fn from(error: io::Error) -> Self {
        LoginError::Guard(error.into())
    }
}

/// How much a certificate is worth waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// It was asked for: every CA is tried.
    Whole,
    /// ssh can go on without: a CA that did not answer a moment ago is left alone.
    Spared,
}

impl LoginError {
    /// Whether another who asked the same at the same moment would get the same answer.
    pub fn concerns_all(&self) -> bool {
        match self {
            LoginError::NoAnswer { .. }
            | LoginError::Silent { .. }
            | LoginError::NoneAnswers(_)
            | LoginError::NotProven { .. }
            | LoginError::NoUsshca { .. }
            | LoginError::Failed { .. }
            | LoginError::NotGiven { .. }
            | LoginError::NothingCame { .. }
            | LoginError::AgentRefused { .. }
            | LoginError::NotKept { .. } => true,
            LoginError::NoCa
            | LoginError::KnownHosts(_)
            | LoginError::LeftAlone { .. }
            | LoginError::Ssh(_)
            | LoginError::Guard(_)
            | LoginError::Agent(_)
            | LoginError::Shared(_)
            | LoginError::SharedCaFailure(_)
            | LoginError::WaitedInVain(_)
            | LoginError::Line(_)
            | LoginError::Interrupted(_) => false,
        }
    }
    /// What is missing to ask anybody, if that is why.
    pub fn missing(&self) -> Option<Missing> {
        if let LoginError::Failed { prompting: Prompting::Impossible(missing), .. } = self {
            Some(*missing)
        } else {
            None
        }
    }
    /// Whether the login came to no session at the CA, so that nothing was done there.
    pub fn is_before_the_session(&self) -> bool {
        (self.is_ca_failure() && !matches!(self, LoginError::Silent { .. }))
            || matches!(
                self,
                LoginError::NoCa
                    | LoginError::KnownHosts(_)
                    | LoginError::Ssh(_)
                    | LoginError::Failed { denied: true, .. }
            )
    }
    /// Whether a certificate had no place here: nothing of the CA's.
    pub fn is_no_place(&self) -> bool {
        match self {
            LoginError::AgentRefused { .. }
            | LoginError::NotKept { .. }
            | LoginError::Line(_)
            | LoginError::Guard(_) => true,
            LoginError::Agent(problem) => problem.is_no_place(),
            LoginError::NoCa
            | LoginError::KnownHosts(_)
            | LoginError::NoAnswer { .. }
            | LoginError::Silent { .. }
            | LoginError::NoneAnswers(_)
            | LoginError::LeftAlone { .. }
            | LoginError::NotProven { .. }
            | LoginError::NoUsshca { .. }
            | LoginError::Ssh(_)
            | LoginError::Failed { .. }
            | LoginError::NotGiven { .. }
            | LoginError::NothingCame { .. }
            | LoginError::Shared(_)
            | LoginError::SharedCaFailure(_)
            | LoginError::WaitedInVain(_)
            | LoginError::Interrupted(_) => false,
        }
    }
    /// Whether the fault lies with the CA or the way there, and not with what was asked of it or what it decided.
    pub fn is_ca_failure(&self) -> bool {
        matches!(
            self,
            LoginError::NoAnswer { .. }
                | LoginError::Silent { .. }
                | LoginError::NoneAnswers(_)
                | LoginError::LeftAlone { .. }
                | LoginError::NotProven { .. }
                | LoginError::NoUsshca { .. }
                | LoginError::SharedCaFailure(_)
        )
    }
}

/// ssh's exit status says nothing to a person.
fn failed(denied: bool, prompting: Prompting, said: &str) -> String {
    match (denied, prompting) {
        (true, Prompting::Possible) => "it did not take the answers (wrong password or code)".to_owned(),
        (true, Prompting::ByProgram) => {
            "it did not take the answers (wrong password or code) of the program that asks (SSH_ASKPASS)".to_owned()
        }
        (true, Prompting::Impossible(_)) => "it has questions, and nobody can be asked".to_owned(),
        (false, _) => said.to_owned(),
    }
}

/// How ssh has failed in a session, or before one, that was none of [`Cause`]s.
fn ended(ca: &CaAddress, user: &CaUser, prompting: Prompting, status: ExitStatus, heard: &Heard) -> LoginError {
    let lines = || heard.said.lines().map(str::trim).filter(|line| !line.is_empty());
    // In a session it would be the CA's own word.
    let was_asked = heard.was_asked || matches!(prompting, Prompting::Impossible(_));
    let denied = status.code() == Some(255)
        && was_asked
        && !heard.is_in
        && lines().any(|line| line.contains(": Permission denied ("));
    let said = match (status.code(), lines().next_back()) {
        (Some(255), Some(line)) => escape(line.as_bytes(), MAX_SAID),
        (Some(255), None) => "ssh has ended without a word".to_owned(),
        _ => status.to_string(),
    };
    LoginError::Failed { ca: ca.clone(), user: user.as_str().to_owned(), denied, said, prompting }
}

/// Most of a line of ssh's that is repeated, bytes.
const MAX_SAID: usize = 200;

/// Logs in at the first CA that answers and proves itself; gives the certificate that has come.
/// # Errors
/// [`LoginError`]
pub fn log_in(
    config: &Config,
    keeper: &Keeper,
    judge: &Judge,
    order: &Order,
    effort: Effort,
) -> Result<Certificate, LoginError> {
    if config.cas.is_empty() {
        return Err(LoginError::NoCa);
    }
    keeper.make_room()?;
    let uid = process::real_uid();
    let known_hosts = known_hosts::check(&config.known_hosts, uid)?;
    let ways = Ways { config, keeper, judge, order, ssh: find_ssh()?, known_hosts, uid };
    let now = SystemClock.now();
    let mut down = Down::load(uid, now);
    let (left_alone, mut order): (Vec<_>, Vec<_>) = config.cas.iter().partition(|ca| down.since(ca).is_some());
    if effort == Effort::Whole {
        order.extend(&left_alone);
    }
    let mut failures = Vec::new();
    let count = order.len();
    for (position, ca) in order.into_iter().enumerate() {
        match ways.log_in_at(ca) {
            Err(LoginError::NoAnswer { ca, reason }) => {
                down.note(&ca, SystemClock.now());
                failures.push(LoginError::NoAnswer { ca, reason });
            }
            Err(error @ LoginError::Silent { .. }) => {
                down.note(ca, SystemClock.now());
                failures.push(error);
            }
            Err(error @ (LoginError::NotProven { .. } | LoginError::NoUsshca { .. })) => {
                if position + 1 < count {
                    eprintln!("ussh: {error}");
                }
                failures.push(error);
            }
            other => {
                down.forget(ca);
                return other;
            }
        }
    }
    Err(without_any(failures, left_alone.first().and_then(|ca| Some(((*ca).clone(), down.since(ca)?))), now))
}

/// Nobody proved to be a CA. One that is somebody else is worse than one that is down, and than one that is a host of ours.
fn without_any(failures: Vec<LoginError>, left_alone: Option<(CaAddress, UnixTime)>, now: UnixTime) -> LoginError {
    let several = failures.iter().map(|failure| {
        if let LoginError::NoAnswer { ca, reason } = failure { format!("{ca}: {reason}") } else { failure.to_string() }
    });
    let several = several.collect::<Vec<_>>().join(", ");
    let count = failures.len();
    let badness = |failure: &LoginError| {
        (matches!(failure, LoginError::NotProven { .. }), matches!(failure, LoginError::NoUsshca { .. }))
    };
    match failures.into_iter().max_by_key(badness) {
        Some(failure) if count == 1 || badness(&failure) > (false, false) => failure,
        Some(_) => LoginError::NoneAnswers(several),
        None => match left_alone {
            Some((ca, since)) => LoginError::LeftAlone { ca, ago: now.0.saturating_sub(since.0) },
            None => LoginError::NoCa,
        },
    }
}

/// What a login at any CA takes.
struct Ways<'a> {
    config: &'a Config,
    keeper: &'a Keeper,
    judge: &'a Judge,
    order: &'a Order,
    ssh: PathBuf,
    /// The real path of what was checked.
    known_hosts: String,
    uid: u32,
}

impl Ways<'_> {
    fn log_in_at(&self, ca: &CaAddress) -> Result<Certificate, LoginError> {
        let user = self.judge.user();
        eprintln!("ussh: logging in at {ca} as {}", user.as_str());
        let side = CaSide::new(self.keeper.clone(), self.judge.clone(), Box::new(SystemClock));
        let folder = PrivateDirectory::new(self.uid)
            .map_err(|error| io::Error::new(error.kind(), format!("no folder for its socket: {error}")))?;
        let guard = Guard::open(side, folder, self.uid)?;
        let prompting = Prompting::of_this_process();
        let mut arguments = login_arguments(self.config, ca, user, &self.known_hosts, &guard.socket(), prompting);
        let input = match self.keeper {
            Keeper::OwnKey(own) => {
                arguments.push("sign".to_owned());
                Some(own.key.to_openssh("client_key") + "\n")
            }
            Keeper::Agent(_) | Keeper::Files(_) => None,
        };
        arguments.extend(self.order.words());
        let keeps = match self.keeper {
            Keeper::Agent(_) => "agent",
            Keeper::Files(_) => "files",
            Keeper::OwnKey(_) => "certificate",
        };
        // What the CA says then fits (usshca-front, text.rs `Keeps`); one from before pays no heed.
        arguments.splice(..0, ["-o".to_owned(), format!("SetEnv=USSH={keeps}")]);
        let Ended { status, heard, side, printed } =
            run(&self.ssh, &arguments, input.as_deref(), prompting, guard, ca)?;
        if let Some(program) = heard.no_ca {
            return Err(LoginError::NoUsshca { ca: ca.clone(), program });
        }
        if std::env::var_os("USSH_DEBUG").is_some() {
            let (requests, refused) = side.counts();
            eprintln!("ussh: debug: the CA asked the guarded agent {requests} times, {refused} refused");
        }
        if let Keeper::OwnKey(own) = self.keeper
            && status.as_ref().is_ok_and(ExitStatus::success)
        {
            return self.take_printed(ca, own, &printed);
        }
        if let Some(certificate) = good_among(side.added(), self.keeper, self.judge)? {
            if let Some(reason) = side.last_not_added() {
                eprintln!("ussh: the CA {ca} also offered a key that was not taken: {reason}");
            }
            if let Some(skew) = side.skew() {
                eprintln!("ussh: {skew}");
            }
            return Ok(certificate);
        }
        if heard.was_given_up {
            return Err(LoginError::Silent { ca: ca.clone() });
        }
        // ssh's own exit status: a CA that let the user in has said the rest itself.
        if status.as_ref().is_ok_and(|status| status.code() == Some(255)) {
            match heard.cause() {
                Some(Cause::NoAnswer(reason)) => return Err(LoginError::NoAnswer { ca: ca.clone(), reason }),
                Some(Cause::NotProven(trouble)) => {
                    let known_hosts = self.config.known_hosts.clone();
                    return Err(LoginError::NotProven { ca: ca.clone(), trouble, known_hosts });
                }
                None => {}
            }
        }
        Err(explain(ca, self.keeper, user, prompting, status, &heard, &side))
    }
}

impl Ways<'_> {
    /// The certificate of the user's own key, as the CA has printed it.
    fn take_printed(&self, ca: &CaAddress, own: &OwnKey, printed: &[u8]) -> Result<Certificate, LoginError> {
        let now = SystemClock.now();
        let nothing = |reason: String, somebody_elses, skew| LoginError::NothingCame {
            ca: ca.clone(),
            reason: format!("; the one it gave was not taken: {reason}"),
            somebody_elses,
            skew,
        };
        let text = String::from_utf8_lossy(printed);
        let certificate = Certificate::from_openssh(text.trim()).map_err(|e| nothing(e.to_string(), false, None))?;
        if *certificate.public_key() != own.key {
            return Err(nothing("it is another key's".to_owned(), false, None));
        }
        let skew = Skew::of(&certificate, now);
        if let Err(reason) = self.judge.verify(&certificate, now) {
            let somebody_elses = matches!(reason, NotGood::SomebodyElses { .. });
            return Err(nothing(reason.to_string(), somebody_elses, skew));
        }
        if let Some(skew) = skew {
            eprintln!("ussh: {skew}");
        }
        own.files.put_certificate(&certificate, "client_key").map_err(|error| LoginError::NotKept {
            ca: ca.clone(),
            reason: error.to_string(),
            own_key: true,
        })?;
        Ok(certificate)
    }
}

/// What it means. Until the CA has proved itself ssh sends it nothing but the user's name.
fn not_proven(ca: &CaAddress, trouble: &HostKeyTrouble, known_hosts: &Path) -> String {
    let clock = || {
        let now = std::time::UNIX_EPOCH + Duration::from_secs(SystemClock.now().0);
        format!("by this machine's clock, which says {}", humantime::format_rfc3339_seconds(now))
    };
    let file = known_hosts.display();
    match trouble {
        HostKeyTrouble::NoCertificate => format!(
            "what answers as the CA {ca} has no host certificate: another machine has its address, or the CA's host key was changed and not certified"
        ),
        HostKeyTrouble::Expired => format!("the host certificate of the CA {ca} has expired {}", clock()),
        HostKeyTrouble::NotYetValid => {
            format!("the host certificate of the CA {ca} is not valid yet {}", clock())
        }
        HostKeyTrouble::OtherName => format!(
            "what answers as the CA {ca} has a host certificate for another name: another of your hosts has its address, or `ca` is not the name that is certified"
        ),
        HostKeyTrouble::OtherCa => format!(
            "the host certificate of what answers as the CA {ca} is not signed by a key in {file}: somebody stands in between, or your host CA has another key now"
        ),
        HostKeyTrouble::Revoked => {
            format!("the host key of what answers as the CA {ca} is marked as revoked in {file}")
        }
    }
}

/// Most that is taken of what the CA prints, bytes: what can be kept.
const MAX_PRINTED: u64 = crate::files::MAX_FILE;

/// How ssh ended.
struct Ended {
    status: io::Result<ExitStatus>,
    heard: Heard,
    side: CaSide,
    /// On standard output, where it was given something on standard input.
    printed: Vec<u8>,
}

/// Runs ssh and serves the guarded agent to it until it ends.
fn run(
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

/// Looks again: only what is really there now counts. What this login brought, or what another brought in its place meanwhile.
/// However short its life is: asking the same CA again would bring no better one.
fn good_among(added: &[Identity], keeper: &Keeper, judge: &Judge) -> Result<Option<Certificate>, LoginError> {
    let now = SystemClock.now();
    let came: Vec<_> = added.iter().filter_map(readable_certificate).collect();
    let is_as_new = |there: &Certificate| {
        came.iter().any(|came| came.same_lineage(there) && came.login_time() <= there.login_time())
    };
    let listed = keeper.list()?;
    let good = listed.iter().filter_map(readable_certificate);
    let good = good.filter(|there| is_as_new(there) && judge.verify(there, now).is_ok());
    Ok(good.max_by_key(|there| came.iter().any(|came| came.blob() == there.blob())))
}

fn explain(
    ca: &CaAddress,
    keeper: &Keeper,
    user: &CaUser,
    prompting: Prompting,
    status: io::Result<ExitStatus>,
    heard: &Heard,
    side: &CaSide,
) -> LoginError {
    let ca = ca.clone();
    match (status, side.last_not_added()) {
        (_, Some(NotAdded::Agent(reason))) => LoginError::AgentRefused {
            ca,
            path: keeper.place().display().to_string(),
            program: keeper.agent().and_then(UserAgent::program).unwrap_or_else(|| "unknown".to_owned()),
            reason: reason.to_string(),
        },
        (_, Some(reason @ (NotAdded::Files(_) | NotAdded::KeyKind))) => {
            LoginError::NotKept { ca, reason: reason.to_string(), own_key: false }
        }
        (_, Some(reason)) => {
            let somebody_elses = matches!(reason, NotAdded::NotGood(NotGood::SomebodyElses { .. }));
            let clock = side.skew().map(|skew| format!("; {skew}")).unwrap_or_default();
            let reason = format!("; the one it offered was not taken: {reason}{clock}");
            LoginError::NothingCame { ca, reason, somebody_elses, skew: side.skew() }
        }
        // 255 is ssh's own, anything else comes from the session at the CA.
        (Ok(status), None) if status.code().is_some_and(|code| !matches!(code, 0 | 255)) => {
            // As the CA says it (usshca's signer, `refused`).
            let wants_reason = heard.said.contains("wants a reason");
            LoginError::NotGiven { ca, user: user.as_str().to_owned(), wants_reason }
        }
        (Ok(status), None) if !status.success() => ended(&ca, user, prompting, status, heard),
        (_, None) => LoginError::NothingCame { ca, reason: String::new(), somebody_elses: false, skew: None },
    }
}

#[cfg(test)]
mod tests;
