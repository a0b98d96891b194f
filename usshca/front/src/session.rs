//! The one session of a connection: which command, what it prints, with which status it ends.

use std::time::Duration;

use russh::server::Handle;
use russh::{ChannelId, Disconnect};
use tokio::time::sleep;
use usshca_ipc::front::{FromSigner, ToSigner, Wish};

use crate::certify::{self, Order};
use crate::channel::Channel;
use crate::login::Passed;
use crate::text;
use crate::wish;

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
    /// Shell or command was asked for.
    pub started: bool,
}

impl Session {
    /// Nothing was asked for yet.
    pub fn new(channel: ChannelId) -> Self {
        Session { channel, has_pty: false, forwards_agent: false, started: false }
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
    /// As the client sent it; empty for a shell.
    pub command: Vec<u8>,
    /// Who logged in.
    pub passed: Passed,
    /// The signer.
    pub signer: Channel<ToSigner, FromSigner>,
    /// The CA's name.
    pub ca_name: String,
}

#[derive(Debug, PartialEq, Eq)]
enum Command {
    Certificate(Wish),
    Help,
    WhoAmI,
    Feed,
    /// A wish that cannot be read; why.
    Wrong(String),
    Unknown,
}

impl Command {
    fn parse(line: &[u8]) -> Self {
        match std::str::from_utf8(line.trim_ascii()) {
            Ok("") => Command::Certificate(Wish::default()),
            Ok("help") => Command::Help,
            Ok("whoami") => Command::WhoAmI,
            Ok("feed") => Command::Feed,
            Ok(line) => match wish::parse(line) {
                Some(Ok(wish)) => Command::Certificate(wish),
                Some(Err(why)) => Command::Wrong(why),
                None => Command::Unknown,
            },
            Err(_) => Command::Unknown,
        }
    }
}

/// Runs it to its end, and sends the client away.
pub async fn run(job: Job) {
    job.print_to_stderr(&job.passed.text).await;
    let status = match Command::parse(&job.command) {
        Command::Certificate(wish) => {
            let report = job.certificate(&wish).await;
            job.print_to_stderr(&report.text).await;
            report.status
        }
        Command::Help => job.print(text::HELP).await,
        Command::WhoAmI => job.print(&job.passed.user).await,
        Command::Feed => job.feed().await,
        Command::Wrong(why) => {
            job.print_to_stderr(&text::wrong_wish(&why)).await;
            EX_USAGE
        }
        Command::Unknown => {
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
    async fn certificate(&self, wish: &Wish) -> Report {
        if !self.forwards_agent {
            return Report { status: 1, text: text::NO_AGENT.to_owned() };
        }
        let Passed { attempt, .. } = self.passed;
        let order = Order { handle: &self.handle, signer: &self.signer, attempt, wish, ca_name: &self.ca_name };
        certify::run(&order).await
    }

    /// As it is: no terminal's line ends.
    async fn feed(&self) -> u32 {
        match crate::feed::fetch(&self.signer).await {
            Ok(feed) => u32::from(self.handle.data(self.channel, feed).await.is_err()),
            Err(message) => {
                self.print_to_stderr(&format!("{message}\n")).await;
                1
            }
        }
    }

    async fn print(&self, text: &str) -> u32 {
        let text = text::for_terminal(text, self.has_pty);
        let _ = self.handle.data(self.channel, text.into_bytes()).await;
        0
    }

    async fn print_to_stderr(&self, text: &str) {
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
        let anything = || Command::Certificate(Wish::default());
        assert_eq!((Command::parse(b""), Command::parse(b"  \n")), (anything(), anything()));
        let hour = Wish { validity_seconds: Some(3600), ..Wish::default() };
        assert_eq!(Command::parse(b" for=1h\n"), Command::Certificate(hour));
        assert!(matches!(Command::parse(b"for=ever"), Command::Wrong(_)));
        assert_eq!(Command::parse(b"help"), Command::Help);
        assert_eq!(Command::parse(b" whoami "), Command::WhoAmI);
        for unknown in [&b"whoami; id"[..], b"helpme", b"scp -t /", b"id", b"\xff"] {
            assert_eq!(Command::parse(unknown), Command::Unknown);
        }
    }
}
