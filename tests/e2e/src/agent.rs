//! An ssh-agent of its own for one test, and shells on servers to which it is forwarded.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ussh_lab::{Command, LabError, Output, Pty, Status, wait_until};

use crate::world::World;

/// How long anything on a terminal may take.
const SOON: Duration = Duration::from_secs(20);
/// Longest time for one command in a shell: an agent that hangs costs some.
const PATIENCE: Duration = Duration::from_secs(75);
/// The program that stands for the person who is asked: it waits until the answer is there.
const ASKPASS_PATH: &str = "/srv/confirm";
const ASKPASS: &str = "#!/bin/sh\nuntil [ -s \"$ANSWER\" ]; do sleep 0.05; done\nexit \"$(cat \"$ANSWER\")\"\n";

fn answer_of(user: &str) -> String {
    format!("/srv/answer-of-{user}")
}

/// How a shell says that it is ready: no prompt of bash's ends like this by itself.
const READY: &str = "ready> ";

/// An ssh-agent of a person on the laptop, beside the one that `ussh` uses.
#[derive(Debug)]
pub struct PersonAgent<'world> {
    world: &'world World,
    user: String,
    socket: String,
}

impl World {
    /// Starts one, with nothing in it.
    ///
    /// # Errors
    /// It does not come up.
    pub fn new_agent(&self, user: &str) -> Result<PersonAgent<'_>, LabError> {
        self.start_agent_with(user, |agent| agent)
    }

    /// The same, which asks a person before it uses a key that was added with `ssh-add -c`: see [`PersonAgent::confirm`].
    ///
    /// # Errors
    /// It does not come up.
    pub fn new_confirming_agent(&self, user: &str) -> Result<PersonAgent<'_>, LabError> {
        let laptop = self.host("laptop");
        laptop.write_file(ASKPASS_PATH, 0o755, ASKPASS)?;
        laptop.remove_file(&answer_of(user))?;
        let answer = answer_of(user);
        self.start_agent_with(user, |agent| {
            agent.env("SSH_ASKPASS", ASKPASS_PATH).env("DISPLAY", ":0").env("ANSWER", &answer)
        })
    }

    fn start_agent_with(
        &self,
        user: &str,
        with: impl for<'a> FnOnce(Command<'a>) -> Command<'a>,
    ) -> Result<PersonAgent<'_>, LabError> {
        static AGENTS: AtomicU32 = AtomicU32::new(0);
        let socket = format!("/home/{user}/.agent-{}.sock", AGENTS.fetch_add(1, Ordering::Relaxed));
        let laptop = self.host("laptop");
        with(laptop.command(["ssh-agent", "-D", "-a", &socket]).user(user)).service(&socket)?;
        wait_until(SOON, "the agent's socket", || laptop.exists(&socket))?;
        Ok(PersonAgent { world: self, user: user.to_owned(), socket })
    }

    /// Makes a plain key of a person's that gets into a server without any certificate.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn make_way_in(&self, user: &str, server: &str) -> Result<(), LabError> {
        let laptop = self.host("laptop");
        let key = format!("/home/{user}/.ssh/way-in");
        laptop.make_folder_as(user, &format!("/home/{user}/.ssh"), 0o700)?;
        if !laptop.exists(&key) {
            laptop.run_as(user, ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", &key])?.ok()?;
        }
        let server = self.host(server);
        server.make_folder_as(user, &format!("/home/{user}/.ssh"), 0o700)?;
        let authorized = format!("/home/{user}/.ssh/authorized_keys");
        server.write_file_as(user, &authorized, 0o600, laptop.read_bytes(&format!("{key}.pub"))?)
    }
}

/// `ssh` with the key of [`World::make_way_in`], whatever the agent holds; the agent is forwarded.
pub const WAY_IN: &str = "ssh -A -o IdentitiesOnly=yes -o IdentityFile=~/.ssh/way-in";

impl<'world> PersonAgent<'world> {
    /// Whose it is.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Where.
    pub fn world(&self) -> &'world World {
        self.world
    }

    /// Its socket on the laptop.
    pub fn socket(&self) -> &str {
        &self.socket
    }

    /// Answers what the agent asks, now or next: it is one of [`World::new_confirming_agent`].
    ///
    /// # Errors
    /// The laptop cannot be written to.
    pub fn confirm(&self, yes: bool) -> Result<(), LabError> {
        self.world.host("laptop").write_file(&answer_of(&self.user), 0o644, if yes { "0" } else { "1" })
    }

    /// A shell command on the laptop, with this agent.
    ///
    /// # Errors
    /// It could not be run; an exit code is not an error.
    pub fn sh(&self, script: &str) -> Result<Output, LabError> {
        let laptop = self.world.host("laptop");
        laptop.command(["bash", "-c", script]).user(&self.user).env("SSH_AUTH_SOCK", &self.socket).run()
    }

    /// The same on a terminal.
    ///
    /// # Errors
    /// It could not be started.
    pub fn terminal(&self, script: &str) -> Result<Pty, LabError> {
        let laptop = self.world.host("laptop");
        laptop.command(["bash", "-c", script]).user(&self.user).env("SSH_AUTH_SOCK", &self.socket).terminal()
    }

    /// A shell on a server: `ssh` is the command up to the server's name.
    ///
    /// # Errors
    /// No prompt comes.
    pub fn shell(&self, ssh: &str) -> Result<Shell, LabError> {
        // Without line editing what is typed is echoed as it is.
        let terminal = self.terminal(&format!("exec {ssh} -t bash --norc --noprofile --noediting"))?;
        terminal.expect_any(&["$ ", "# "], SOON)?;
        let (one, two) = READY.split_at(2);
        terminal.send(&format!("PS1='{one}'\"{two}\"\n"))?;
        terminal.expect(READY, SOON)?;
        Ok(Shell { terminal })
    }
}

impl Drop for PersonAgent<'_> {
    fn drop(&mut self) {
        // Gone already with a host that was removed: nothing is left to end.
        let _ = self.world.host("laptop").forget_service(&self.socket);
    }
}

/// A shell on a server, at its prompt. It is killed when this goes.
#[derive(Debug)]
pub struct Shell {
    terminal: Pty,
}

impl Shell {
    /// Types a command; what it shows up to the next prompt.
    ///
    /// # Errors
    /// No prompt comes.
    pub fn run(&self, command: &str) -> Result<String, LabError> {
        self.terminal.send(&format!("{command}\n"))?;
        self.terminal.expect("\n", SOON)?;
        self.terminal.expect(READY, PATIENCE)
    }

    /// Its terminal.
    pub fn terminal(&self) -> &Pty {
        &self.terminal
    }

    /// Leaves it.
    ///
    /// # Errors
    /// It does not end.
    pub fn exit(&self) -> Result<Status, LabError> {
        self.terminal.send("exit\n")?;
        self.terminal.expect_exit(SOON)
    }
}
