//! What stands in the file that ssh_config includes: for our hosts, as the `[[host]]` tables name them, the ProxyCommand that sees to a certificate, and what is forwarded.

use std::path::Path;

use crate::config::{CaAddress, Config, Forward, HostRule, KeepIn};
use crate::files::{IN_SSH_CONFIG as KEYS_IN_SSH_CONFIG, OWN_IN_SSH_CONFIG};
use crate::guard::link::IN_SSH_CONFIG;

/// Its first line.
const HEAD: &str = "# Written by `ussh --write-config` out of the [[host]] tables in ussh.toml: changes go there, and then `ussh --write-config` again.\n";

/// Where key and certificate are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kept {
    /// Both in the agent.
    #[default]
    InAgent,
    /// Both in files.
    InFiles,
    /// The key in the agent, the certificate in a file.
    OwnKey,
}

impl Kept {
    /// As configured.
    pub fn of(config: &Config) -> Self {
        match (&config.client_key, config.keep_in) {
            (Some(_), _) => Kept::OwnKey,
            (None, KeepIn::Files) => Kept::InFiles,
            (None, KeepIn::Agent) => Kept::InAgent,
        }
    }
}

/// The file. `program`: where `ussh` lies, of characters that ssh and a shell take as they stand.
/// `defaults`: keys that ssh tries by itself and are there, which it leaves out once one is named.
pub fn text(rules: &[HostRule], program: &Path, kept: Kept, defaults: &[&str]) -> String {
    let keys = match kept {
        Kept::InAgent => String::new(),
        Kept::InFiles => {
            let keys = || KEYS_IN_SSH_CONFIG.iter().chain(defaults);
            // Named by themselves they are what ssh tries first, before all that an agent holds; and those beside keys are left out once one is named.
            let mut lines: String = keys().map(|key| format!("  CertificateFile {key}-cert.pub\n")).collect();
            lines.extend(keys().map(|key| format!("  IdentityFile {key}\n")));
            // ssh would give our key to whatever agent runs, for ever.
            lines + "  AddKeysToAgent no\n"
        }
        Kept::OwnKey => format!("  CertificateFile {OWN_IN_SSH_CONFIG}\n"),
    };
    let has_files = kept == Kept::InFiles;
    let mut text = HEAD.to_owned();
    // The first table that matches decides. (ssh_config's own first word would not do: a socket's path under ForwardAgent counts although `yes` stood before it.)
    let mut earlier = String::new();
    for rule in rules {
        text += &(section(rule, &earlier, program) + &keys);
        if has_files && rule.forward() == Forward::Guarded {
            // Without an agent of its own ssh forwards none. The guarded one signs no login: ssh does that with the key's file.
            text += &format!(
                "Match {earlier}host \"{}\" exec \"test -z $SSH_AUTH_SOCK\"\n  IdentityAgent {IN_SSH_CONFIG}\n",
                rule.patterns()
            );
        }
        earlier += &format!("!host \"{}\" ", rule.patterns());
    }
    text
}

fn section(rule: &HostRule, earlier: &str, program: &Path) -> String {
    let (hosts, program) = (format!("{earlier}host \"{}\"", rule.patterns()), program.display());
    let (check, forwarded) = match rule.forward() {
        Forward::Guarded => ("--check --agent", IN_SSH_CONFIG),
        Forward::Full => ("--check", "yes"),
        Forward::None => ("--check", "no"),
    };
    // exec last: it runs for these hosts only. Where there is a good certificate ssh connects by itself.
    format!(
        "\nMatch {hosts} !exec \"{program} {check}\"\n  ProxyCommand {program} --proxy %h %p\n  ProxyUseFdpass yes\nMatch {hosts}\n  ForwardAgent {forwarded}\n"
    )
}

/// A `ussh.toml` where there is none.
pub fn settings(ca: Option<&CaAddress>, hosts: &[String]) -> String {
    let ca = ca.map(|ca| format!("ca = \"{ca}\"\n")).unwrap_or_default();
    if hosts.is_empty() {
        return ca;
    }
    // Patterns hold neither quotes nor backslashes.
    let list = hosts.iter().map(|host| format!("\"{host}\"")).collect::<Vec<_>>().join(", ");
    format!("{ca}[[host]]\nmatch = [{list}]\n")
}
