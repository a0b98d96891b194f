//! What is left on a server when a connection ends, and what its user may put in an agent's place.

use std::time::Duration;

use ussh_lab::{Host, LabError, wait_until};

use crate::agent::Shell;
use crate::world::World;

/// How long anything may take.
const SOON: Duration = Duration::from_secs(20);

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

/// A relay in front of an agent: what comes to `LISTEN` goes on to `TARGET`, and a file tells of each connection, and of the first bytes that come on it.
const RELAY: &str = r#"
use IO::Socket::UNIX; use IO::Select; my ($path, $target, $log) = @ARGV; my (%other, %quiet); $SIG{PIPE} = 'IGNORE';
sub note { open(my $f, '>>', $log) or die "$log: $!"; print $f "$_[0]\n"; close $f }
my $listener = IO::Socket::UNIX->new(Type => SOCK_STREAM, Local => $path, Listen => 16) or die "$path: $!";
my $all = IO::Select->new($listener);
while (my @ready = $all->can_read) { for my $one (@ready) {
  if ($one == $listener) { my $in = $listener->accept; note('connection');
    my $out = IO::Socket::UNIX->new(Type => SOCK_STREAM, Peer => $target) or die "$target: $!";
    $quiet{$in} = 1; $other{$in} = $out; $other{$out} = $in; $all->add($in, $out); next }
  my $other = $other{$one} or next;
  if (sysread($one, my $bytes, 65536)) { note('question') if delete $quiet{$one}; syswrite $other, $bytes }
  else { $all->remove($one, $other); close $one; close $other } } }
"#;

/// A relay that runs on a host.
#[derive(Debug)]
pub struct Relay {
    host: Host,
    log: String,
}

impl World {
    /// Starts one as `user`, who may listen at `path` and connect to `target`.
    ///
    /// # Errors
    /// It does not listen.
    pub fn relay(&self, host: &str, user: &str, path: &str, target: &str) -> Result<Relay, LabError> {
        let host = self.host(host);
        let log = format!("{path}.log");
        host.command(["perl", "-e", RELAY, path, target, &log]).user(user).service(&log)?;
        wait_until(SOON, "the relay's socket", || host.exists(path))?;
        Ok(Relay { host, log })
    }
}

impl Relay {
    /// How many connections came, and how many of them asked anything.
    ///
    /// # Errors
    /// Its file cannot be read.
    pub fn seen(&self) -> Result<(usize, usize), LabError> {
        let log = if self.host.exists(&self.log) { self.host.read_file(&self.log)? } else { String::new() };
        let count = |what: &str| log.lines().filter(|line| *line == what).count();
        Ok((count("connection"), count("question")))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // Gone already with a host that was removed: nothing is left to end.
        let _ = self.host.forget_service(&self.log);
    }
}
