//! Manual pages and completions, made from the definition by which a program reads its command line.
//!
//! What is made lies in `packaging/man` and `packaging/completions`. A test of each program holds these files to its parser ([`agree`]); `make man` runs the same
//! tests with USSH_WRITE_MANUALS set, and then they write the files. So the programs themselves carry none of this.
#![forbid(unsafe_code)]

mod page;

pub use page::manual_page;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Command;
use clap_complete::{Shell, generate};

/// One file in `packaging/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// Below `packaging/`.
    pub path: PathBuf,
    /// All of it.
    pub text: String,
}

impl Made {
    /// A file at this path below `packaging/`.
    pub fn new(path: impl Into<PathBuf>, text: String) -> Self {
        Made { path: path.into(), text }
    }
}

/// Completions for bash, zsh and fish, under the names by which these shells look for them.
pub fn completions(command: &Command) -> Vec<Made> {
    let name = command.get_name().to_owned();
    let shells = [
        (Shell::Bash, format!("completions/bash/{name}")),
        (Shell::Zsh, format!("completions/zsh/_{name}")),
        (Shell::Fish, format!("completions/fish/{name}.fish")),
    ];
    shells
        .into_iter()
        .map(|(shell, path)| {
            let mut text = Vec::new();
            generate(shell, &mut command.clone(), &name, &mut text);
            Made::new(path, with_one_name(&name, &String::from_utf8_lossy(&text)))
        })
        .collect()
}

/// clap_complete 4.6 calls a program with a hyphen in its name one thing where its bash function sets the subcommand, and another where it looks that up: nothing behind a
/// subcommand was completed.
fn with_one_name(name: &str, text: &str) -> String {
    let looked_up = format!("{}__subcmd__", name.replace('-', "__subcmd__"));
    let set = format!("{}__subcmd__", name.replace('-', "__"));
    text.replace(&looked_up, &set)
}

/// Whether the files in `packaging/` are these; with USSH_WRITE_MANUALS set writes them.
///
/// # Errors
/// A file that is another, with what to do about it.
pub fn agree(made: &[Made]) -> Result<(), String> {
    let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging");
    if std::env::var_os("USSH_WRITE_MANUALS").is_some() {
        return made.iter().try_for_each(|made| write(&packaging, made)).map_err(|e| e.to_string());
    }
    for made in made {
        let path = packaging.join(&made.path);
        let shown = made.path.display();
        match fs::read_to_string(&path) {
            Ok(text) if text == made.text => {}
            Ok(_) => return Err(format!("packaging/{shown} is not what the command line is now: run `make man`")),
            Err(e) => return Err(format!("packaging/{shown}: {e}: run `make man`")),
        }
    }
    Ok(())
}

fn write(packaging: &Path, made: &Made) -> io::Result<()> {
    let path = packaging.join(&made.path);
    path.parent().map_or(Ok(()), fs::create_dir_all)?;
    fs::write(path, &made.text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used)]
    use std::process::Command as Process;

    use clap::{Arg, ArgAction};

    use super::*;

    /// What bash offers for the last of these words.
    fn offered(script: &str, words: &[&str]) -> String {
        let ask = r#"eval "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); eval "_${1//-/__}" '"$1" "${!#}" "${@: -2:1}"'; echo "${COMPREPLY[*]}""#;
        let output = Process::new("bash").args(["-c", ask, "bash", script]).args(words).output().expect("bash runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    #[test]
    fn bash_completes_the_options_of_subcommands() {
        for name in ["plain", "with-hyphen", "with-two-hyphens"] {
            let fast = Arg::new("fast").long("fast").action(ArgAction::SetTrue);
            let command = Command::new(name).subcommand(Command::new("go").arg(fast));
            let bash = completions(&command).into_iter().find(|made| made.path.starts_with("completions/bash"));
            let script = bash.expect("bash's").text;
            assert_eq!(offered(&script, &[name, "g"]), "go", "{name}");
            assert_eq!(offered(&script, &[name, "go", "--f"]), "--fast", "{name}");
        }
    }
}
