//! Sessions that cost nothing to have: records of processes that only sleep, for whoever wants many.

use std::time::Duration;

use ussh_lab::{LabError, Process};

use crate::forge::Forgery;
use crate::world::World;

/// How long all of it may take.
const SOON: Duration = Duration::from_secs(60);
/// So many certificates are shared out between them: who reads a record does not know.
const CERTIFICATES: usize = 10;

/// Makes so many processes that stand for sshd's, with records that hold the certificates on its standard input in turn. Says `ready`.
const CROWD: &str = r##"
my ($many, $user, $uid) = @ARGV; my @certificates = map { chomp; $_ } <STDIN>; $| = 1;
open(my $b, "<", "/proc/sys/kernel/random/boot_id"); chomp(my $boot = <$b>); my ($now, $spool) = (time, "/run/ussh-hostd/sessions");
for my $n (1..$many) {
    my $pid = fork; unless ($pid) { close STDOUT; close STDERR; sleep 600; exit }
    open(my $f, "<", "/proc/$pid/stat"); my ($start) = (split ' ', <$f> =~ s/.*\) //r)[19]; my $certificate = $certificates[$n % @certificates];
    open(my $r, ">", "$spool/.$pid-$start.json.new"); chmod 0600, $r;
    print $r qq({"version":1,"pid":$pid,"start_time":$start,"boot_id":"$boot","user":"$user","uid":$uid,"rhost":"192.0.2.1","certificate":"$certificate","opened":$now}); close $r;
    rename "$spool/.$pid-$start.json.new", "$spool/$pid-$start.json";
}
print "ready\n"; sleep 600;
"##;

impl World {
    /// So many, of one user, whose certificates end in an hour. They are there as long as what this gives.
    ///
    /// # Errors
    /// They could not be made.
    pub fn stand_in_sessions(&self, server: &str, user: &str, many: usize) -> Result<Process, LabError> {
        let mut certificates = String::new();
        for _ in 0..CERTIFICATES {
            let forged = self.forge(&Forgery::of(user).validity("-5m:+1h"))?;
            // As the module writes it: type and blob, no comment.
            let text = String::from_utf8_lossy(forged.certificate());
            certificates += &text.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
            certificates.push('\n');
        }
        let host = self.host(server);
        let uid = host.run(["id", "-u", user])?.ok()?.stdout;
        let many = many.to_string();
        let crowd = host.command(["perl", "-e", CROWD, &many, user, uid.trim()]).stdin(certificates).spawn()?;
        crowd.wait_for_output("ready", SOON)?;
        Ok(crowd)
    }
}
