//! One socket, tried through sudo, su and doas, and then by the user with a program of his own.

use ussh_e2e::{Connection, Relay};

use crate::street::Street;
use crate::{AGENT_SILENT, NO_AGENT, NOT_GOOD, WORLD};

/// Tries SSH_AUTH_SOCK in each of them.
const TRY: &str = r#"
try() { echo "try $1"; shift; timeout 25 "$@" 2>&1; echo "exit $?"; }
try sudo sudo id -u; try su su root -c 'id -u'; try doas doas id -u
"#;
/// Whom [`TRY`] asks, in its order.
pub const PROGRAMS: [&str; 3] = ["sudo", "su", "doas"];

/// A socket, and what is due.
pub struct Row<'a> {
    pub name: &'a str,
    /// SSH_AUTH_SOCK.
    pub socket: String,
    /// Who listens there.
    pub relay: Option<&'a Relay>,
    pub due: Due,
    /// Whether SSH_AUTH_SOCK means the same to every program (`/proc/self` does not).
    pub is_absolute: bool,
}

/// In a reason: who is judged, in su another one than in the others.
pub const JUDGED: &str = "(judged)";

/// What is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Due {
    /// Root, by the certificate of this serial.
    Accepted(u64),
    /// What the reason in the log is. The user reads a sentence that does not say it.
    Refused(&'static str, String),
}

impl Due {
    /// No agent of the user's at that socket.
    pub fn no_agent(socket: &str, why: &str) -> Self {
        Due::Refused(AGENT_SILENT, format!("agent: {socket}: {why}"))
    }

    pub fn denied(socket: &str) -> Self {
        Due::no_agent(socket, "Permission denied (os error 13)")
    }

    pub fn belongs_to(socket: &str, uid: u32) -> Self {
        Due::no_agent(socket, &format!("the agent belongs to uid {uid}"))
    }

    pub fn unusable(socket: &str) -> Self {
        Due::no_agent(socket, "not a usable socket path")
    }

    pub fn unset() -> Self {
        Due::Refused(NO_AGENT, "no SSH_AUTH_SOCK".to_owned())
    }

    /// What becomes of a connect() that the user makes himself; `None`: he gets further than the module goes.
    fn errno(&self) -> Option<i32> {
        match self {
            Due::Accepted(_) => Some(0),
            Due::Refused(_, reason) if reason.ends_with("usable socket path") || reason == "no SSH_AUTH_SOCK" => None,
            Due::Refused(_, reason) => {
                let number = reason.rsplit_once("(os error ").and_then(|(_, rest)| rest.strip_suffix(')'));
                Some(number.map_or(0, |number| number.parse().unwrap()))
            }
        }
    }

    /// How many connections the listener sees of each program, and how many questions.
    fn seen(&self) -> (usize, usize) {
        match self {
            Due::Accepted(_) | Due::Refused(NOT_GOOD, _) => (1, 1),
            Due::Refused(_, reason) if reason.contains(": the agent belongs to uid ") => (1, 0),
            Due::Refused(..) => (0, 0),
        }
    }
}

/// What one program showed, and how it ended.
#[derive(Debug)]
struct Attempt<'a> {
    program: &'a str,
    shown: &'a str,
    code: i32,
}

impl Street {
    /// Tries each row; all that is wrong at once.
    pub fn walk(&self, rows: &[Row<'_>]) {
        let wrong: Vec<String> = rows.iter().flat_map(|row| self.try_row(row)).collect();
        let relays = self.relays().chain(rows.iter().filter_map(|row| row.relay));
        let wrong = [wrong, relays.flat_map(|relay| self.strangers_at(relay)).collect()].concat();
        assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    }

    fn try_row(&self, row: &Row<'_>) -> Vec<String> {
        let host = WORLD.host(self.server);
        let before = row.relay.map(|relay| (relay.connections().unwrap().len(), relay.seen().unwrap().1));
        let position = WORLD.log_position(self.server);
        let command = host.command(["bash", "-c", TRY]).user(&self.user).cwd(&self.folder);
        let output = command.env("SSH_AUTH_SOCK", &row.socket).run().unwrap();
        let log = self.logged_since(position);

        let mut wrong = self.wrong_answers(row, &attempts(&output.stdout), &log);
        if let (Some(errno), true) = (row.due.errno(), row.is_absolute) {
            let own = WORLD.knock(self.server, &self.user, &row.socket).unwrap();
            if own != errno {
                wrong.push(format!("{}: the user's own connect() gives {own}, not {errno}", row.name));
            }
        }
        if let (Some(relay), Some(before)) = (row.relay, before) {
            relay.settle().unwrap();
            let connections = relay.connections().unwrap();
            let seen = (connections.len() - before.0, relay.seen().unwrap().1 - before.1);
            let due = (row.due.seen().0 * PROGRAMS.len(), row.due.seen().1 * PROGRAMS.len());
            if seen != due {
                wrong.push(format!("{}: the listener sees {seen:?} and not {due:?}: {connections:?}", row.name));
            }
        }
        wrong
    }

    fn wrong_answers(&self, row: &Row<'_>, attempts: &[Attempt<'_>], log: &[String]) -> Vec<String> {
        let name = row.name;
        if attempts.len() != PROGRAMS.len() || log.len() != PROGRAMS.len() {
            return vec![format!("{name}: not one answer and one line in the log of each: {attempts:?} {log:#?}")];
        }
        let each = attempts.iter().zip(log);
        each.filter(|(attempt, line)| !is_due(&row.due, attempt, line))
            .map(|(attempt, line)| format!("{name}: not {:?}, but {attempt:?}: {line}", row.due))
            .collect()
    }

    /// The decisions of pam_ussh on this user.
    pub fn logged_since(&self, position: usize) -> Vec<String> {
        let by = format!("ruser {}", self.user);
        let log = WORLD.logged_since(self.server, position).unwrap();
        log.lines().filter(|line| line.contains("pam_ussh[") && line.contains(&by)).map(str::to_owned).collect()
    }

    /// Whoever came to a listener of this street and is not its user, with his group and his groups.
    pub fn strangers(&self) -> Vec<String> {
        self.relays().flat_map(|relay| self.strangers_at(relay)).collect()
    }

    fn strangers_at(&self, relay: &Relay) -> Vec<String> {
        relay.settle().unwrap();
        let is_he = |one: &Connection| (one.uid, one.gid, &one.groups) == (self.uid, self.gid, &self.groups);
        let others = relay.connections().unwrap().into_iter().filter(|one| !is_he(one));
        others.map(|one| format!("{}: somebody else came: {one:?}", relay.path())).collect()
    }
}

fn attempts(printed: &str) -> Vec<Attempt<'_>> {
    let parts = printed.split("try ").filter(|part| !part.is_empty());
    let attempt = |part| {
        let (program, rest) = str::split_once(part, '\n')?;
        let (shown, code) = rest.trim_end().rsplit_once("exit ")?;
        Some(Attempt { program, shown, code: code.parse().ok()? })
    };
    parts.filter_map(attempt).collect()
}

fn is_due(due: &Due, attempt: &Attempt<'_>, line: &str) -> bool {
    let Attempt { program, shown, code } = attempt;
    let is_theirs = line.contains(&format!(" via {program} ruser "));
    // What syslog's line is longer than ours by: its time stamp, the host and our name.
    let is_bounded = line.len() <= 1024 + 64 && line.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    let fits = match due {
        Due::Accepted(serial) => {
            let by = format!(" (serial {serial}) ");
            (*code, *shown) == (0, "0\n") && line.contains("Accepted certificate ID ") && line.contains(&by)
        }
        Due::Refused(sentence, reason) => {
            let is_root = *code == 0 || shown.lines().any(|line| line == "0");
            let caller = line.split_once(" ruser ").and_then(|(_, rest)| rest.split([' ', ':']).next());
            let judged = if *program == "su" { "root" } else { caller.unwrap_or_default() };
            let reason = reason.replace(JUDGED, judged);
            let said = shown.matches(sentence).count() == 1 && !shown.contains(reason.as_str());
            !is_root && said && line.contains("Refusing ") && line.ends_with(&format!(": {reason}"))
        }
    };
    fits && is_theirs && is_bounded
}
