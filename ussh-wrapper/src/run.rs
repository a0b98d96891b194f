//! What each invocation does, from top to bottom.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::process::ExitCode;

use ussh_core::certificate::Certificate;
use ussh_core::clock::{Clock, SystemClock, UnixTime};
use ussh_core::escape::escape;
use ussh_os::account::Account;

use crate::arguments::{AgentChoice, Invocation, LogForm, Purpose, StatusForm};
use crate::certificates::{self, Held, Judge, Standing};
use crate::config::{Config, Forward, HostRule, KeepIn, OnCaFailure, Sources};
use crate::exec::{become_ssh, become_ssh_with};
use crate::failure::Failure;
use crate::files::{Files, Swept};
use crate::flight::{Line, Moment, Outcome, Turn};
use crate::forward::{self, Destination};
use crate::guard::journal::Journal;
use crate::guard::{Home, HomeError, confirm_here, link, serve_hosts};
use crate::help;
use crate::keeper::Keeper;
use crate::login::{Effort, LoginError, Order, Prompting, log_in};
use crate::logout::{logout, logout_everywhere};
use crate::proxy::{Target, hand_over};
use crate::ssh_config::{self, Places, Wishes};
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
        Invocation::Force(arguments) if !arguments.is_empty() => force(Order::default(), &arguments),
        Invocation::ForReason { order, arguments } if !arguments.is_empty() => force(order, &arguments),
        Invocation::Force(_) => log_in_now(Order::default()),
        Invocation::Login(order) | Invocation::ForReason { order, .. } => log_in_now(order),
        Invocation::Ensure => ensure(),
        Invocation::Logout => logout(),
        Invocation::LogoutEverywhere => logout_everywhere(),
        Invocation::Check => check(),
        Invocation::CheckAndForward => check_and_forward(),
        Invocation::Proxy { host, port } => proxy(&Target::parse(&host, &port)?),
        Invocation::WriteConfig(wishes) => write_config(&wishes),
        Invocation::RemoveConfig(wishes) => {
            let places = Places::of_this_process(wishes.system, ussh_os::process::real_uid())?;
            print(&ssh_config::remove(&places, &wishes)?)
        }
        Invocation::Status(form) => status(form),
        Invocation::Agent => agent(),
        Invocation::AgentServe => Ok(serve_hosts().map(|()| ExitCode::SUCCESS)?),
        Invocation::Log(form) => log(form),
        Invocation::Confirm => Ok(confirm_here().map(|()| ExitCode::SUCCESS)?),
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
    if matches!(good, Ok(Some(_)))
        && AgentChoice::of(&arguments) == AgentChoice::Made
        && let Keeper::Agent(agent) = context.keeper()?
    {
        return Err(become_ssh_with(&arguments, Some(agent.path())).into());
    }
    let Destination::Ours { forward } = Destination::find(&context.config, &arguments, context.uid) else {
        return Err(become_ssh(&arguments).into());
    };
    context.see_to_certificate(good)?;
    go_on(&context, forward, arguments)
}

fn go_on(context: &Context, forward: Option<Forward>, arguments: Vec<OsString>) -> Result<ExitCode, Failure> {
    let keeper = match context.keeper() {
        Ok(keeper) => keeper,
        // It has been told, and ssh goes on without.
        Err(problem) if problem.is_no_agent() || problem.is_no_place() => return Err(become_ssh(&arguments).into()),
        Err(problem) => return Err(problem.into()),
    };
    let mut all = keeper.options(|| forward::other_keys(&arguments));
    all.extend(forward::options(forward, &keeper, context.uid));
    all.extend(arguments);
    // Without an agent of its own ssh forwards none (ssh.c `check_agent_present`). It signs with the key's file all the same.
    let in_front = match keeper {
        Keeper::Files(_) if forward == Some(Forward::Guarded) && !keeper.is_empty() && no_agent_for_ssh().is_some() => {
            Home::open(context.uid).and_then(|home| home.running(&keeper)).ok()
        }
        Keeper::Files(_) | Keeper::Agent(_) | Keeper::OwnKey(_) => None,
    };
    let agent = keeper.agent().map(UserAgent::path).or(in_front.as_deref());
    Err(become_ssh_with(&all, agent).into())
}

/// What nearly every run needs.
struct Context {
    config: Config,
    judge: Judge,
    uid: u32,
    began: Moment,
    /// What the command line asks of the CA.
    order: Order,
    /// What of these has ended, and is removed.
    swept: Vec<Swept>,
}

/// A certificate that has just come.
struct Got {
    certificate: Certificate,
    /// Another `ussh` asked for it: the CA has not said here what it gave.
    by_another: bool,
}

impl Context {
    fn load() -> Result<Self, Failure> {
        let began = Moment::now();
        let sources = Sources::of_this_process();
        let config = Config::load(&sources)?;
        let judge = Judge::load(&config, config.user_at_ca(sources.uid)?, sources.uid)?;
        // Whether or not they are what the configuration means.
        let files = Files::of_user(sources.uid).map_or(Vec::new(), |files| vec![files.for_own_key(), files]);
        let swept = files.iter().filter_map(|files| files.sweep(SystemClock.now())).collect();
        Ok(Context { config, judge, uid: sources.uid, began, swept, order: Order::default() })
    }
    fn keeper(&self) -> Result<Keeper, AgentProblem> {
        Keeper::of(&self.config, self.uid, UserAgent::from_environment)
    }
    fn keeps_in_files(&self) -> bool {
        self.config.keep_in == KeepIn::Files
    }
    fn good_certificate(&self) -> Result<Option<Certificate>, AgentProblem> {
        Ok(certificates::find_good(&self.keeper()?.list()?, &self.judge, SystemClock.now()))
    }
    /// Where none was found, gets one. Where the CA fails, and is not to stop everything, ssh has what else it has: the host may let somebody in without.
    fn see_to_certificate(&self, found: Result<Option<Certificate>, AgentProblem>) -> Result<(), Failure> {
        match found {
            Ok(Some(_)) => return Ok(()),
            Ok(None) => {}
            Err(problem) if problem.is_no_agent() => {}
            Err(problem) => return self.without(problem.into()),
        }
        let effort = match self.config.on_ca_failure {
            OnCaFailure::Continue => Effort::Spared,
            OnCaFailure::Stop => Effort::Whole,
        };
        self.log_in(effort).map_or_else(|failure| self.without(failure), |_| Ok(()))
    }
    /// ssh may have other ways in, a break-glass key for instance: a CA that is down is no reason to keep it from them, nor is a place for the certificate that cannot be had.
    fn without(&self, failure: Failure) -> Result<(), Failure> {
        if self.config.on_ca_failure == OnCaFailure::Stop || !(failure.is_ca_failure() || failure.is_no_place()) {
            return Err(failure);
        }
        failure.tell();
        eprintln!("ussh: ssh goes on without a certificate");
        Ok(())
    }
    /// Has the guarded agent run where the written ssh_config looks for it.
    fn see_to_agent(&self) -> Result<(), Failure> {
        let socket = Home::open(self.uid)?.running(&self.keeper()?)?;
        if let Some(account) = Account::by_uid(self.uid).ok().flatten() {
            link::lead_to(&account.home, &socket).map_err(|source| HomeError::Io { path: socket, source })?;
        }
        Ok(())
    }
    /// Files, or the user's agent; where there is none, one that is started.
    fn keeper_for_login(&self) -> Result<Keeper, AgentProblem> {
        if self.keeps_in_files() {
            return self.keeper();
        }
        if self.config.client_key.is_some() {
            let keeper = self.keeper()?;
            return match &keeper {
                Keeper::OwnKey(own) if !own.is_there()? => Err(AgentProblem::KeyMissing {
                    path: own.agent.path().to_path_buf(),
                    fingerprint: own.key.fingerprint(),
                }),
                Keeper::Agent(_) | Keeper::Files(_) | Keeper::OwnKey(_) => Ok(keeper),
            };
        }
        let found = UserAgent::from_environment().and_then(|agent| agent.connect().map(|_| agent));
        let agent = match found {
            Err(problem) if problem.is_no_agent() && !self.config.cas.is_empty() => UserAgent::start()?,
            found => found?,
        };
        agent.try_out()?;
        Ok(agent.into())
    }
    /// Whoever has set something finds that it does not count, where it would have.
    fn tell_passed_over(&self) {
        for passed_over in self.config.locks.passed_over() {
            eprintln!("ussh: {passed_over}");
        }
    }
    /// Asks the CA; or waits for another that does, and has what came of it.
    fn log_in(&self, effort: Effort) -> Result<Got, Failure> {
        self.tell_passed_over();
        // By a clock that is wrong, it may be.
        self.swept.iter().for_each(|swept| eprintln!("ussh: {swept}"));
        // Better now than after the password.
        let keeper = self.keeper_for_login()?;
        let (order, is_exact) = (self.order.clone().or_of_environment(), self.order != Order::default());
        let alone = |error: &HomeError| {
            eprintln!("ussh: each asks for itself: {error}");
            let certificate = log_in(&self.config, &keeper, &self.judge, &order, effort)?;
            Ok(Got { certificate, by_another: false })
        };
        let line = match Home::open(self.uid) {
            Ok(home) => Line::of(&home, &keeper.place(), &self.config.cas, self.judge.user(), &order, is_exact),
            Err(error) => return alone(&error),
        };
        let (mut began, prompting) = (self.began, Prompting::of_this_process());
        loop {
            let notice = || eprintln!("ussh: another ussh is asking for a certificate: waiting for it");
            let turn = match line.wait(began, prompting, &notice) {
                Err(LoginError::Line(error)) => return alone(&error),
                turn => turn?,
            };
            match turn {
                Turn::Ours(flight) => {
                    let result = log_in(&self.config, &keeper, &self.judge, &order, effort);
                    flight.land(&result);
                    return Ok(Got { certificate: result?, by_another: false });
                }
                Turn::Theirs(Outcome::Failed(reason)) => return Err(LoginError::Shared(reason).into()),
                Turn::Theirs(Outcome::CaFailed(reason)) => return Err(LoginError::SharedCaFailure(reason).into()),
                Turn::Theirs(Outcome::Came) => match self.newest(&keeper)? {
                    Some(certificate) => return Ok(Got { certificate, by_another: true }),
                    // It is gone again: from here on only what others do counts.
                    None => began = Moment::now(),
                },
            }
        }
    }
    /// However short its life is: asking the same CA again would bring no better one.
    fn newest(&self, keeper: &Keeper) -> Result<Option<Certificate>, AgentProblem> {
        let held = self.held(keeper, SystemClock.now())?.into_iter();
        let valid = held.filter(|held| !matches!(held.standing, Standing::Refused(_)));
        Ok(valid.map(|held| held.certificate).max_by_key(Certificate::valid_before))
    }
    fn held(&self, keeper: &Keeper, now: UnixTime) -> Result<Vec<Held>, AgentProblem> {
        Ok(certificates::of_listed(&keeper.list()?, &self.judge, now))
    }
}

fn ensure() -> Result<ExitCode, Failure> {
    let context = Context::load()?;
    match context.good_certificate() {
        Ok(Some(certificate)) => announce(&certificate),
        Err(problem) if !problem.is_no_agent() => Err(problem.into()),
        Ok(None) | Err(_) => announce_new(&context.log_in(Effort::Whole)?),
    }
}

fn log_in_now(order: Order) -> Result<ExitCode, Failure> {
    announce_new(&Context { order, ..Context::load()? }.log_in(Effort::Whole)?)
}

fn force(order: Order, arguments: &[OsString]) -> Result<ExitCode, Failure> {
    let context = Context { order, ..Context::load()? };
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
    let keeper = context.keeper()?;
    drop(keeper.list()?);
    let socket = Home::open(context.uid)?.running(&keeper)?;
    print(&format!("{}\n", socket.display()))
}

fn log(form: LogForm) -> Result<ExitCode, Failure> {
    let lines = Journal::of_this_user().read().map_err(Failure::Log)?.into_iter().map(|entry| match form {
        LogForm::Text => entry.to_text() + "\n",
        LogForm::Json => serde_json::to_string(&entry).unwrap_or_default() + "\n",
    });
    print(&lines.collect::<String>())
}

/// No agent is an answer here, not a failure; a broken configuration is one.
fn check() -> Result<ExitCode, Failure> {
    let found = Context::load()?.good_certificate();
    Ok(if matches!(found, Ok(Some(_))) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// For ssh_config, which looks for the agent before it connects. What is wrong with that agent is said where it is missed.
fn check_and_forward() -> Result<ExitCode, Failure> {
    let context = Context::load()?;
    if !context.keeps_in_files() && no_agent_for_ssh().is_some() {
        return Ok(ExitCode::FAILURE);
    }
    let found = context.good_certificate();
    if found.is_ok() {
        let _ = context.see_to_agent();
    }
    Ok(if matches!(found, Ok(Some(_))) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// `ssh` waits for the connection.
fn proxy(target: &Target) -> Result<ExitCode, Failure> {
    let context = Context::load()?;
    let rules = &context.config.hosts;
    if rules.is_empty() || HostRule::find(rules, target.host()).is_some() {
        match no_agent_for_ssh() {
            Some(problem) if !context.keeps_in_files() => without_agent(&problem),
            _ => context.see_to_certificate(context.good_certificate())?,
        }
    }
    hand_over(target.connect()?)?;
    Ok(ExitCode::SUCCESS)
}

/// The `ssh` that runs us has our environment, and looks for a certificate in no other agent than the one that this names.
fn no_agent_for_ssh() -> Option<AgentProblem> {
    let named = UserAgent::named_by_environment().and_then(|agent| agent.connect());
    named.err().filter(AgentProblem::is_no_agent)
}

/// A password would be asked for in vain.
fn without_agent(problem: &AgentProblem) {
    eprintln!("ussh: {problem}: ssh would not see a certificate, and goes on without one");
    match UserAgent::from_environment() {
        Ok(agent) if agent.connect().is_ok() => {
            eprintln!("ussh: there is one: export SSH_AUTH_SOCK={}", agent.path().display());
        }
        Ok(_) | Err(_) => eprintln!("ussh: start one: eval \"$(ssh-agent)\"; or use `ussh HOST`, which does"),
    }
}

fn write_config(wishes: &Wishes) -> Result<ExitCode, Failure> {
    let mut sources = Sources::of_this_process();
    let places = Places::of_this_process(wishes.system, sources.uid)?;
    if wishes.system {
        // What is for everybody does not come from one user's file.
        sources.home = None;
    }
    print(&ssh_config::write(&places, wishes, &sources)?)
}

fn status(form: StatusForm) -> Result<ExitCode, Failure> {
    let context = Context::load()?;
    let now = SystemClock.now();
    let held = context.keeper().and_then(|keeper| {
        let listed = keeper.list()?;
        if let Keeper::Agent(agent) = &keeper
            && agent.is_guarded_by(&listed)
        {
            return Err(AgentProblem::Guarded { path: agent.path().to_path_buf() });
        }
        // What a login would find out, found out the same way; a prompt is shown all the time.
        match &keeper {
            Keeper::Agent(_) | Keeper::Files(_) | Keeper::OwnKey(_) if matches!(form, StatusForm::Prompt) => {}
            Keeper::Agent(agent) => agent.check_unlocked(&listed)?,
            Keeper::Files(_) | Keeper::OwnKey(_) if listed.is_empty() => keeper.make_room()?,
            Keeper::Files(_) | Keeper::OwnKey(_) => {}
        }
        let held = certificates::of_listed(&listed, &context.judge, now);
        Ok((keeper, held))
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

/// What the CA gave it has said itself, where it was asked.
fn announce_new(got: &Got) -> Result<ExitCode, Failure> {
    if got.by_another { announce(&got.certificate) } else { Ok(ExitCode::SUCCESS) }
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

/// Whoever closes our stdout does not want to read it; on a full disk it is missed.
/// # Errors
/// [`Failure::Output`]
pub fn print(text: &str) -> Result<ExitCode, Failure> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::Output(error)),
        Ok(()) | Err(_) => Ok(ExitCode::SUCCESS),
    }
}
