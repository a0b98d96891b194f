//! What each invocation does, from top to bottom.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::process::ExitCode;

use ussh_core::certificate::Certificate;
use ussh_core::clock::{Clock, SystemClock, UnixTime};
use ussh_core::escape::escape;

use crate::arguments::{AgentChoice, Invocation, LogForm, Purpose, StatusForm};
use crate::certificates::{self, Held, Judge};
use crate::config::{Config, Forward, OnCaFailure, Sources};
use crate::exec::become_ssh;
use crate::failure::Failure;
use crate::forward::{self, Destination};
use crate::guard::journal::Journal;
use crate::guard::{Home, serve_hosts};
use crate::help;
use crate::login::{Effort, log_in};
use crate::status::{Status, duration};
use crate::user_agent::{AgentProblem, UserAgent};
use crate::why::Report;

/// Carries it out; returns if that is not by becoming ssh.
/// # Errors
/// [`Failure`]
pub fn run(invocation: Invocation) -> Result<ExitCode, Failure> {
    match invocation {
        Invocation::Ssh { arguments, purpose: Purpose::StaysLocal } => Err(become_ssh(&arguments).into()),
        Invocation::Ssh { arguments, purpose: Purpose::Connects } => connect(arguments),
        Invocation::Force(arguments) if !arguments.is_empty() => force(&arguments),
        // The CA has said what it gave.
        Invocation::Force(_) | Invocation::Login => Context::load()?.log_in(Effort::Whole).map(|_| ExitCode::SUCCESS),
        Invocation::Ensure => ensure(),
        Invocation::Logout => logout(),
        Invocation::Check => check(),
        Invocation::Status(form) => status(form),
        Invocation::Agent => agent(),
        Invocation::AgentServe => Ok(serve_hosts().map(|()| ExitCode::SUCCESS)?),
        Invocation::Log(form) => log(form),
        Invocation::Why(host) => why(&host),
        Invocation::Help => print(&help::help()),
        Invocation::Version => print(help::VERSION),
    }
}

/// Sees to the certificate, where the host is one of ours, and to what is forwarded there; then ssh it is.
fn connect(arguments: Vec<OsString>) -> Result<ExitCode, Failure> {
    let context = Context::load()?;
    let good = context.good_certificate();
    // Where nothing is left to find out, ssh need not be asked.
    if matches!(good, Ok(Some(_))) && AgentChoice::of(&arguments) == AgentChoice::Made {
        return Err(become_ssh(&arguments).into());
    }
    let Destination::Ours { forward } = Destination::find(&context.config, &arguments, context.uid) else {
        return Err(become_ssh(&arguments).into());
    };
    if good?.is_none() {
        context.log_in_or_go_on()?;
    }
    go_on(&context, forward, arguments)
}

fn go_on(context: &Context, forward: Option<Forward>, arguments: Vec<OsString>) -> Result<ExitCode, Failure> {
    let mut all = forward::options(forward, &UserAgent::from_environment()?, context.uid);
    all.extend(arguments);
    Err(become_ssh(&all).into())
}

/// What nearly every run needs.
struct Context {
    config: Config,
    judge: Judge,
    uid: u32,
}

impl Context {
    fn load() -> Result<Self, Failure> {
        let sources = Sources::of_this_process();
        let config = Config::load(&sources)?;
        let judge = Judge::load(&config, config.user_at_ca(sources.uid)?, sources.uid)?;
        Ok(Context { config, judge, uid: sources.uid })
    }
    fn good_certificate(&self) -> Result<Option<Certificate>, AgentProblem> {
        let agent = UserAgent::from_environment()?;
        certificates::find_good(&mut agent.connect()?, &self.judge, SystemClock.now())
            .map_err(|error| agent.broken(error))
    }
    /// Where the CA fails, and is not to stop everything, ssh has what else it has: the host may let somebody in without.
    fn log_in_or_go_on(&self) -> Result<(), Failure> {
        let effort = match self.config.on_ca_failure {
            OnCaFailure::Continue => Effort::Spared,
            OnCaFailure::Stop => Effort::Whole,
        };
        match self.log_in(effort) {
            Ok(_) => Ok(()),
            Err(failure) if effort == Effort::Spared && failure.is_ca_failure() => {
                failure.tell();
                eprintln!("ussh: ssh goes on without a certificate");
                Ok(())
            }
            Err(failure) => Err(failure),
        }
    }
    fn log_in(&self, effort: Effort) -> Result<Certificate, Failure> {
        let agent = UserAgent::from_environment()?;
        // Better now than after the password.
        drop(agent.connect()?);
        Ok(log_in(&self.config, &agent, &self.judge, effort)?)
    }
    fn held(&self, agent: &UserAgent, now: UnixTime) -> Result<Vec<Held>, AgentProblem> {
        certificates::held(&mut agent.connect()?, &self.judge, now).map_err(|error| agent.broken(error))
    }
}

fn ensure() -> Result<ExitCode, Failure> {
    let context = Context::load()?;
    match context.good_certificate()? {
        Some(certificate) => announce(&certificate),
        None => context.log_in(Effort::Whole).map(|_| ExitCode::SUCCESS),
    }
}

fn force(arguments: &[OsString]) -> Result<ExitCode, Failure> {
    let context = Context::load()?;
    context.log_in(Effort::Whole)?;
    let forward = match Destination::find(&context.config, arguments, context.uid) {
        Destination::Ours { forward } => forward,
        Destination::NotOurs => None,
    };
    go_on(&context, forward, arguments.to_vec())
}

/// The guarded agent runs, and this is its socket: for a `ForwardAgent` of one's own.
fn agent() -> Result<ExitCode, Failure> {
    let context = Context::load()?;
    let agent = UserAgent::from_environment()?;
    drop(agent.connect()?);
    let socket = Home::open(context.uid)?.running(&agent)?;
    print(&format!("{}\n", socket.display()))
}

fn log(form: LogForm) -> Result<ExitCode, Failure> {
    let lines = Journal::of_this_user().read().map_err(Failure::Log)?.into_iter().map(|entry| match form {
        LogForm::Text => entry.to_text() + "\n",
        LogForm::Json => serde_json::to_string(&entry).unwrap_or_default() + "\n",
    });
    print(&lines.collect::<String>())
}

fn logout() -> Result<ExitCode, Failure> {
    let context = Context::load()?;
    let agent = UserAgent::from_environment()?;
    let held = context.held(&agent, SystemClock.now())?;
    let mut connection = agent.connect()?;
    for held in &held {
        connection.remove(held.certificate.blob()).map_err(|error| agent.broken(error))?;
    }
    // What it stood for is gone; the next `ussh HOST` starts it anew.
    if let Ok(home) = Home::open(context.uid) {
        home.dismiss(&agent);
    }
    print(&format!("{} certificate{} removed\n", held.len(), if held.len() == 1 { "" } else { "s" }))
}

/// No agent is an answer here, not a failure; a broken configuration is one.
fn check() -> Result<ExitCode, Failure> {
    let found = Context::load()?.good_certificate();
    Ok(if matches!(found, Ok(Some(_))) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn status(form: StatusForm) -> Result<ExitCode, Failure> {
    let context = Context::load()?;
    let now = SystemClock.now();
    let held = UserAgent::from_environment().and_then(|agent| {
        let held = context.held(&agent, now)?;
        Ok((agent.path().display().to_string(), held))
    });
    let status = Status::new(&context.config, held, now);
    print(&match form {
        StatusForm::Text => status.to_text(),
        StatusForm::Json => status.to_json(),
        StatusForm::Prompt => status.to_prompt(),
    })?;
    Ok(if status.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn why(host: &OsStr) -> Result<ExitCode, Failure> {
    let report = Report::on(host);
    print(&report.to_text())?;
    Ok(if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn announce(certificate: &Certificate) -> Result<ExitCode, Failure> {
    let left = match certificate.valid_before() {
        UnixTime::FOREVER => "for ever".to_owned(),
        end => format!("for another {}", duration(end.0.saturating_sub(SystemClock.now().0))),
    };
    print(&format!(
        "certificate ID \"{}\" serial {}, good {left}\n",
        escape(certificate.key_id(), 256),
        certificate.serial()
    ))
}

/// Whoever closes our stdout does not want to read it.
fn print(text: &str) -> Result<ExitCode, Failure> {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    Ok(ExitCode::SUCCESS)
}
