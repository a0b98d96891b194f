//! `ussh --why HOST`: walks the way of a login from the configuration to the host, and stops at the first thing that is wrong: what comes behind it only follows.
//!
//! Nothing is changed, and nobody is asked for a password; an agent, or a folder for keys, is tried with one that is good for nothing, which is taken away again. At the end it tries ssh itself, without forwarding anything, and compares the clocks.

mod host;
mod trial;

use std::ffi::OsStr;
use std::fmt::Write;

use ussh_core::agent::Identity;
use ussh_core::certificate::{Certificate, CertificateKind};
use ussh_core::clock::{Clock, SystemClock, UnixTime};
use ussh_core::escape::escape;

use self::host::Host;
use crate::certificates::{Held, Judge, NotGood, Standing, readable_certificate};
use crate::config::{Config, HostRule, KeepIn, SYSTEM_FILE, Sources, USER_FILE};
use crate::failure::Failure;
use crate::files::Files;
use crate::keeper::Keeper;
use crate::login::{LoginError, Skew, probe};
use crate::status::duration;
use crate::user_agent::{AgentProblem, UserAgent};

/// Longest foreign word that is shown, in bytes.
const MAX_SHOWN: usize = 256;

/// What was found, step by step.
#[derive(Debug, Default)]
pub struct Report {
    steps: Vec<(&'static str, String)>,
    fault: Option<Fault>,
}

/// What is wrong, and the one thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fault {
    wrong: String,
    advice: String,
}

impl Fault {
    fn new(wrong: impl Into<String>, advice: impl Into<String>) -> Self {
        Fault { wrong: wrong.into(), advice: advice.into() }
    }
}

impl<E: Into<Failure>> From<E> for Fault {
    fn from(error: E) -> Self {
        let failure = error.into();
        let advice = failure.advice().unwrap_or("mend that, and ask again");
        Fault::new(failure.to_string(), advice)
    }
}

impl Report {
    /// Looks into it.
    pub fn on(host: &OsStr) -> Self {
        let mut report = Report::default();
        report.fault = report.walk(host).err();
        report
    }
    /// Whether nothing is wrong.
    pub fn is_good(&self) -> bool {
        self.fault.is_none()
    }
    /// For people: a line a step, then what is wrong and what to do.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for (step, found) in &self.steps {
            let _ = writeln!(text, "{step:<14} {found}");
        }
        let _ = match &self.fault {
            None => writeln!(text, "Nothing is wrong."),
            Some(fault) => writeln!(text, "Wrong: {}\nDo:    {}", fault.wrong, fault.advice),
        };
        text
    }
    fn step(&mut self, step: &'static str, found: impl Into<String>) {
        self.steps.push((step, found.into()));
    }

    fn walk(&mut self, host: &OsStr) -> Result<(), Fault> {
        let (config, judge, sources) = self.configuration()?;
        let host = self.host(&config, host)?;
        let (keeper, listed) = self.keeper(&config, &host, sources.uid)?;
        let now = SystemClock.now();
        let held = self.certificates(&judge, &listed, now);
        let Some(good) = held.iter().find(|held| held.standing == Standing::Good) else {
            // The rest of the way would be judged by a wrong clock.
            let skews = held.iter().filter_map(|held| Skew::of(&held.certificate, now));
            if let Some(behind) = skews.filter(|skew| matches!(skew, Skew::Behind(_))).max_by_key(Skew::seconds) {
                return Err(Fault::new(behind.to_string(), "set this machine's clock"));
            }
            keeper.make_room()?;
            self.ca(&config, &judge, sources.uid)?;
            let place = match &keeper {
                Keeper::Agent(agent) => {
                    // A locked one lists nothing.
                    agent.try_out()?;
                    "the agent"
                }
                Keeper::Files(_) => "the files",
                Keeper::OwnKey(_) => "the file for your own key",
            };
            return Err(no_good_certificate(&host, &held, &listed, place, now));
        };
        self.login(&host, &good.certificate, &keeper, listed.len())
    }

    fn configuration(&mut self) -> Result<(Config, Judge, Sources), Fault> {
        let sources = Sources::of_this_process();
        let config = Config::load(&sources)?;
        let user = sources.home.as_ref().map(|home| home.join(USER_FILE));
        let files = [Some(SYSTEM_FILE.into()), user];
        let files = files.into_iter().flatten().filter(|file| file.exists()).map(|file| file.display().to_string());
        let files = files.collect::<Vec<_>>().join(", ");
        self.step("configuration", if files.is_empty() { format!("no file ({SYSTEM_FILE})") } else { files });
        for passed_over in config.locks.passed_over() {
            self.step("locked", passed_over.to_string());
        }
        if config.cas.is_empty() {
            return Err(LoginError::NoCa.into());
        }
        let judge = Judge::load(&config, config.user_at_ca(sources.uid)?, sources.uid)?;
        Ok((config, judge, sources))
    }

    fn host(&mut self, config: &Config, name: &OsStr) -> Result<Host, Fault> {
        let mut host = Host::resolve(name).map_err(|said| {
            Fault::new(format!("ssh makes nothing of that host: {said}"), "mend the name, or ssh_config")
        })?;
        host.is_ours = config.hosts.is_empty() || HostRule::find(&config.hosts, &host.name).is_some();
        let ours = if host.is_ours { "" } else { ", none of your hosts by [[host]]" };
        self.step("host", format!("{} port {} as {}{ours}", host.name, host.port, host.user));
        Ok(host)
    }

    fn keeper(&mut self, config: &Config, host: &Host, uid: u32) -> Result<(Keeper, Vec<Identity>), Fault> {
        if config.keep_in == KeepIn::Files {
            let keeper = Keeper::Files(Files::of_user(uid)?);
            self.step("files", keeper.place().display().to_string());
            let listed = keeper.list()?;
            return Ok((keeper, listed));
        }
        let (agent, listed) = self.agent(host)?;
        match Keeper::of(config, uid, || Ok(agent))? {
            Keeper::OwnKey(own) if !own.is_there()? => Err(Fault::from(AgentProblem::KeyMissing {
                path: own.agent.path().to_path_buf(),
                fingerprint: own.key.fingerprint(),
            })),
            keeper @ Keeper::OwnKey(_) => {
                let listed = keeper.list()?;
                Ok((keeper, listed))
            }
            Keeper::Agent(agent) => {
                agent.takes_certificates()?;
                if agent.is_guarded_by(&listed) {
                    return Err(AgentProblem::Guarded { path: agent.path().to_path_buf() }.into());
                }
                Ok((Keeper::Agent(agent), listed))
            }
            keeper @ Keeper::Files(_) => Ok((keeper, listed)),
        }
    }

    fn agent(&mut self, host: &Host) -> Result<(UserAgent, Vec<Identity>), Fault> {
        let agent = match UserAgent::from_environment() {
            Err(problem) if problem.is_no_agent() => {
                return Err(Fault::new(problem.to_string(), "run ussh: it starts one"));
            }
            found => found?,
        };
        let connected = agent.connect();
        if let Err(problem) = &connected
            && problem.is_no_agent()
        {
            return Err(Fault::new(problem.to_string(), "run ussh: it starts one"));
        }
        let listed = connected?.list().map_err(|error| agent.broken(error))?;
        let keys = listed.len();
        self.step("agent", format!("{}, {keys} {}", agent.path().display(), if keys == 1 { "key" } else { "keys" }));
        let others = host.value("identityagent").filter(|path| *path != "SSH_AUTH_SOCK" && *path != "$SSH_AUTH_SOCK");
        match others.filter(|path| *path != agent.path().to_string_lossy()) {
            Some(other) => Err(Fault::new(
                format!(
                    "ssh_config has ssh ask another agent for this host (IdentityAgent {other}), and certificates are in {}",
                    agent.path().display()
                ),
                "take IdentityAgent out of ssh_config, or set SSH_AUTH_SOCK to that agent",
            )),
            None => Ok((agent, listed)),
        }
    }

    fn certificates(&mut self, judge: &Judge, listed: &[Identity], now: UnixTime) -> Vec<Held> {
        let held = crate::certificates::of_listed(listed, judge, now);
        if held.is_empty() {
            self.step("certificate", "none of your CA");
        }
        for held in &held {
            let certificate = &held.certificate;
            let standing = match &held.standing {
                Standing::Good => "good".to_owned(),
                Standing::EndsSoon => "ends soon".to_owned(),
                Standing::Refused(reason) => escape(reason.to_string().as_bytes(), MAX_SHOWN),
            };
            self.step(
                "certificate",
                format!(
                    "ID \"{}\" serial {}: {standing}",
                    escape(certificate.key_id(), MAX_SHOWN),
                    certificate.serial()
                ),
            );
        }
        held
    }

    /// All of them: one that proves itself is enough.
    fn ca(&mut self, config: &Config, judge: &Judge, uid: u32) -> Result<(), Fault> {
        let mut first = None;
        for ca in &config.cas {
            match probe(config, ca, judge, uid) {
                Ok(()) => {
                    self.step("CA", format!("{ca} answers, and has proved itself"));
                    return Ok(());
                }
                Err(error) => {
                    self.step("CA", error.to_string());
                    first.get_or_insert(error);
                }
            }
        }
        first.map_or(Ok(()), |error| Err(error.into()))
    }
}

/// By what stands nearest to a good one.
fn no_good_certificate(host: &Host, held: &[Held], listed: &[Identity], place: &str, now: UnixTime) -> Fault {
    use ussh_core::verdict::Refusal;
    const NEW: &str = "ussh gets a new one";
    if !host.is_ours {
        return Fault::new(
            format!(
                "no [[host]] table matches {}, the name that ssh connects to: ussh gets no certificate for it",
                host.name
            ),
            "add it to `match` of one of your tables, if it is one of your hosts",
        );
    }
    if held.is_empty() {
        let user_certificate = |c: &Certificate| c.kind() == CertificateKind::User;
        return match listed.iter().filter_map(readable_certificate).find(user_certificate) {
            Some(other) => Fault::new(
                format!(
                    "the certificate in the agent is signed by {}, which is not in user_ca_file",
                    other.ca().fingerprint()
                ),
                "get the CA's key anew from your administrator, or run ussh, if that certificate is of another CA",
            ),
            // The CA's clock is not seen from here, and a certificate that is judged by a wrong one would not be taken.
            None => Fault::new(
                format!("there is no certificate in {place}"),
                format!("run ussh: it gets one, if this machine's clock is right, which says {now}"),
            ),
        };
    }
    if held.iter().any(|held| held.standing == Standing::EndsSoon) {
        return Fault::new("the certificate is about to end", NEW);
    }
    match held.iter().map(|held| &held.standing).next_back() {
        Some(Standing::Refused(NotGood::SomebodyElses { found, wanted })) => Fault::new(
            format!(
                "the certificate in the agent is that of \"{}\", and you are \"{}\" at the CA",
                escape(found, MAX_SHOWN),
                wanted.as_str()
            ),
            "run ussh for one of your own; or set `ca_user`, if both are you",
        ),
        Some(Standing::Refused(NotGood::Refused(Refusal::Expired { valid_before, .. }))) => Fault::new(
            format!(
                "the certificate ended {} ago, if this machine's clock is right",
                duration(now.0.saturating_sub(valid_before.0))
            ),
            format!("{NEW}, if that is so: it says {now}"),
        ),
        Some(Standing::Refused(reason)) => Fault::new(format!("the certificate is not good: {reason}"), NEW),
        Some(Standing::Good | Standing::EndsSoon) | None => Fault::new("there is no good certificate", NEW),
    }
}
