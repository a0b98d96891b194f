//! Who notes when processes end: a program beside them on their host, which holds each by a pidfd and asks nobody of ours.

use std::collections::BTreeMap;
use std::time::Duration;

use ussh_lab::{LabError, Process};

use crate::world::World;

/// For each line `NAME PID` all that descends from the process; says `NAME SECONDS` (since the epoch) when the last of it has ended.
/// System calls by their numbers on x86-64, clock_gettime and pidfd_open: Debian 13's perl-base knows neither.
const WATCHER: &str = r#"
$| = 1; sub now { my $t = "\0" x 16; syscall(228, 0, $t); my ($s, $ns) = unpack 'qq', $t; $s + $ns / 1e9 } my (%fd, %left, %parent);
for (glob '/proc/[0-9]*/stat') { open(my $f, '<', $_) or next; my $line = <$f> // next; /(\d+)/; my $pid = $1; $line =~ /.*\) \S (\d+)/s and $parent{$pid} = $1 }
my %name; while (<STDIN>) { my ($name, $pid) = split; $name{$pid} = $name }
for my $pid (keys %parent) { my $p = $pid; $p = $parent{$p} while $p && !$name{$p}; next unless $p; my $name = $name{$p};
  my $fd = syscall(434, $pid + 0, 0); next if $fd < 0; $fd{$fd} = $name; $left{$name}++ }
printf "watching %d processes of %d\n", scalar keys %fd, scalar keys %left;
while (%fd) { my $set = ''; vec($set, $_, 1) = 1 for keys %fd; select(my $ready = $set, undef, undef, undef); my $now = now();
  for my $fd (grep { vec($ready, $_, 1) } keys %fd) { my $name = delete $fd{$fd}; printf "%s %.3f\n", $name, $now unless --$left{$name} } }
"#;

/// Watches, from when it was made.
#[derive(Debug)]
pub struct Watcher(Process);

impl World {
    /// Watches these processes of a host, and all that descends from them now.
    ///
    /// # Errors
    /// One of them is not there any more.
    pub fn watch_ends(&self, host: &str, pids: &[u64], patience: Duration) -> Result<Watcher, LabError> {
        let lines: String = pids.iter().map(|pid| format!("s{pid} {pid}\n")).collect();
        let watcher = self.host(host).command(["perl", "-e", WATCHER]).stdin(lines).spawn()?;
        watcher.wait_for_output(&format!(" of {}\n", pids.len()), patience)?;
        Ok(Watcher(watcher))
    }
}

impl Watcher {
    /// How many processes it watches.
    pub fn processes(&self) -> usize {
        self.0.stdout().split(' ').nth(1).and_then(|many| many.parse().ok()).unwrap_or(0)
    }

    /// When the last process of each was gone, in seconds since the epoch, by the number it was named by. Waits for all.
    ///
    /// # Errors
    /// Some of them live on.
    pub fn ends(&self, patience: Duration) -> Result<BTreeMap<u64, f64>, LabError> {
        let said = self.0.wait(patience)?.ok()?.stdout;
        let lines = said.lines().skip(1).filter_map(|line| line.strip_prefix('s')?.split_once(' '));
        Ok(lines.filter_map(|(pid, at)| Some((pid.parse().ok()?, at.parse().ok()?))).collect())
    }
}
