//! What a row of the table says, and how it is judged.

use std::time::{Duration, Instant};

use ussh_e2e::Row as Entry;
use ussh_e2e::lab::Pty;

use super::stand::Stand;
use super::{SOON, WORLD};

/// One row: a PAM stack, what a person does, and what must come of it.
pub struct Row {
    /// The fact.
    pub name: &'static str,
    /// The CA's PAM service.
    pub stack: String,
    /// Run on the CA before, with the account in `$WHO`.
    pub prepare: &'static str,
    /// login_grace_seconds.
    pub grace: u32,
    /// One after another.
    pub logins: Vec<Login>,
    /// What the CA says of it on its standard error.
    pub logged: &'static [&'static str],
    /// Nowhere in what it says.
    pub unlogged: &'static [&'static str],
}

/// One call of the stock client.
pub struct Login {
    /// Whom it says it is; `None`: the row's own account.
    pub user: Option<&'static str>,
    /// Prompt and answer.
    pub asked: Vec<(String, String)>,
    /// On the client's terminal, in this order.
    pub shown: Vec<String>,
    /// Nowhere on it.
    pub hidden: &'static [&'static str],
    /// How it ends.
    pub end: End,
    /// At least and at most so many milliseconds from the last answer to the end.
    pub took: (u64, u64),
}

/// How a login ends: exit code and last words of the client, agent and inventory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// 0; a certificate in the agent, and its row: delivered, by PAM, from the laptop.
    Certificate,
    /// 0; the same for another account than the one that was typed.
    CertificateOf(&'static str),
    /// 255, permission denied; a row: refused by PAM with these words.
    Denied(&'static str),
    /// 255 after a sentence that the CA cannot check; the same.
    CannotCheck(&'static str),
    /// 255, told that it took too long; a row that says so.
    TooLong,
    /// 1 and this text; a row: refused.
    NoRule,
}

pub fn row(name: &'static str, stack: impl Into<String>) -> Row {
    Row { name, stack: stack.into(), prepare: "", grace: 60, logins: Vec::new(), logged: &[], unlogged: &[] }
}

impl Row {
    pub fn prepare(self, prepare: &'static str) -> Self {
        Row { prepare, ..self }
    }
    pub fn grace(self, grace: u32) -> Self {
        Row { grace, ..self }
    }
    pub fn login(mut self, login: Login) -> Self {
        self.logins.push(login);
        self
    }
    pub fn logged(self, logged: &'static [&'static str]) -> Self {
        Row { logged, ..self }
    }
    pub fn unlogged(self, unlogged: &'static [&'static str]) -> Self {
        Row { unlogged, ..self }
    }
}

pub fn login(end: End) -> Login {
    Login { user: None, asked: Vec::new(), shown: Vec::new(), hidden: &[], end, took: (0, 20_000) }
}

impl Login {
    pub fn user(self, user: &'static str) -> Self {
        Login { user: Some(user), ..self }
    }
    pub fn asked(mut self, prompt: impl Into<String>, answer: impl Into<String>) -> Self {
        self.asked.push((prompt.into(), answer.into()));
        self
    }
    pub fn shown(mut self, text: impl Into<String>) -> Self {
        self.shown.push(text.into());
        self
    }
    pub fn hidden(self, hidden: &'static [&'static str]) -> Self {
        Login { hidden, ..self }
    }
    pub fn took(self, at_least: u64, at_most: u64) -> Self {
        Login { took: (at_least, at_most), ..self }
    }
}

impl Row {
    /// All that is wrong with it.
    pub fn run(&self) -> Vec<String> {
        let stand = match Stand::start(&self.stack, self.prepare, self.grace) {
            Ok(stand) => stand,
            Err(error) => return vec![error.to_string()],
        };
        let mut wrong: Vec<String> = Vec::new();
        for (login, number) in self.logins.iter().zip(1..) {
            let found = login.run(&stand);
            wrong.extend(found.into_iter().map(|what| format!("login {number}: {what}")));
        }
        wrong.extend(stand.serves_on());
        let said = stand.said();
        for text in self.logged.iter().filter(|text| !said.contains(**text)) {
            wrong.push(format!("the CA did not say {text:?}: {said}"));
        }
        for text in self.unlogged.iter().filter(|text| said.contains(**text)) {
            wrong.push(format!("the CA said {text:?}: {said}"));
        }
        wrong
    }
}

impl Login {
    fn run(&self, stand: &Stand) -> Vec<String> {
        match self.try_run(stand) {
            Ok(wrong) => wrong,
            Err(error) => vec![error.to_string()],
        }
    }

    fn try_run(&self, stand: &Stand) -> Result<Vec<String>, ussh_e2e::lab::LabError> {
        let user = self.user.unwrap_or(&stand.who);
        let before = stand.rows()?;
        let script =
            format!("exec ssh -A -o NumberOfPasswordPrompts=1 -o LogLevel=INFO -p {} -l '{user}' ca", stand.port);
        let ssh = WORLD.terminal("laptop", &stand.who, &script)?;
        let answered = self.converse(&ssh)?;
        let code = ssh.expect_exit(SOON)?.code();
        let took = u64::try_from(answered.elapsed().as_millis()).unwrap_or(u64::MAX);
        ssh.expect_close(SOON)?;
        let seen = ssh.transcript();

        let mut wrong = Vec::new();
        let (end_code, last) = self.end.client();
        let mut rest = seen.as_str();
        for text in self.shown.iter().map(String::as_str).chain([last]) {
            match rest.find(text) {
                Some(at) => rest = &rest[at + text.len()..],
                None => wrong.push(format!("{text:?} was not shown, or not in its turn")),
            }
        }
        wrong.extend(self.hidden.iter().filter(|text| seen.contains(**text)).map(|text| format!("{text:?} was shown")));
        if code != end_code {
            wrong.push(format!("exit code {code} instead of {end_code}"));
        }
        if took < self.took.0 || took > self.took.1 {
            wrong.push(format!("took {took} ms from the last answer on, and not {:?}", self.took));
        }
        let rows = new_rows(&before, stand.rows()?);
        wrong.extend(self.end.judge(stand, user, &rows)?);
        if !wrong.is_empty() {
            wrong.push(format!("all that was shown: {seen:?}"));
        }
        Ok(wrong)
    }

    /// Answers the prompts; when the last one was.
    fn converse(&self, ssh: &Pty) -> Result<Instant, ussh_e2e::lab::LabError> {
        for (prompt, answer) in &self.asked {
            ssh.expect(prompt, SOON)?;
            ssh.send(&format!("{answer}\n"))?;
        }
        Ok(Instant::now())
    }
}

impl End {
    /// Exit code, and words that come last.
    fn client(self) -> (i32, &'static str) {
        match self {
            End::Certificate | End::CertificateOf(_) => (0, "is in your agent"),
            End::Denied(_) => (255, "Permission denied (keyboard-interactive)"),
            End::CannotCheck(_) => (255, "The CA cannot check logins at the moment. Try again in a minute"),
            End::TooLong => (255, "The login took too long"),
            End::NoRule => (1, "The CA's policy gives your account no certificate"),
        }
    }

    /// The rows that the login left, and the agent.
    fn judge(self, stand: &Stand, user: &str, rows: &[Entry]) -> Result<Vec<String>, ussh_e2e::lab::LabError> {
        let from = WORLD.host("laptop").address().to_string();
        let held: Vec<u64> = WORLD.certificates(&stand.who)?.iter().map(|shown| shown.serial).collect();
        let is_proper = |row: &Entry, name: &str| {
            row.kind == "user" && row.key_id == name && row.authenticated == "pam" && row.from == from
        };
        // The name as it was typed, the address that the kernel says, what was tried, why, once.
        let is_refusal = |row: &Entry, why: &str| {
            row.kind == "user"
                && row.serial == 0
                && row.key_id == user
                && row.from == from
                && row.authenticated == "none (tried pam)"
                && row.outcome == format!("refused: {why}")
                && row.rule.is_empty()
                && row.count == 1
        };
        let right = match (self, rows) {
            (End::Denied(why) | End::CannotCheck(why), [row]) => is_refusal(row, why),
            (End::TooLong, [row]) => is_refusal(row, "PAM: not in time"),
            (End::Certificate, [row]) => {
                is_proper(row, &stand.who) && row.outcome == "delivered" && held.contains(&row.serial)
            }
            (End::CertificateOf(name), [row]) => {
                is_proper(row, name) && row.outcome == "delivered" && held.contains(&row.serial)
            }
            (End::NoRule, [row]) => {
                is_proper(row, &stand.who) && row.outcome.starts_with("refused: ") && row.serial == 0
            }
            _ => false,
        };
        Ok(if right { vec![] } else { vec![format!("inventory {rows:?}, agent {held:?}, for {self:?}")] })
    }
}

/// What a login added: rows, and one more in the count of a row that was there.
fn new_rows(before: &[Entry], mut after: Vec<Entry>) -> Vec<Entry> {
    let (new, mut same) = (after.len().saturating_sub(before.len()), Vec::new());
    for (old, now) in before.iter().zip(after.drain(new..)) {
        if now.count > old.count {
            same.push(Entry { count: now.count - old.count, ..now });
        }
    }
    after.extend(same);
    after
}

/// Longer than any login of the table takes.
pub const PATIENCE: Duration = Duration::from_secs(60);
