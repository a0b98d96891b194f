//! A stack named sshd, and the sshd_config that decides whether it is asked.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::{Subject, finding};
use crate::modules::is_ours;
use crate::pam::code::{Action, Code};
use crate::pam::stack::{Facility, Handler, Place};
use crate::report::{Finding, Severity};
use crate::sshd_config::{Setting, SshdConfig};

/// PAM_SERVICE of sshd.
const SERVICE: &str = "sshd";
/// What our `auth` line needs.
const METHODS: &str = "AuthenticationMethods publickey,keyboard-interactive:pam";

/// Looks at our lines. `given`: the sshd_config of the command line.
pub fn lint(subject: &Subject, given: Option<&Path>) -> Vec<Finding> {
    let mut findings = user_environment(subject);
    if subject.stack.service != SERVICE {
        return findings;
    }
    findings.extend(talks_after_refusal(subject));
    let auth = subject.ours(Facility::Auth).next();
    let Some(ours) = auth.or(subject.ours(Facility::Session).next()) else { return findings };
    // Stacks that are installed lie in /etc/pam.d, and it in /etc/ssh.
    let config = given.map_or_else(|| beside(&subject.file), Path::to_owned);
    match SshdConfig::read(&config) {
        Ok(SshdConfig { refused: Some(why), .. }) => findings.push(finding(
            &Place { file: config.as_path().into(), line: 0 },
            Severity::Error,
            "sshd-config",
            format!("sshd does not start with this configuration: {why}"),
            "what else it says counts for nothing before that is mended",
            "mend it, until `sshd -t` is silent",
        )),
        Ok(config) => {
            findings.extend(no_pam(ours, &config));
            if let Some(auth) = auth {
                findings.extend(methods(auth, &config));
            }
        }
        Err(error) if given.is_none() && error.kind() == ErrorKind::NotFound => findings.extend(auth.map(unseen)),
        Err(error) => findings.push(finding(
            &ours.at,
            Severity::Unchecked,
            "sshd-config",
            format!("sshd's configuration cannot be read: {error}"),
            format!("our auth line needs `{METHODS}` there, and every line of ours `UsePAM yes`"),
            unreadable(&error, given.is_some()),
        )),
    }
    findings
}

/// What helps where sshd's configuration cannot be read.
fn unreadable(error: &io::Error, is_given: bool) -> &'static str {
    match (error.kind() == ErrorKind::PermissionDenied, is_given) {
        (true, _) => "run this as root",
        (false, true) => "name the file that sshd reads with --sshd-config",
        (false, false) => "mend it, or name the file that sshd reads with --sshd-config",
    }
}

fn beside(file: &Path) -> PathBuf {
    let folder = file.canonicalize().ok().and_then(|file| file.parent()?.parent().map(Path::to_owned));
    folder.unwrap_or_default().join("ssh/sshd_config")
}

fn unseen(auth: &Handler) -> Finding {
    finding(
        &auth.at,
        Severity::Note,
        "sshd-config",
        format!("this line is asked only with `{METHODS}` in sshd_config"),
        "sshd does not run PAM's auth for a login by key or certificate alone; there is no sshd_config beside this stack to look it up in",
        "--sshd-config FILE has it looked up",
    )
}

fn no_pam(ours: &Handler, config: &SshdConfig) -> Option<Finding> {
    let on = config.use_pam.values.first().is_some_and(|value| value.eq_ignore_ascii_case("yes"));
    (!on).then(|| {
        finding(
            &place(&config.use_pam, &ours.at),
            Severity::Error,
            "sshd-config",
            "UsePAM is off: sshd asks no PAM stack",
            "pam_ussh is neither asked for the certificate nor told of sessions",
            "UsePAM yes",
        )
    })
}

fn methods(auth: &Handler, config: &SshdConfig) -> Vec<Finding> {
    let mut findings = Vec::new();
    let lists: Vec<List> = config.methods.values.iter().map(|list| List::parse(list)).collect();
    let at = place(&config.methods, &auth.at);
    let mut found = |at: &Place, severity, what: String, why: &str| {
        findings.push(finding(at, severity, "sshd-config", what, why, METHODS));
    };
    if lists.iter().all(|list| *list == List::NotAsked) {
        let what = format!(
            "our auth line is never asked for a certificate: AuthenticationMethods is `{}`",
            config.methods.values.join(" ")
        );
        let why = "sshd runs PAM's auth for passwords and keyboard-interactive only; with a key or certificate alone people get in past it";
        found(&at, Severity::Error, what, why);
    }
    for (list, text) in lists.iter().zip(&config.methods.values) {
        match list {
            List::NotAsked if lists.len() > 1 => found(
                &at,
                Severity::Warning,
                format!("`{text}` in AuthenticationMethods gets people in past our auth line"),
                "sshd runs PAM's auth for passwords and keyboard-interactive only",
            ),
            List::TooEarly => found(
                &at,
                Severity::Error,
                format!(
                    "`{text}` in AuthenticationMethods lets nobody in: our auth line is asked before sshd has seen a certificate"
                ),
                "SSH_AUTH_INFO_0 names a certificate only once publickey has succeeded",
            ),
            List::NotAsked | List::Asked => {}
        }
    }
    let asked = lists.iter().any(|list| *list != List::NotAsked);
    if asked && config.keyboard_interactive.values.first().is_some_and(|value| value.eq_ignore_ascii_case("no")) {
        findings.push(finding(
            &place(&config.keyboard_interactive, &auth.at),
            Severity::Error,
            "sshd-config",
            "KbdInteractiveAuthentication is off, and AuthenticationMethods demands it",
            "sshd does not start with that, or lets nobody in",
            "KbdInteractiveAuthentication yes",
        ));
    }
    for matched in &config.matched {
        if matched.methods.values.iter().any(|list| List::parse(list) == List::NotAsked) {
            let at = place(&matched.methods, &auth.at);
            let what = format!("`Match {}` gets in past our auth line", matched.criteria);
            findings.push(if matched.is_for_everybody() {
                let why = "its AuthenticationMethods does not ask PAM, and it leaves nobody out";
                finding(&at, Severity::Warning, "sshd-config", what, why, METHODS)
            } else {
                let why = "its AuthenticationMethods does not ask PAM; for machine accounts that is the documented way";
                finding(&at, Severity::Note, "sshd-config", what, why, "")
            });
        }
    }
    findings
}

/// A list of methods that together get somebody in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum List {
    /// PAM is asked once a certificate was seen.
    Asked,
    /// PAM is asked before that.
    TooEarly,
    /// PAM is not asked.
    NotAsked,
}

impl List {
    fn parse(list: &str) -> Self {
        let mut key_seen = false;
        for method in list.split(',') {
            match method.to_ascii_lowercase().as_str() {
                "publickey" => key_seen = true,
                "password" | "keyboard-interactive" | "keyboard-interactive:pam" if key_seen => return List::Asked,
                "password" | "keyboard-interactive" | "keyboard-interactive:pam" => return List::TooEarly,
                _ => {}
            }
        }
        List::NotAsked
    }
}

fn place(setting: &Setting, otherwise: &Place) -> Place {
    match &setting.at {
        Some((file, line)) => Place { file: file.as_path().into(), line: *line },
        None => otherwise.clone(),
    }
}

/// Modules that print something when a session opens.
const TALKERS: [&str; 4] = ["pam_motd", "pam_lastlog", "pam_lastlog2", "pam_echo"];

/// A session line of ours whose refusal lets the lines behind it run still, and one of those that speaks.
fn talks_after_refusal(subject: &Subject) -> Option<Finding> {
    let session = subject.stack.chain(Facility::Session);
    let position = session.iter().position(is_ours)?;
    let ours = session.get(position)?;
    let talker = session.iter().skip(position + 1).find(|line| TALKERS.contains(&line.module_name()))?;
    (ours.actions.on(Code::SESSION_ERR) == Action::Bad).then(|| {
        finding(
            &ours.at,
            Severity::Note,
            "talks-after-refusal",
            format!("after a refusal of this line {} ({}) speaks still", talker.module_name(), talker.at),
            "into scp and sftp too, which take it for theirs: \"Received message too long\" in place of the reason",
            "session requisite pam_ussh.so",
        )
    })
}

/// pam_env that lets the user write PAM's environment before we read SSH_AUTH_INFO_0 from it: before our line in session; or in auth, since sshd calls pam_setcred before it opens
/// the session.
fn user_environment(subject: &Subject) -> Vec<Finding> {
    let Some(ours) = subject.ours(Facility::Session).next() else { return Vec::new() };
    let session = subject.stack.chain(Facility::Session);
    let before = session.iter().take_while(|line| line.at != ours.at || line.module != ours.module);
    let in_auth = subject.stack.chain(Facility::Auth).iter();
    let readers = before.map(|line| (line, Facility::Session)).chain(in_auth.map(|line| (line, Facility::Auth)));
    readers
        .filter(|(line, _)| line.module_name() == "pam_env" && reads_users_file(line))
        .map(|(line, facility)| {
            let (at, instead) = match facility {
                Facility::Session => (&ours.at, format!("put this line before {}", line.at)),
                Facility::Auth | Facility::Account | Facility::Password => {
                    (&line.at, "take user_readenv=1 out; in session, behind our line, it does no harm".to_owned())
                }
            };
            finding(
                at,
                Severity::Error,
                "user-environment",
                format!("pam_env has read the user's own ~/.pam_environment ({}) before our session line runs", line.at),
                "the user can set SSH_AUTH_INFO_0 there, and have the session recorded with another person's certificate",
                instead,
            )
        })
        .collect()
}

/// `user_readenv=` with a number that atoi(3) does not make 0.
fn reads_users_file(line: &Handler) -> bool {
    let value = line.arguments.iter().rev().find_map(|argument| argument.strip_prefix(b"user_readenv="));
    value.is_some_and(|value| {
        let value = String::from_utf8_lossy(value);
        let digits = value.trim_start().trim_start_matches(['+', '-']);
        digits.starts_with(|c: char| c.is_ascii_digit())
            && digits.chars().take_while(char::is_ascii_digit).any(|c| c != '0')
    })
}
