//! What hostile users do. In scripts, `HOST`, `NAME`, `PORT` are put in; `client` runs on the laptop on a terminal, `script` is `~/trick` on the server, which makes `~/set` when the trick is in place.

/// One of them.
#[derive(Clone, Copy, Debug)]
pub struct Trick {
    pub what: &'static str,
    pub servers: &'static [&'static str],
    /// On the server, before the login.
    pub before: &'static str,
    pub client: &'static str,
    pub script: &'static str,
    /// The client is stopped when the trick is in place.
    pub stops_client: bool,
    /// It is about what the agent says: the certificate runs out. Else it is revoked, when all tricks are in place.
    pub runs_out: bool,
}

/// Of what had left the session where the manual says that it goes on.
pub const LEFT: &str = "sleep 4711";
/// Of what everybody has besides, in a session of its own.
pub const BYSTANDER: &str = "sleep 4700";

const BOTH: &[&str] = &["plain", "whole"];
const PLAIN: &[&str] = &["plain"];
const WHOLE: &[&str] = &["whole"];
const FROST: &[&str] = &["frost"];

const USUAL: Trick = Trick {
    what: "",
    servers: BOTH,
    before: "",
    client: "ssh -A -tt HOST ./trick",
    script: "",
    stops_client: false,
    runs_out: false,
};

/// Forwards an agent that is none of ssh-agent's.
macro_rules! odd_agent {
    ($what:literal, $how:literal, $servers:expr) => {
        Trick {
            what: $what,
            servers: $servers,
            client: concat!(
                "perl ~/odd ",
                $how,
                " & until [ -S ~/odd.sock ]; do sleep 0.05; done; ssh -o ForwardAgent=$HOME/odd.sock -tt HOST ./trick"
            ),
            script: "set_up; pulse",
            runs_out: true,
            ..USUAL
        }
    };
}

/// Takes whoever connects to `~/odd.sock`, and answers none of them as an agent should.
pub const ODD_AGENT: &str = r#"use Socket; my $how = shift; my $path = "$ENV{HOME}/odd.sock"; socket(my $s, PF_UNIX, SOCK_STREAM, 0); bind($s, sockaddr_un($path)) or die; listen($s, 9);
$SIG{PIPE} = $SIG{CHLD} = 'IGNORE'; while (accept(my $c, $s)) { next if fork; sysread $c, my $asked, 5 unless $how eq 'flood';
  if ($how eq 'half') { syswrite $c, pack('NC', 100000, 12) . 'x' x 10 }
  if ($how eq 'drip') { syswrite $c, pack('NC', 262144, 12); while (syswrite $c, 'x') { select undef, undef, undef, 0.02 } }
  if ($how eq 'flood') { 1 while syswrite $c, pack('NC', 1, 5) x 10000 }
  sleep 600 }"#;

/// Before each script. What keeps the machine busy begins when all is in place.
pub const PRELUDE: &str = "#!/bin/bash
set_up() { touch ~/set; }
begin() { set_up; until [ -e /srv/all-open ]; do sleep 0.1; done; touch ~/begun; }
pulse() { while :; do echo >> ~/pulse; sleep 0.05; done; }
";

pub const TRICKS: [Trick; 29] = [
    Trick { what: "stops the sshd that serves him", script: "set_up; kill -STOP $PPID; sleep 600", ..USUAL },
    Trick {
        what: "stops it again and again",
        servers: PLAIN,
        script: "trap '' HUP TERM; begin; while :; do kill -STOP $PPID; sleep 0.01; done",
        ..USUAL
    },
    Trick {
        what: "puts an agent of his own at the socket's place, which holds another's certificate",
        servers: PLAIN,
        before: "chmod 600 ~/other",
        script: "mv $SSH_AUTH_SOCK $SSH_AUTH_SOCK.sshds; ssh-agent -D -a $SSH_AUTH_SOCK > /dev/null & until ssh-add -q ~/other 2> /dev/null; do sleep 0.1; done; ssh-add -l | grep -q ED25519-CERT && set_up; sleep 600",
        runs_out: true,
        ..USUAL
    },
    Trick {
        what: "removes the agent's socket, and its folder",
        servers: WHOLE,
        script: "rm -r ${SSH_AUTH_SOCK%/*}; set_up; sleep 600",
        runs_out: true,
        ..USUAL
    },
    odd_agent!("forwards an agent that never answers", "mute", PLAIN),
    odd_agent!("forwards one that stops in the midst of its answer", "half", WHOLE),
    odd_agent!("forwards one that answers a byte at a time, for ever", "drip", PLAIN),
    odd_agent!("forwards one that floods", "flood", WHOLE),
    Trick {
        what: "writes where records and groups lie, or would",
        script: r#"find /run/ussh-hostd /sys/fs/cgroup /run/utmp /var/run/utmp -writable ! -type l >> ~/could 2> /dev/null
for group in $(find /sys/fs/cgroup -name cgroup.procs); do echo $$ 2> /dev/null > $group && echo $group >> ~/could; done 2> /dev/null
ln -s /run/ussh-hostd/sessions ~/sessions; touch "/tmp/$PPID-1.json" "/tmp/1-1.json"; mkdir -p ~/ussh-sessions/1-1; set_up; sleep 600"#,
        ..USUAL
    },
    Trick {
        what: "looks for a group to write to as the root of a namespace of his own",
        script: r#"unshare -Urm bash -c 'mount -t cgroup2 none /mnt && touch ~/mounted; for group in $(find /sys/fs/cgroup /mnt -name cgroup.procs); do echo $$ > $group && echo $group >> ~/could; done 2> /dev/null
  (setsid sleep 600 &); touch ~/set; exec sleep 600' 2> /dev/null"#,
        servers: WHOLE,
        ..USUAL
    },
    Trick {
        what: "has process numbers of his own",
        script: "unshare -Urpf bash -c 'trap \"\" HUP TERM; (setsid sleep 600 &); touch ~/set; sleep 600; sleep 600'",
        ..USUAL
    },
    Trick {
        what: "traces his own, each the next one, and stops them on their way out",
        script: r#"perl -e 'my $ptrace = `uname -m` =~ /x86_64/ ? 101 : 117; sub seize { syscall($ptrace, 0x4206, $_[0], 0, 0x40) == 0 or die "$!" } $SIG{HUP} = "IGNORE";
  my $first = fork; unless ($first) { my $second = fork; unless ($second) { sleep 600; exit } seize($second); sleep 600; exit } select undef, undef, undef, 0.2; seize($first);
  syscall($ptrace, 16, getppid, 0, 0); open my $f, ">", "$ENV{HOME}/set"; sleep 600'"#,
        ..USUAL
    },
    Trick {
        what: "leaves the session by setsid and a double fork, and heeds no signal",
        script: "trap '' HUP TERM INT QUIT; (setsid sleep 4711 > /dev/null 2>&1 < /dev/null &); set_up; sleep 600; sleep 600",
        ..USUAL
    },
    Trick {
        what: "hops from process to process, none of which has a parent for long",
        servers: WHOLE,
        script: r#"begin; perl -e '$SIG{$_} = "IGNORE" for qw(HUP TERM INT); fork and exit; while (1) { fork and exit; select undef, undef, undef, 0.003 }'; sleep 600"#,
        ..USUAL
    },
    Trick {
        what: "keeps what forks twice as its child",
        servers: PLAIN,
        script: r#"perl -e 'my $prctl = `uname -m` =~ /x86_64/ ? 157 : 167; syscall($prctl, 36, 1, 0, 0, 0) == 0 or die; system "(setsid sleep 600 &)"; open my $f, ">", "$ENV{HOME}/set"; $SIG{HUP} = "IGNORE"; sleep 600'"#,
        ..USUAL
    },
    Trick {
        what: "has more processes than can be counted quickly, all that he may have",
        script: r#"ulimit -u $(($(ps -u $USER | wc -l) + 1300)); perl -e '$SIG{$_} = "IGNORE" for qw(HUP TERM CHLD); my $n = 0; while (defined(my $pid = fork)) { $n++; unless ($pid) { sleep 600; exit } }
  die unless $n > 1100; open my $f, ">", "$ENV{HOME}/set"; while (1) { defined(my $pid = fork) or select undef, undef, undef, 0.01; if (defined $pid && !$pid) { sleep 600; exit } }'"#,
        ..USUAL
    },
    Trick {
        what: "uses process numbers up as fast as he can",
        servers: PLAIN,
        script: "trap '' HUP TERM; begin; while :; do /bin/true; done",
        ..USUAL
    },
    Trick {
        what: "fills /tmp up, bytes and files",
        servers: WHOLE,
        script: "begin; yes > /tmp/full 2> /dev/null; n=0; while : > /tmp/full-$((n++)); do :; done 2> /dev/null; touch ~/filled; sleep 600",
        ..USUAL
    },
    Trick {
        what: "has another certificate in ~/.pam_environment, ~/.ssh/environment and ~/.ssh/rc",
        before: "mkdir -p ~/.ssh; cert=$(cut -d ' ' -f 1,2 ~/other-cert.pub); echo \"SSH_AUTH_INFO_0 DEFAULT=\\\"publickey $cert\\\"\" > ~/.pam_environment; echo 'SSH_CONNECTION DEFAULT=\"1.2.3.4 5 6.7.8.9 22\"' >> ~/.pam_environment
 echo \"SSH_AUTH_INFO_0=publickey $cert\" > ~/.ssh/environment; echo 'setsid sleep 600 > /dev/null 2>&1 < /dev/null & touch ~/rc' > ~/.ssh/rc",
        // What rc has started has no parent any more.
        script: "[ ! -e ~/rc ] || pkill -x -f 'sleep 600'; set_up; exec sleep 600",
        ..USUAL
    },
    Trick {
        what: "calls his processes and files so that who reads of them is led astray",
        script: r#"cp /bin/sleep ~/sshd; cp /bin/sleep "$HOME/a) S 1 1
(b"; ~/sshd 600 & "$HOME/a) S 1 1
(b" 600 & perl -e '$0 = "x) Z 1 1 (y"; system("true"); unless (fork) { $0 = "z)\n1 S 1"; sleep 600; exit } unless (fork) { $0 = "\xff\xfe"; $SIG{HUP} = "IGNORE"; sleep 600; exit } open my $f, ">", "$ENV{HOME}/set"; sleep 600'"#,
        ..USUAL
    },
    Trick {
        what: "runs an sshd of his own",
        before: "ssh-keygen -q -t ed25519 -N '' -f ~/hostkey",
        script: "/usr/sbin/sshd -D -f /dev/null -h ~/hostkey -p PORT -o PidFile=none & until (exec 3<> /dev/tcp/127.0.0.1/PORT) 2> /dev/null; do sleep 0.05; done; set_up; sleep 600",
        ..USUAL
    },
    Trick {
        what: "has stopped all that he runs",
        servers: WHOLE,
        script: "sleep 600 & kill -STOP $!; (trap '' HUP; sleep 600) & kill -STOP $!; set_up; kill -STOP $$",
        ..USUAL
    },
    Trick {
        what: "takes no messages, and stops his terminal",
        servers: PLAIN,
        script: "mesg n; chmod 0 $(tty); stty raw -echo; set_up; trap '' HUP; while :; do sleep 600; done",
        ..USUAL
    },
    Trick {
        what: "floods his terminal, which nobody reads",
        script: "trap '' HUP PIPE; begin; while :; do yes; done",
        stops_client: true,
        ..USUAL
    },
    Trick {
        what: "floods a client that reads",
        servers: PLAIN,
        client: "ssh -A -tt HOST ./trick > /dev/null",
        script: "trap '' HUP PIPE; begin; while :; do yes; done",
        ..USUAL
    },
    Trick {
        what: "has many channels, and forwards, and stops sshd",
        client: "ssh -A -M -S ~/m-HOST -R 127.0.0.1:PORT:127.0.0.1:22 -R /tmp/forward-NAME:127.0.0.1:22 HOST ./trick & until [ -S ~/m-HOST ]; do sleep 0.05; done
 for n in 1 2 3 4 5 6 7; do ssh -S ~/m-HOST HOST \"trap '' HUP; sleep 600; sleep 600\" & done; wait",
        script: "until [ $(pgrep -c -u NAME -x sleep) -ge 7 ]; do sleep 0.05; done; set_up; kill -STOP $PPID; sleep 600",
        ..USUAL
    },
    Trick {
        what: "logs in again from the host to itself, with the forwarded agent",
        script: "ssh -A -tt -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null 127.0.0.1 'touch ~/set; trap \"\" HUP; sleep 600; sleep 600' 2> /dev/null",
        ..USUAL
    },
    Trick {
        what: "becomes root",
        script: "sudo -i sh -c 'trap \"\" HUP TERM; sleep 4721 & (setsid sleep 4711 &); touch /home/NAME/set; sleep 4722; sleep 4723'",
        ..USUAL
    },
    Trick {
        what: "has all of it in tmux",
        servers: WHOLE,
        script: "TERM=vt100 tmux -u new-session -d 'trap \"\" HUP TERM; touch ~/set; sleep 600; sleep 600'; sleep 600",
        ..USUAL
    },
];

/// Where sessions are frozen first, and revoked then.
pub const FROZEN_TRICKS: [Trick; 7] = [
    Trick {
        what: "stops the sshd that serves him",
        servers: FROST,
        script: "pulse & set_up; kill -STOP $PPID; wait",
        ..USUAL
    },
    Trick {
        what: "leaves the session by setsid and a double fork, and heeds no signal",
        servers: FROST,
        script: "trap '' HUP TERM CONT; export -f pulse; (setsid bash -c pulse > /dev/null 2>&1 < /dev/null &); set_up; sleep 600",
        ..USUAL
    },
    Trick {
        what: "hops from process to process, none of which has a parent for long",
        servers: FROST,
        script: r#"perl -e '$SIG{$_} = "IGNORE" for qw(HUP TERM INT); fork and exit; open my $f, ">", "$ENV{HOME}/set"; open $f, ">>", "$ENV{HOME}/pulse"; while (1) { fork and exit; syswrite $f, "x"; select undef, undef, undef, 0.003 }'; sleep 600"#,
        ..USUAL
    },
    Trick {
        what: "has very many processes",
        servers: FROST,
        script: r#"perl -e 'for (1 .. 1200) { fork or do { sleep 600; exit } } open my $f, ">", "$ENV{HOME}/set"; open $f, ">>", "$ENV{HOME}/pulse"; while (1) { fork or exit; syswrite $f, "x"; select undef, undef, undef, 0.01; wait }'"#,
        ..USUAL
    },
    Trick {
        what: "traces what he runs",
        servers: FROST,
        script: r#"pulse & child=$! perl -e 'my $ptrace = `uname -m` =~ /x86_64/ ? 101 : 117; syscall($ptrace, 0x4206, $ENV{child} + 0, 0, 0x40) == 0 or die; open my $f, ">", "$ENV{HOME}/set"; sleep 600'"#,
        ..USUAL
    },
    odd_agent!("forwards an agent that never answers", "mute", FROST),
    Trick {
        what: "has process numbers of his own",
        servers: FROST,
        script: "export -f pulse; unshare -Urpf bash -c 'pulse & touch ~/set; wait'",
        ..USUAL
    },
];
