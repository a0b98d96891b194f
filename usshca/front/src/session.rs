//! The one session of a connection: which command, what it prints, with which status it ends.

use std::time::Duration;

use russh::server::Handle;
use russh::{ChannelId, Disconnect};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::sleep;
use usshca_ipc::front::{Ending, FromSigner, MAX_TYPED, Makes, ToSigner, Verb, Wish};

use crate::admin;
use crate::certify;
use crate::login::Passed;
use crate::mine::{self, Form};
use crate::say;
use crate::sign;
use crate::signer::{NoAnswer, Signer};
use crate::text::{self, Keeps};
use crate::wish::{self, Order};

/// SSH_EXTENDED_DATA_STDERR (RFC 4254 §5.2).
pub const STDERR: u32 = 1;
/// sysexits.h EX_USAGE.
pub const EX_USAGE: u32 = 64;
/// How long a client may stay once its session has ended. Not for hours, as a multiplexing master would; but OpenSSH's client waits for its own agent before it looks at
/// anything else, and when it is sent away it drops what it has not shown yet.
const LEAVE_PATIENCE: Duration = Duration::from_secs(30);

/// What a session ends with.
pub struct Report {
    /// Exit status.
    pub status: u32,
    /// Text for stderr.
    pub text: String,
}

/// What was asked for.
pub struct Session {
    /// The session's channel.
    pub channel: ChannelId,
    /// A terminal was asked for, so that the client's is in raw mode.
    pub has_pty: bool,
    /// Agent forwarding was asked for.
    pub forwards_agent: bool,
    /// It is `ussh`, and this is where it keeps what it gets. It chooses words, and nothing else.
    pub keeps: Option<Keeps>,
    /// Shell or command was asked for.
    pub started: bool,
    /// Where standard input goes, until its end.
    pub sender: Option<UnboundedSender<Vec<u8>>>,
    /// Where it comes out, until the command takes it.
    pub input: Option<UnboundedReceiver<Vec<u8>>>,
    /// How much of it there was, in bytes.
    pub came: usize,
}

impl Session {
    /// Nothing was asked for yet.
    pub fn new(channel: ChannelId) -> Self {
        let (sender, input) = unbounded_channel();
        let (sender, input) = (Some(sender), Some(input));
        Session { channel, has_pty: false, forwards_agent: false, keeps: None, started: false, sender, input, came: 0 }
    }
}

/// A session that runs.
pub struct Job {
    /// The SSH connection.
    pub handle: Handle,
    /// The session's channel.
    pub channel: ChannelId,
    /// See [`Session`].
    pub has_pty: bool,
    /// See [`Session`].
    pub forwards_agent: bool,
    /// See [`Session`].
    pub keeps: Option<Keeps>,
    /// As the client sent it; empty for a shell.
    pub command: Vec<u8>,
    /// Standard input, once.
    pub input: Option<UnboundedReceiver<Vec<u8>>>,
    /// Who logged in.
    pub passed: Passed,
    /// The signer.
    pub signer: Signer,
    /// The CA's name.
    pub ca_name: String,
}

#[derive(Debug, PartialEq, Eq)]
enum Command {
    /// A key of the CA's making, of the kind that is asked for.
    Certificate(Wish, Option<Makes>),
    /// The user's own key.
    Sign(Wish),
    Help,
    Mine(Verb, Form),
    /// The feed for hosts.
    Feed,
    /// What stands behind `admin`.
    Admin(String),
    /// A wish that cannot be read; why.
    Wrong(String),
    Unknown,
}

impl Command {
    fn parse(line: &[u8]) -> Self {
        match std::str::from_utf8(line.trim_ascii()) {
            Ok("") => Command::Certificate(Wish::default(), None),
            Ok("help") => Command::Help,
            Ok("feed") => Command::Feed,
            Ok("sign") => Command::Sign(Wish::default()),
            Ok(line) if line == "admin" || line.starts_with("admin ") => Command::Admin(line.replacen("admin", "", 1)),
            Ok(line) => Command::mine(line).unwrap_or_else(|| Command::wish(line)),
            Err(_) => Command::Unknown,
        }
    }

    fn mine(line: &str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let verb = match words.next()? {
            "whoami" => Verb::WhoAmI,
            "list" => Verb::List,
            "revoke-mine" => Verb::Revoke,
            "krl" => Verb::Krl,
            _ => return None,
        };
        match (words.next(), words.next()) {
            (None, _) => Some(Command::Mine(verb, Form::Text)),
            (Some("--json"), None) if verb != Verb::Krl => Some(Command::Mine(verb, Form::Json)),
            _ => None,
        }
    }

    fn wish(line: &str) -> Self {
        let (signs, wishes) = match line.strip_prefix("sign ") {
            Some(rest) => (true, rest.trim_start()),
            None => (false, line),
        };
        match (wish::parse(wishes), signs) {
            (Some(Ok(Order { wish, key })), false) => Command::Certificate(wish, key),
            (Some(Ok(Order { wish, key: None })), true) => Command::Sign(wish),
            (Some(Ok(Order { key: Some(_), .. })), true) => {
                Command::Wrong("sign certifies the key that you give: there is no key= beside it".to_owned())
            }
            (Some(Err(why)), _) => Command::Wrong(why),
            (None, _) => Command::Unknown,
        }
    }
}

/// Runs it to its end, and sends the client away.
pub async fn run(mut job: Job) {
    let input = job.input.take();
    job.print_to_stderr(&job.passed.text).await;
    let status = match Command::parse(&job.command) {
        Command::Certificate(wish, key) => job.report(job.certificate(&wish, key).await).await,
        Command::Sign(wish) => match input {
            Some(input) => job.report(sign::run(&job, &wish, input).await).await,
            None => 1,
        },
        Command::Admin(line) => admin::run(&job, &line, input).await,
        Command::Mine(verb, form) => job.report(mine::run(&job, verb, form).await).await,
        Command::Help => {
            job.ends(Ending::Help).await;
            job.print(text::HELP).await
        }
        Command::Feed => job.feed().await,
        Command::Wrong(why) => {
            job.ends(Ending::Command).await;
            job.print_to_stderr(&text::wrong_wish(&why)).await;
            EX_USAGE
        }
        Command::Unknown => {
            job.ends(Ending::Command).await;
            job.print_to_stderr(&text::unknown_command(&job.command)).await;
            EX_USAGE
        }
    };
    end(&job.handle, job.channel, status).await;
}

/// Ends a session, and sends the client away. An error here is a client that has gone.
pub async fn end(handle: &Handle, channel: ChannelId, status: u32) {
    let _ = handle.exit_status_request(channel, status).await;
    let _ = handle.eof(channel).await;
    let _ = handle.close(channel).await;
    sleep(LEAVE_PATIENCE).await;
    let _ = handle.disconnect(Disconnect::ByApplication, "the session has ended".to_owned(), String::new()).await;
}

impl Job {
    async fn report(&self, report: Report) -> u32 {
        let text = if report.status == 0 { report.text } else { text::in_its_words(&report.text, self.keeps) };
        self.print_to_stderr(&text).await;
        report.status
    }

    async fn certificate(&self, wish: &Wish, key: Option<Makes>) -> Report {
        if !self.forwards_agent {
            self.ends(Ending::NoAgent).await;
            return Report { status: 1, text: text::NO_AGENT.to_owned() };
        }
        certify::run(self, wish, key).await
    }

    /// For the inventory, before the client hears of it and goes: this login asks for no certificate.
    pub async fn ends(&self, how: Ending) {
        let line = if how.is_of_a_command() { self.command.trim_ascii() } else { b"" };
        let typed = line.get(..MAX_TYPED).unwrap_or(line).to_vec();
        match self.signer.ask(&ToSigner::Ends { attempt: self.passed.attempt, how, typed }).await {
            Ok(FromSigner::Noted) => {}
            Ok(_) => say("the end of a login was not noted"),
            Err(e) => say(&format!("the end of a login was not noted: {e}")),
        }
    }

    /// As it is: no terminal's line ends.
    async fn feed(&self) -> u32 {
        match crate::feed::fetch(&self.signer).await {
            Ok(feed) => u32::from(self.handle.data(self.channel, feed).await.is_err()),
            Err(NoAnswer(message)) => {
                self.print_to_stderr(&format!("{message}\n")).await;
                1
            }
        }
    }

    /// As they are, to standard output; whether the client took them.
    pub async fn print_bytes(&self, bytes: Vec<u8>) -> bool {
        self.handle.data(self.channel, bytes).await.is_ok()
    }

    /// To standard output; 0.
    pub async fn print(&self, text: &str) -> u32 {
        let text = text::for_terminal(text, self.has_pty);
        let _ = self.handle.data(self.channel, text.into_bytes()).await;
        0
    }

    /// To standard error.
    pub async fn print_to_stderr(&self, text: &str) {
        let text = text::for_terminal(text, self.has_pty);
        if !text.is_empty() {
            let _ = self.handle.extended_data(self.channel, STDERR, text.into_bytes()).await;
        }
    }
}

/// What a command line is understood as, in words for people who try it.
pub fn understood(line: &[u8]) -> String {
    format!("{:?}", Command::parse(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_command_means_a_certificate_and_anything_unknown_is_refused() {
        let anything = || Command::Certificate(Wish::default(), None);
        assert_eq!((Command::parse(b""), Command::parse(b"  \n")), (anything(), anything()));
        let hour = Wish { validity_seconds: Some(3600), ..Wish::default() };
        assert_eq!(Command::parse(b" for=1h\n"), Command::Certificate(hour.clone(), None));
        assert_eq!(Command::parse(b"key=ecdsa for=1h"), Command::Certificate(hour.clone(), Some(Makes::Ecdsa)));
        assert_eq!(Command::parse(b"sign"), Command::Sign(Wish::default()));
        assert_eq!(Command::parse(b"sign  for=1h"), Command::Sign(hour));
        assert!(matches!(Command::parse(b"sign key=ecdsa"), Command::Wrong(_)));
        assert!(matches!(Command::parse(b"for=ever"), Command::Wrong(_)));
        assert_eq!(Command::parse(b"help"), Command::Help);
        for (line, verb) in
            [("whoami", Verb::WhoAmI), ("list", Verb::List), ("revoke-mine", Verb::Revoke), ("krl", Verb::Krl)]
        {
            assert_eq!(Command::parse(format!(" {line} ").as_bytes()), Command::Mine(verb, Form::Text));
            let json = match verb {
                Verb::Krl => Command::Unknown,
                Verb::WhoAmI | Verb::List | Verb::Revoke => Command::Mine(verb, Form::Json),
            };
            assert_eq!(Command::parse(format!("{line} --json").as_bytes()), json);
        }
        assert_eq!(Command::parse(b" admin list --json "), Command::Admin(" list --json".into()));
        assert_eq!(Command::parse(b"admin"), Command::Admin(String::new()));
        for unknown in [
            &b"administer"[..],
            b"whoami; id",
            b"list bob",
            b"list --json bob",
            b"revoke-mine bob",
            b"sign id.pub",
            b"signal",
            b"helpme",
            b"scp -t /",
            b"id",
            b"\xff",
        ] {
            assert_eq!(Command::parse(unknown), Command::Unknown);
        }
    }
}
