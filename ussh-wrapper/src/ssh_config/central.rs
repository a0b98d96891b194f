//! What stands in the file that ssh_config includes: for our hosts, as the `[[host]]` tables name them, the ProxyCommand that sees to a certificate, and what is forwarded.

use std::path::Path;

use crate::config::{CaAddress, Forward, HostRule};
use crate::guard::link::IN_SSH_CONFIG;

/// Its first line.
const HEAD: &str = "# Written by `ussh --write-config` out of the [[host]] tables in ussh.toml: changes go there, and then `ussh --write-config` again.\n";

/// The file. `program`: where `ussh` lies, of characters that ssh and a shell take as they stand.
pub fn text(rules: &[HostRule], program: &Path) -> String {
    let mut text = HEAD.to_owned();
    // The first table that matches decides. (ssh_config's own first word would not do: a socket's path under ForwardAgent counts although `yes` stood before it.)
    let mut earlier = String::new();
    for rule in rules {
        text += &section(rule, &earlier, program);
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
