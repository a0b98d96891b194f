//! How each row of the manual's table is gone. In scripts, `OPTIONS` and `HOST` are put in; `data` is there, and what comes back must be the same.

use crate::hosts::{FORCED, PLAIN, ROOT_PROHIBITED, WITH_PROGRAM};
use crate::table::Column;

/// One row.
#[derive(Debug)]
pub struct Way {
    /// In the manual.
    pub name: &'static str,
    /// With publickey alone; behind it one more.
    pub port: u16,
    pub is_root: bool,
    pub what: What,
}

#[derive(Debug)]
pub enum What {
    /// A command on the laptop.
    Script {
        script: &'static str,
        /// What it prints when it works; `USER` and `SERVER` are put in.
        stdout: &'static str,
        stderr: &'static str,
        connections: usize,
    },
    Forward,
    Master,
}

/// The shell of [`crate::seat::Seat`]. What a module says in the session would stand above it.
const SHELL_SHOWS: &str = "the shell\r\n";
const TERMINAL_IS_GONE: &str = "Connection to SERVER closed.\r\n";
/// What sftp shows of the two commands that it is given.
const SFTP_SHOWS: &str =
    "sftp> put data x\nUploading data to /home/USER/x\nsftp> get x back\nFetching /home/USER/x to back\n";
/// With the channel bare, too: the very bytes of the program's first answer.
const SFTP: &str = "rm -f back; printf 'put data x\\nget x back\\n' | sftp OPTIONS HOST && cmp data back &&
    /srv/hello ssh OPTIONS -s HOST sftp | cmp - /srv/answer-of-SERVER";

/// In the manual's order.
pub const WAYS: [Way; 14] = [
    command("`ssh HOST COMMAND`", PLAIN, "ssh -A OPTIONS HOST hostname", "SERVER\n"),
    files("a shell on a terminal", PLAIN, "ssh -tt OPTIONS HOST < /dev/null", SHELL_SHOWS, TERMINAL_IS_GONE, 1),
    command(
        "`ssh HOST COMMAND` with no agent at all",
        PLAIN,
        "env -u SSH_AUTH_SOCK ssh -a -o IdentitiesOnly=yes -i ~/KEY OPTIONS HOST hostname",
        "SERVER\n",
    ),
    command("`BatchMode=yes`", PLAIN, "ssh -o BatchMode=yes OPTIONS HOST hostname", "SERVER\n"),
    files("`sftp`, by `internal-sftp`", PLAIN, SFTP, SFTP_SHOWS, "Connected to SERVER.\n", 2),
    files("`sftp`, by `sftp-server`", WITH_PROGRAM, SFTP, SFTP_SHOWS, "Connected to SERVER.\n", 2),
    files(
        "`sftp -b`",
        PLAIN,
        "rm -f back; printf 'put data x\\nget x back\\n' > batch; sftp -b batch OPTIONS HOST && cmp data back",
        "sftp> put data x\nsftp> get x back\n",
        "",
        1,
    ),
    files("`scp`", PLAIN, "rm -f back; scp OPTIONS data HOST:x && scp OPTIONS HOST:x back && cmp data back", "", "", 2),
    files(
        "`scp -O`",
        PLAIN,
        "rm -f back; scp -O OPTIONS data HOST:x && scp -O OPTIONS HOST:x back && cmp data back",
        "",
        "",
        2,
    ),
    Way { name: "`ssh -N` with a forward", port: PLAIN, is_root: false, what: What::Forward },
    Way { name: "one more session over a ControlMaster", port: PLAIN, is_root: false, what: What::Master },
    as_root("root, `PermitRootLogin yes`", PLAIN),
    as_root("root, `PermitRootLogin prohibit-password`", ROOT_PROHIBITED),
    command("`ForceCommand`", FORCED, "ssh OPTIONS HOST hostname", "forced: hostname\n"),
];

const fn command(name: &'static str, port: u16, script: &'static str, stdout: &'static str) -> Way {
    files(name, port, script, stdout, "", 1)
}

const fn files(
    name: &'static str,
    port: u16,
    script: &'static str,
    stdout: &'static str,
    stderr: &'static str,
    connections: usize,
) -> Way {
    Way { name, port, is_root: false, what: What::Script { script, stdout, stderr, connections } }
}

const fn as_root(name: &'static str, port: u16) -> Way {
    let what = What::Script { script: "ssh OPTIONS HOST id -u", stdout: "0\n", stderr: "", connections: 1 };
    Way { name, port, is_root: true, what }
}

impl Way {
    /// How many are opened and closed again, when it works.
    pub fn connections(&self) -> usize {
        match self.what {
            What::Script { connections, .. } => connections,
            What::Forward => 1,
            What::Master => 0,
        }
    }

    /// Where a byte of ours would show, in files, a protocol or above a shell: with both of our lines in the stack if it gets in so.
    pub fn carries_bytes(&self) -> Option<Column> {
        let What::Script { script, .. } = self.what else { return None };
        if script.contains("sftp -b") {
            return Some(Column::PublicKey);
        }
        ["sftp", "scp", "ssh -tt"].iter().any(|program| script.contains(program)).then_some(Column::Behind)
    }
}
