//! `ssh host@CA VERB`: carries a host's lines to the signer, and the signer's answers back (`ussh_core::enroll`). Nothing is decided here.

use std::time::Duration;

use russh::server::{Handle, Msg};
use russh::{Channel as SshChannel, ChannelId, ChannelMsg};
use tokio::time::timeout;
use ussh_core::enroll::{Answer, MAX_LINE, TAKEN, Verb, answer, hello, krl_line, read_proof, refusal};
use ussh_core::escape::{MAX_FIELD, escape};
use usshca_ipc::channel::ChannelError;
use usshca_ipc::front::{Delivery, FromSigner, ToSigner};
use usshca_ipc::host::{HostAnswer, HostAsk};

use crate::say;
use crate::session::{self, EX_USAGE, STDERR};
use crate::signer::{NoAnswer, Signer};
use crate::text;

/// The user name by which hosts come. They log in by nothing, and prove themselves afterwards.
pub const USER: &str = "host";

/// How long a host may take to sign.
const PROOF_PATIENCE: Duration = Duration::from_secs(30);
/// How long it may take to put its certificates in place.
const TAKEN_PATIENCE: Duration = Duration::from_secs(30);

const HELP: &str = "\
For hosts. Each proves itself by its host keys, in lines of JSON (docs/hosts.md):
  ssh host@CA enroll    host certificates, by a token (usshca host token)
  ssh host@CA renew     new ones for the same keys and names
  ssh host@CA report    it is alive
  ssh host@CA krl       the KRL
  ssh host@CA break-glass   it was used there
  ssh host@CA feed      the signed feed, as it is; for everybody
  ssh host@CA help      this
";

/// A host's session.
pub struct Job {
    /// The SSH connection.
    pub handle: Handle,
    /// The session's channel.
    pub channel: ChannelId,
    /// What the host says on it.
    pub input: SshChannel<Msg>,
    /// As it sent it; empty for a shell.
    pub command: Vec<u8>,
    /// The signer.
    pub signer: Signer,
}

/// Why an exchange ended early: what the host is told.
struct Ended {
    message: String,
    status: u32,
}

impl Ended {
    fn refused(message: impl Into<String>) -> Self {
        Ended { message: message.into(), status: 1 }
    }
}

impl From<ChannelError> for Ended {
    fn from(error: ChannelError) -> Self {
        say(&format!("signer: {error}"));
        Ended::refused(text::SIGNER_AWAY)
    }
}

/// Runs it to its end, and sends the host away.
pub async fn run(mut job: Job) {
    let verb = std::str::from_utf8(job.command.trim_ascii()).unwrap_or("?");
    let status = match (verb, Verb::from_name(verb)) {
        (_, Some(verb)) => job.exchange(verb).await,
        ("feed", None) => job.feed().await,
        ("" | "help", None) => {
            job.print(HELP).await;
            0
        }
        (_, None) => {
            let said = format!("usshca: unknown command: {}\n{HELP}", escape(&job.command, MAX_FIELD));
            let _ = job.handle.extended_data(job.channel, STDERR, said.into_bytes()).await;
            EX_USAGE
        }
    };
    // What it still has to say is not waited for.
    let Job { handle, channel, input, signer, .. } = job;
    drop((input, signer));
    session::end(&handle, channel, status).await;
}

impl Job {
    async fn feed(&self) -> u32 {
        match crate::feed::fetch(&self.signer).await {
            Ok(feed) => u32::from(self.handle.data(self.channel, feed).await.is_err()),
            Err(NoAnswer(why)) => {
                let _ = self.handle.extended_data(self.channel, STDERR, format!("usshca: {why}\n").into_bytes()).await;
                1
            }
        }
    }

    async fn exchange(&mut self, verb: Verb) -> u32 {
        match self.prove(verb).await {
            Ok(()) => 0,
            Err(Ended { message, status }) => {
                self.print(&refusal(&message)).await;
                status
            }
        }
    }

    async fn prove(&mut self, verb: Verb) -> Result<(), Ended> {
        let nonce = match self.ask(HostAsk::Hello { verb }).await? {
            HostAnswer::Nonce { nonce } => nonce,
            HostAnswer::Refused { message } => return Err(Ended::refused(message)),
            other @ (HostAnswer::Granted { .. } | HostAnswer::Reported { .. } | HostAnswer::Krl { .. }) => {
                return Err(unexpected(&other));
            }
        };
        self.print(&hello(verb, &nonce)).await;
        let line = timeout(PROOF_PATIENCE, self.line(MAX_LINE)).await.ok().flatten();
        let proof = line.as_deref().and_then(read_proof).ok_or_else(|| Ended {
            message: "No proof came: one line of JSON over this nonce. This is for ussh-hostd, and what speaks as it does (ssh host@CA help).".to_owned(),
            status: EX_USAGE,
        })?;
        match self.ask(HostAsk::Prove(proof)).await? {
            HostAnswer::Granted { grant, serials } => {
                self.print(&answer(Answer::Granted(*grant))).await;
                self.note(&serials).await
            }
            HostAnswer::Reported { host, valid_before } => {
                self.print(&answer(Answer::Reported { host, valid_before })).await;
                Ok(())
            }
            HostAnswer::Krl { chunk, more } => self.print_krl(chunk, more).await,
            HostAnswer::Refused { message } => Err(Ended::refused(message)),
            other @ HostAnswer::Nonce { .. } => Err(unexpected(&other)),
        }
    }

    async fn print_krl(&mut self, mut chunk: Vec<u8>, mut more: bool) -> Result<(), Ended> {
        let mut is_first = true;
        loop {
            self.print(&krl_line(&chunk, is_first, !more)).await;
            if !more {
                return Ok(());
            }
            is_first = false;
            let answer = self.next().await?;
            let HostAnswer::Krl { chunk: next, more: follows } = answer else {
                return Err(unexpected(&answer));
            };
            (chunk, more) = (next, follows);
        }
    }

    /// Waits for the host's word that it has its certificates, and notes it.
    async fn note(&mut self, serials: &[u64]) -> Result<(), Ended> {
        let line = timeout(TAKEN_PATIENCE, self.line(TAKEN.len())).await.ok().flatten();
        let delivery = match line.as_deref() == Some(TAKEN.as_bytes()) {
            true => Delivery::Delivered,
            false => Delivery::Refused("the host did not say that it has it".to_owned()),
        };
        for serial in serials {
            let outcome = ToSigner::Outcome { serial: *serial, delivery: delivery.clone() };
            if self.signer.ask(&outcome).await? != FromSigner::Noted {
                say("the outcome was not noted");
            }
        }
        Ok(())
    }

    /// The next line of at most `most` bytes, its end included.
    async fn line(&mut self, most: usize) -> Option<Vec<u8>> {
        let mut line = Vec::new();
        loop {
            let message = self.input.wait().await?;
            if matches!(message, ChannelMsg::Eof | ChannelMsg::Close) {
                return None;
            }
            let ChannelMsg::Data { data } = message else { continue };
            line.extend_from_slice(&data);
            if let Some(end) = line.iter().position(|b| *b == b'\n') {
                // One line at a time: a host waits for the answer before it says more.
                line.truncate(end + 1);
            } else if line.len() < most {
                continue;
            }
            return (line.len() <= most && line.ends_with(b"\n")).then_some(line);
        }
    }

    async fn ask(&self, ask: HostAsk) -> Result<HostAnswer, Ended> {
        host_answer(self.signer.ask(&ToSigner::Host(ask)).await?)
    }

    async fn next(&self) -> Result<HostAnswer, Ended> {
        host_answer(self.signer.ask(&ToSigner::More).await?)
    }

    async fn print(&self, text: &str) {
        let _ = self.handle.data(self.channel, text.as_bytes().to_vec()).await;
    }
}

fn host_answer(answer: FromSigner) -> Result<HostAnswer, Ended> {
    if let FromSigner::Host(answer) = answer {
        return Ok(answer);
    }
    let FromSigner::Refused { message } = answer else {
        return Err(Ended::refused(text::SIGNER_AWAY));
    };
    Err(Ended::refused(message))
}

fn unexpected(answer: &HostAnswer) -> Ended {
    say(&format!("the signer gave an answer to another question: {}", escape(format!("{answer:?}").as_bytes(), 64)));
    Ended::refused(text::SIGNER_AWAY)
}
