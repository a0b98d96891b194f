//! Whether a host is one of ours, and what is forwarded to it where nobody else has chosen: as `ssh -G` has it.

mod word;

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ussh_os::account::Account;

use crate::arguments::AgentChoice;
use crate::config::{Config, Forward, HostRule};
use crate::exec::find_ssh;
use crate::guard::{Home, HomeError};
use crate::keeper::Keeper;
use word::Search;

/// The system's ssh_config(5).
const SYSTEM_CONFIG: &str = "/etc/ssh/ssh_config";
/// Where its relative Includes lead.
const SYSTEM_FOLDER: &str = "/etc/ssh";

/// What `ssh` will do with its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A host of ours.
    Ours {
        /// What it is given; `None`: the arguments or ssh_config have chosen.
        forward: Option<Forward>,
    },
    /// Another: it is ssh's alone.
    NotOurs,
}

impl Destination {
    /// Asks `ssh -G`. Where that gives nothing (a wrong command line, no ssh), ssh itself has to say so: it is not ours.
    pub fn find(config: &Config, arguments: &[OsString], uid: u32) -> Self {
        if config.hosts.is_empty() {
            return Destination::Ours { forward: None };
        }
        let choice = AgentChoice::of(arguments);
        if choice == AgentChoice::Open && !may_say(uid) {
            let rule = resolve(arguments, None)
                .and_then(|resolved| HostRule::find(&config.hosts, &resolved.host).map(HostRule::forward));
            return rule.map_or(Destination::NotOurs, |forward| Destination::Ours { forward: Some(forward) });
        }
        let mut trouble = None;
        let last_word = match choice {
            AgentChoice::Open => with_last_word(uid).unwrap_or_else(|error| {
                trouble = Some(error);
                None
            }),
            AgentChoice::Made | AgentChoice::Unclear => None,
        };
        let Some(resolved) = resolve(arguments, last_word.as_deref()) else { return Destination::NotOurs };
        let Some(rule) = HostRule::find(&config.hosts, &resolved.host) else { return Destination::NotOurs };
        if let Some(error) = trouble.filter(|_| rule.forward() != Forward::None) {
            eprintln!("ussh: no agent is forwarded but what ssh_config says: {error}");
        }
        // `yes` with the last word and `no` without it: it was heard, so nobody else had chosen. (A path as the last word would be shown behind another's `yes` and `no` too.)
        let is_open = last_word.is_some()
            && resolved.forward == "yes"
            && resolve(arguments, None).is_some_and(|without| without.forward == "no");
        Destination::Ours { forward: is_open.then_some(rule.forward()) }
    }
}

/// What is put before ssh's own arguments for this.
pub fn options(forward: Option<Forward>, keeper: &Keeper, uid: u32) -> Vec<OsString> {
    let value = match forward {
        None | Some(Forward::None) => return Vec::new(),
        Some(Forward::Full) => OsString::from("yes"),
        // It would stand in front of nothing.
        Some(Forward::Guarded) if keeper.is_empty() => return Vec::new(),
        Some(Forward::Guarded) => match Home::open(uid).and_then(|home| home.running(keeper)) {
            Ok(socket) => socket.into_os_string(),
            Err(error) => {
                eprintln!("ussh: no agent is forwarded, sudo will not work there: {error}");
                return Vec::new();
            }
        },
    };
    let mut option = OsString::from("ForwardAgent=");
    option.push(value);
    vec!["-o".into(), option]
}

/// The keys that ssh tries where it is told of none (readconf.c `fill_default_options`).
pub const DEFAULT_KEYS: [&str; 7] = [
    "~/.ssh/id_rsa",
    "~/.ssh/id_ecdsa",
    "~/.ssh/id_ecdsa_sk",
    "~/.ssh/id_ed25519",
    "~/.ssh/id_ed25519_sk",
    "~/.ssh/id_xmss",
    "~/.ssh/id_dsa",
];

/// What ssh leaves out once it is told of a key and a certificate: of the keys above those that are there, where it would be told of no other; and the certificates beside all keys (ssh.c `load_public_identity_files`).
pub fn other_keys(arguments: &[OsString]) -> Vec<String> {
    let names = resolve(arguments, None).map(|resolved| resolved.keys).unwrap_or_default();
    let home = Account::by_uid(ussh_os::process::real_uid()).ok().flatten().map(|account| account.home);
    // What ssh has still to expand is for ssh to look for; it says nothing of a certificate that is not there.
    let may_be_there = |name: &str| match (name.strip_prefix("~/"), &home) {
        _ if name.contains(['%', '$']) => true,
        (Some(below), Some(home)) => home.join(below).exists(),
        _ => Path::new(name).exists(),
    };
    let others = names.iter().any(|name| !DEFAULT_KEYS.contains(&name.as_str()));
    let keys = names.iter().filter(|name| !others && may_be_there(name)).map(|name| format!("IdentityFile={name}"));
    let beside = names.iter().map(|name| format!("{name}-cert.pub")).filter(|name| may_be_there(name));
    keys.chain(beside.map(|name| format!("CertificateFile={name}"))).collect()
}

/// Some lines of `ssh -G`.
struct Resolved {
    host: String,
    forward: String,
    keys: Vec<String>,
}

fn resolve(arguments: &[OsString], file: Option<&Path>) -> Option<Resolved> {
    let mut command = Command::new(find_ssh().ok()?);
    if let Some(file) = file {
        command.arg("-F").arg(file);
    }
    command.arg("-G").args(arguments).stdin(Stdio::null()).stderr(Stdio::null());
    let output = command.output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let value = |keyword: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(keyword)?.strip_prefix(' '));
        line.map(str::to_owned)
    };
    let keys = text.lines().filter_map(|line| line.strip_prefix("identityfile ")).map(str::to_owned).collect();
    Some(Resolved { host: value("hostname")?, forward: value("forwardagent").unwrap_or_default(), keys })
}

/// Whether a file of ssh's may have a word on it.
fn may_say(uid: u32) -> bool {
    let Some(account) = Account::by_uid(uid).ok().flatten() else { return true };
    let (base, system) = (account.home.join(".ssh"), Path::new(SYSTEM_CONFIG));
    let mut search = Search::new(&account.home);
    search.may_say(&base.join("config"), &base) || search.may_say(system, Path::new(SYSTEM_FOLDER))
}

/// An ssh_config that reads what ssh reads without it, and then says `ForwardAgent yes`: in ssh_config the first word on a matter counts, so this one is heard only if there is no other.
/// (Of `ForwardAgent no` and of nothing said `ssh -G` shows the same.) `None`: it cannot be made, or would not read the same; then ssh_config is taken to have chosen.
/// # Errors
/// [`HomeError`]: there is no room or no safe place for it.
fn with_last_word(uid: u32) -> Result<Option<PathBuf>, HomeError> {
    let Some(text) = last_word_text(uid) else { return Ok(None) };
    let file = Home::open(uid)?.folder().join("ssh_config");
    match write_if_other(&file, &text) {
        Ok(()) => Ok(Some(file)),
        Err(source) => Err(HomeError::Io { path: file, source }),
    }
}

fn last_word_text(uid: u32) -> Option<String> {
    let home = Account::by_uid(uid).ok().flatten()?.home;
    let user = home.join(".ssh/config").to_str().filter(|path| crate::config::is_plain(path))?.to_owned();
    let system = std::fs::read_to_string(SYSTEM_CONFIG).unwrap_or_default();
    if includes_relative(&system) {
        return None;
    }
    // `Match all` first: what the files say under their own Host lines ends with them. `final`: after what they say in the last pass, too.
    Some(format!("Include {user}\nMatch all\nInclude {SYSTEM_CONFIG}\nMatch final all\nForwardAgent yes\n"))
}

/// In a file named by -F such a path would be looked for in the user's folder instead of the system's (readconf.c, oInclude).
fn includes_relative(text: &str) -> bool {
    text.lines().any(|line| {
        let mut words = line.split([' ', '\t', '=', '"']).filter(|word| !word.is_empty());
        words.next().is_some_and(|word| word.eq_ignore_ascii_case("include"))
            && words.any(|path| !path.starts_with(['/', '~', '#']))
    })
}

fn write_if_other(file: &Path, text: &str) -> io::Result<()> {
    if std::fs::read(file).is_ok_and(|there| there == text.as_bytes()) {
        return Ok(());
    }
    let mut own: OsString = file.into();
    own.push(OsStr::new(&format!(".{}", std::process::id())));
    let mut options = std::fs::OpenOptions::new();
    let mut new = options.write(true).create(true).truncate(true).mode(0o600).open(&own)?;
    io::Write::write_all(&mut new, text.as_bytes())?;
    std::fs::rename(&own, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_include_is_noticed() {
        for (text, wanted) in [
            ("Include /etc/ssh/ssh_config.d/*.conf\nHost *\n", false),
            ("  include ~/.ssh/x\n", false),
            ("Include ssh_config.d/*.conf\n", true),
            ("\tINCLUDE=/a b\n", true),
            ("# Include a\nHost *\n", false),
            ("Include \"x\"\n", true),
        ] {
            assert_eq!(includes_relative(text), wanted, "{text:?}");
        }
    }
}
