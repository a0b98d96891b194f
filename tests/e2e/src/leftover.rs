//! What is left on a server when a connection ends.

use ussh_lab::{Host, LabError};

use crate::agent::Shell;
use crate::world::World;

/// Runs what is written to `in`, as a shell would that is attached to; says to `out` what came of it.
const LOOP: &str =
    r#"while read -r line < in; do { eval "$line" </dev/null; echo "exit $?"; } > out 2>&1; done > /dev/null 2>&1"#;

/// A shell that outlived the connection in which it was started, as those in tmux and screen do: the environment is that of the login, and nobody's child is it.
#[derive(Debug)]
pub struct Leftover {
    host: Host,
    user: String,
    folder: String,
    /// SSH_AUTH_SOCK in it; empty if there is none.
    pub socket: String,
}

impl Leftover {
    /// Starts one from a shell of `user` on `server`.
    ///
    /// # Errors
    /// The shell does not answer.
    pub fn of(shell: &Shell, world: &World, server: &str, user: &str) -> Result<Self, LabError> {
        let folder = shell.run("d=$(mktemp -d); mkfifo $d/in $d/out; echo $d")?.trim().to_owned();
        shell.run(&format!("(cd $d; setsid -f bash -c '{LOOP}')"))?;
        // Before it has answered it may still belong to the terminal, and would go with it.
        shell.run("echo true > $d/in; cat $d/out")?;
        let socket = shell.run("echo $SSH_AUTH_SOCK")?.trim().to_owned();
        Ok(Leftover { host: world.host(server), user: user.to_owned(), folder, socket })
    }

    /// Runs a command in it. Its exit code, and what it printed.
    ///
    /// # Errors
    /// It does not answer.
    pub fn run(&self, command: &str) -> Result<(i32, String), LabError> {
        let script = format!("cd {}; printf '%s\\n' \"$1\" > in; cat out", self.folder);
        let printed = self.host.command(["bash", "-c", &script, "-", command]).user(&self.user).run()?.ok()?.stdout;
        let no_code = || LabError::Setup { what: format!("{command} left no exit code"), log: printed.clone() };
        let (text, code) = printed.trim_end().rsplit_once("exit ").ok_or_else(no_code)?;
        Ok((code.parse().map_err(|_| no_code())?, text.to_owned()))
    }
}
