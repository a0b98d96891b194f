//! Listeners that write down who comes: what a user may put in an agent's place, and what stands in front of somebody else's agent as a witness.

use std::collections::BTreeSet;
use std::time::Duration;

use ussh_lab::{Host, LabError, Output, wait_until};

use crate::world::World;

/// How long anything may take.
const SOON: Duration = Duration::from_secs(20);

/// Listens at `PATH` (`@NAME`: an abstract one), where one is given as the user `LISTENER`; what comes goes on to `TARGET`, where there is one. `LOG` tells of each connection with
/// its SO_PEERCRED (17) and SO_PEERGROUPS (59) in the moment it is taken, and of the first bytes that come on it. What begins with "mark" is the witness's own.
const RELAY: &str = r#"
use Socket; use IO::Select; use IO::Handle; use POSIX ();
my ($path, $type, $listener_name, $target, $log) = @ARGV; my (%other, %quiet); $SIG{PIPE} = 'IGNORE';
sub note { open(my $f, '>>', $log) or die "$log: $!"; print $f "$_[0]\n"; close $f }
sub begin { my $name = $path; my ($folder, $last) = $path =~ m{^(.*)/([^/]*)$}s; my $from = POSIX::getcwd();
  if (defined $folder) { chdir $folder or die "$folder: $!"; $name = $last } else { $name =~ s/^@/\0/ }
  bind($_[0], pack_sockaddr_un($name)) or die "$path: $!"; $type == SOCK_DGRAM or listen($_[0], 64) or die "$path: $!"; chdir $from }
socket(my $listener, PF_UNIX, $type, 0) or die $!;
if ($listener_name) { my $pid = fork;
  if (!$pid) { my ($uid, $gid) = (getpwnam $listener_name)[2, 3]; $) = "$gid $gid"; POSIX::setgid($gid); POSIX::setuid($uid); begin($listener); POSIX::_exit(0) }
  waitpid $pid, 0; $? == 0 or die "no listener"; my ($uid, $gid) = (getpwnam $ENV{ACCEPTS})[2, 3]; $) = "$gid $gid"; POSIX::setgid($gid); POSIX::setuid($uid)
} else { begin($listener) }
my $all = IO::Select->new($listener); STDOUT->autoflush; print "listening\n";
while (my @ready = $all->can_read) { for my $one (@ready) {
  if ($one == $listener) {
    if ($type == SOCK_DGRAM) { recv($listener, my $bytes, 65536, 0); note($bytes =~ /^mark/ ? $bytes : 'question'); next }
    accept(my $in, $listener) or next;
    my $groups = join ',', sort { $a <=> $b } unpack 'L*', getsockopt($in, SOL_SOCKET, 59);
    note(join ' ', 'connection', unpack('lLL', getsockopt($in, SOL_SOCKET, 17)), $groups);
    $quiet{$in} = 1; $all->add($in); next }
  my $is_first = delete $quiet{$one};
  if (sysread($one, my $bytes, 65536)) {
    if ($is_first and $bytes =~ /^mark/) { note($bytes); next }
    if ($is_first) { note('question');
      if ($target) { socket(my $out, PF_UNIX, SOCK_STREAM, 0); connect($out, pack_sockaddr_un($target)) or die "$target: $!";
        $other{$one} = $out; $other{$out} = $one; $all->add($out) } }
    syswrite $other{$one}, $bytes if $other{$one} }
  else { my $other = delete $other{$one}; delete $other{$other} if $other; for my $end (grep { $_ } $one, $other) { $all->remove($end); close $end } } } }
"#;

/// Connects to `PATH` and marks its connection; prints its process ID and the error number, 0 if it got through. From outside of an over-long path it goes into the folder first.
const KNOCK: &str = r#"
use Socket; my ($path, $type, $goes_in) = @ARGV; socket(my $s, PF_UNIX, $type, 0) or die $!;
if ($goes_in) { my ($folder, $last) = $path =~ m{^(.*)/([^/]*)$}s; if (defined $folder) { chdir $folder or die "$folder: $!"; $path = $last } else { $path =~ s/^@/\0/ } }
my $error = connect($s, pack_sockaddr_un($path)) ? 0 : $! + 0; syswrite $s, "mark $$" if !$error; print "$$ $error\n";
"#;

/// What kind of socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketType {
    /// As agents have it.
    Stream = 1,
    /// As syslog has it.
    Datagram = 2,
    /// Records with a connection.
    SeqPacket = 5,
}

/// One that is to be.
#[derive(Clone, Debug)]
pub struct RelayPlan<'a> {
    host: &'a str,
    user: &'a str,
    listener: &'a str,
    path: &'a str,
    socket_type: SocketType,
    target: &'a str,
    log: String,
}

impl<'a> RelayPlan<'a> {
    /// Of `user`, who may listen at `path`: a stream without anything behind it. Beside the socket lies its log.
    pub fn new(host: &'a str, user: &'a str, path: &'a str) -> Self {
        let log = format!("{path}.log");
        RelayPlan { host, user, listener: "", path, socket_type: SocketType::Stream, target: "", log }
    }

    /// In front of this socket, to which its user may connect.
    #[must_use]
    pub fn target(mut self, target: &'a str) -> Self {
        self.target = target;
        self
    }

    /// Of another type.
    #[must_use]
    pub fn socket_type(mut self, socket_type: SocketType) -> Self {
        self.socket_type = socket_type;
        self
    }

    /// With its log at another place.
    #[must_use]
    pub fn log(mut self, path: &str) -> Self {
        path.clone_into(&mut self.log);
        self
    }

    /// A process of this user's binds and listens, and passes the descriptor on to the one who accepts.
    #[must_use]
    pub fn listener(mut self, user: &'a str) -> Self {
        self.listener = user;
        self
    }
}

/// A relay that runs on a host.
#[derive(Debug)]
pub struct Relay {
    host: Host,
    path: String,
    socket_type: SocketType,
    log: String,
}

/// Who connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Process ID.
    pub pid: i32,
    /// Effective user ID,
    pub uid: u32,
    /// group ID,
    pub gid: u32,
    /// and supplementary groups, in order, in the moment of connect().
    pub groups: Vec<u32>,
}

impl World {
    /// Starts one as `user`, who may listen at `path` and connect to `target`.
    ///
    /// # Errors
    /// It does not listen.
    pub fn relay(&self, host: &str, user: &str, path: &str, target: &str) -> Result<Relay, LabError> {
        self.start_relay(&RelayPlan::new(host, user, path).target(target))
    }

    /// Starts one.
    ///
    /// # Errors
    /// It does not listen.
    pub fn start_relay(&self, plan: &RelayPlan<'_>) -> Result<Relay, LabError> {
        let host = self.host(plan.host);
        let socket_type = (plan.socket_type as i32).to_string();
        let argv = ["perl", "-e", RELAY, plan.path, &socket_type, plan.listener, plan.target, &plan.log];
        // Root gives both their part of one descriptor.
        let user = if plan.listener.is_empty() { plan.user } else { "root" };
        if user != plan.user {
            host.write_file_as(plan.user, &plan.log, 0o644, "")?;
        }
        let service = host.command(argv).user(user).env("ACCEPTS", plan.user).service(&plan.log)?;
        service.wait_for_output("listening", SOON)?;
        Ok(Relay { host, path: plan.path.to_owned(), socket_type: plan.socket_type, log: plan.log.clone() })
    }

    /// Connects to a socket as `user`, as any program does. The error number that came of it, 0 for none.
    ///
    /// # Errors
    /// It could not be tried.
    pub fn knock(&self, host: &str, user: &str, path: &str) -> Result<i32, LabError> {
        let host = self.host(host);
        let stream = (SocketType::Stream as i32).to_string();
        Ok(knocked(&host.command(["perl", "-e", KNOCK, path, &stream]).user(user).run()?)?.1)
    }
}

/// Process ID and error number.
fn knocked(output: &Output) -> Result<(i32, i32), LabError> {
    let no_result = || LabError::Setup { what: "it did not knock".to_owned(), log: output.to_string() };
    let (pid, error) = output.stdout.trim_end().split_once(' ').ok_or_else(no_result)?;
    Ok((pid.parse().map_err(|_| no_result())?, error.parse().map_err(|_| no_result())?))
}

impl Relay {
    /// Where it listens.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// How many connections came, and how many of them asked anything.
    ///
    /// # Errors
    /// Its file cannot be read.
    pub fn seen(&self) -> Result<(usize, usize), LabError> {
        let questions = self.lines()?.iter().filter(|line| *line == "question").count();
        Ok((self.connections()?.len(), questions))
    }

    /// Who connected, but for those who only knocked.
    ///
    /// # Errors
    /// Its file cannot be read, or is none.
    pub fn connections(&self) -> Result<Vec<Connection>, LabError> {
        let lines = self.lines()?;
        let marks: BTreeSet<&str> = lines.iter().filter_map(|line| line.strip_prefix("mark ")).collect();
        let connections = lines.iter().filter_map(|line| line.strip_prefix("connection "));
        let mut all = Vec::new();
        for line in connections {
            let unknown = || LabError::Setup { what: format!("{} is no log", self.log), log: line.to_owned() };
            let mut words = line.split(' ');
            let pid = words.next().unwrap_or_default();
            let number = |text: Option<&str>| text.and_then(|text| text.parse().ok()).ok_or_else(unknown);
            let (uid, gid) = (number(words.next())?, number(words.next())?);
            let groups = words.next().unwrap_or_default().split(',').filter_map(|group| group.parse().ok()).collect();
            if !marks.contains(pid) {
                all.push(Connection { pid: pid.parse().map_err(|_| unknown())?, uid, gid, groups });
            }
        }
        Ok(all)
    }

    /// Waits until all that came before this call is written down: root knocks, and connections are taken in their order.
    ///
    /// # Errors
    /// It does not take connections any more.
    pub fn settle(&self) -> Result<(), LabError> {
        let socket_type = (self.socket_type as i32).to_string();
        let (pid, error) = knocked(&self.host.run(["perl", "-e", KNOCK, &self.path, &socket_type, "goes in"])?)?;
        if error != 0 {
            let what = format!("{}: error {error} for root", self.path);
            return Err(LabError::Setup { what, log: String::new() });
        }
        let mark = format!("mark {pid}");
        wait_until(SOON, "the relay", || self.lines().is_ok_and(|lines| lines.contains(&mark)))
    }

    fn lines(&self) -> Result<Vec<String>, LabError> {
        let log = if self.host.exists(&self.log) { self.host.read_file(&self.log)? } else { String::new() };
        Ok(log.lines().map(str::to_owned).collect())
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // Gone already with a host that was removed: nothing is left to end.
        let _ = self.host.forget_service(&self.log);
    }
}
