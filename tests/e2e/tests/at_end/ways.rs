//! What can be open when a certificate runs out. In scripts, `HOST`, `NAME` and `PORT` are put in; `BEAT` is a program on the server that writes to `/tmp/pulse-NAME` as long as it runs.

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    /// In the manual.
    pub what: &'static str,
    /// On the laptop, on a terminal.
    pub script: &'static str,
    pub pulse: Pulse,
}

/// How one sees whether it is of use.
#[derive(Clone, Copy, Debug)]
pub enum Pulse {
    /// These files on the server grow.
    Files(usize),
    /// A connection to the forwarded port on the laptop meets sshd.
    Port,
    /// Likewise by SOCKS.
    Socks,
    /// Likewise on the server.
    PortOnServer,
}

/// Writes once in 50 ms.
pub const BEAT: &str = "while :; do echo >> /tmp/pulse-NAME-N; sleep 0.05; done";

const MASTER: &str = "ssh -A -M -S ~/master-HOST HOST 'BEAT1' & until [ -S ~/master-HOST ]; do sleep 0.05; done
    for n in 2 3 4 5; do ssh -S ~/master-HOST HOST \"${beat/-N/-$n}\" & done; wait";

/// In the manual's order.
pub const WAYS: [Way; 16] = [
    file("a shell on a terminal", "ssh -A -tt HOST 'BEAT1'"),
    file("a command", "ssh -A HOST 'BEAT1' < /dev/null"),
    // A file grows as slowly as it is sent.
    file("`sftp -A`", "echo put big /tmp/pulse-NAME-1 | sftp -A -l 400 HOST"),
    file("`sftp`", "echo put big /tmp/pulse-NAME-1 | sftp -l 400 HOST"),
    file("`scp -A`", "scp -A -l 400 big HOST:/tmp/pulse-NAME-1"),
    file("`scp`", "scp -l 400 big HOST:/tmp/pulse-NAME-1"),
    Way { what: "`ssh -N -L`", script: "ssh -A -N -L 127.0.0.1:PORT:127.0.0.1:22 HOST", pulse: Pulse::Port },
    Way { what: "`ssh -N -R`", script: "ssh -A -N -R 127.0.0.1:PORT:HOST:22 HOST", pulse: Pulse::PortOnServer },
    Way { what: "`ssh -N -D`", script: "ssh -A -N -D 127.0.0.1:PORT HOST", pulse: Pulse::Socks },
    file("a command, with `-R`", "ssh -A -R 127.0.0.1:PORT:HOST:22 HOST 'BEAT1' < /dev/null"),
    // Debian's ssh trusts what it forwards of X11, and so needs no X server to begin with.
    file("a command, with `-X`", "DISPLAY=:9 ssh -A -X HOST 'test \"$DISPLAY\" && BEAT1' < /dev/null"),
    Way { what: "a ControlMaster with five sessions", script: MASTER, pulse: Pulse::Files(5) },
    file("tmux inside", "TERM=vt100 ssh -A -tt HOST \"tmux -u new-session 'BEAT1'\""),
    file("`sudo -i` inside", "ssh -A -tt HOST \"sudo -i sh -c 'BEAT1'\""),
    file("a login as root", "ssh -A root@HOST 'BEAT1' < /dev/null"),
    file("a shell, agent forwarding off", "ssh -a -tt HOST 'BEAT1'"),
];

const fn file(what: &'static str, script: &'static str) -> Way {
    Way { what, script, pulse: Pulse::Files(1) }
}
