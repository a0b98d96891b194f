//! `ssh CA admin WORDS`: the administrators' verbs over ssh. What is asked goes to the signer, which alone says whether somebody is an administrator; here words become questions, and answers text.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;
use usshca_admin::desk::{Desk, Link};
use usshca_admin::failure::Failure;
use usshca_admin::remote::{self, Parsed};
use usshca_ipc::admin::{Reply, Request};
use usshca_ipc::channel::ChannelError;
use usshca_ipc::front::{Ending, FromSigner, ToSigner};
use usshca_ipc::layout::Layout;

use crate::say;
use crate::session::Job;
use crate::signer::Signer;
use crate::text;

/// How long standard input may take to come.
const INPUT_PATIENCE: Duration = Duration::from_secs(30);
/// Most rows of an answer: some 10 MB of text, in a process that has a limit of memory.
const MOST_ROWS: u64 = 20_000;

/// Does all of it; the exit status.
pub async fn run(job: &Job, line: &str, input: Option<UnboundedReceiver<Vec<u8>>>) -> u32 {
    let verb = match remote::parse(line) {
        Parsed::Verb(verb) => verb,
        Parsed::Help(text) => {
            job.ends(Ending::Help).await;
            return job.print(&text).await;
        }
        Parsed::Wrong(failure) => {
            job.ends(Ending::Command).await;
            return failed(job, &failure).await;
        }
        Parsed::OnlyThere(failure) => {
            job.ends(Ending::OnlyThere).await;
            return failed(job, &failure).await;
        }
    };
    let input = match input.filter(|_| remote::reads_input(&verb)) {
        Some(input) => Some(read(input).await),
        None => None,
    };
    let desk = Over {
        signer: &job.signer,
        attempt: job.passed.attempt,
        asked: Cell::new(false),
        has_pty: job.has_pty,
        input: RefCell::new(input),
        out: RefCell::new(Vec::new()),
        notes: RefCell::new(String::new()),
    };
    let done = usshca_admin::run(&desk, verb);
    // What cannot be read (a time, a key) comes to no question: the signer would know of nothing that was asked for.
    if done.is_err() && !desk.asked.get() {
        job.ends(Ending::Command).await;
    }
    job.print_to_stderr(&desk.notes.take()).await;
    let out = desk.out.take();
    match String::from_utf8(out) {
        Ok(text) if text.is_empty() => {}
        Ok(text) => drop(job.print(&text).await),
        Err(binary) => drop(job.print_bytes(binary.into_bytes()).await),
    }
    match done {
        Ok(()) => 0,
        Err(failure) => failed(job, &failure).await,
    }
}

async fn failed(job: &Job, failure: &Failure) -> u32 {
    job.print_to_stderr(&format!("usshca: {failure}\n")).await;
    failure.exit.code().into()
}

/// To its end; the session bounds it.
async fn read(mut input: UnboundedReceiver<Vec<u8>>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let all = async {
        while let Some(part) = input.recv().await {
            bytes.extend(part);
        }
    };
    // What did not come in time is missed by whoever reads it.
    let _ = timeout(INPUT_PATIENCE, all).await;
    bytes
}

/// Somebody who came over ssh: no file and no account of this machine's is theirs to name.
struct Over<'a> {
    signer: &'a Signer,
    attempt: u32,
    /// Whether the signer was asked anything.
    asked: Cell<bool>,
    has_pty: bool,
    input: RefCell<Option<Vec<u8>>>,
    out: RefCell<Vec<u8>>,
    notes: RefCell<String>,
}

impl Desk for Over<'_> {
    fn link(&self) -> Result<Box<dyn Link + '_>, Failure> {
        Ok(Box::new(Questions { signer: self.signer, attempt: self.attempt, asked: &self.asked }))
    }

    fn here(&self) -> Option<&Layout> {
        None
    }

    fn print(&self, bytes: &[u8]) -> Result<(), Failure> {
        self.out.borrow_mut().extend_from_slice(bytes);
        Ok(())
    }

    fn stream(&self, bytes: &[u8]) -> Result<bool, Failure> {
        self.print(bytes).map(|()| true)
    }

    fn is_terminal(&self) -> bool {
        self.has_pty
    }

    fn note(&self, text: &str) {
        self.notes.borrow_mut().push_str(&format!("usshca: {text}\n"));
    }

    fn input(&self, most: u64) -> Result<Vec<u8>, Failure> {
        match self.input.take() {
            Some(bytes) if bytes.len() as u64 <= most => Ok(bytes),
            Some(_) => Err(Failure::usage("-: too long")),
            None => Err(Failure::usage("-: nothing came on standard input")),
        }
    }

    fn most_rows(&self) -> u64 {
        MOST_ROWS
    }
}

/// Through the signer's channel of this connection. The connection stands still while it waits for an answer: it has nothing else to do.
struct Questions<'a> {
    signer: &'a Signer,
    attempt: u32,
    asked: &'a Cell<bool>,
}

impl Link for Questions<'_> {
    fn ask(&self, request: &Request) -> Result<Reply, Failure> {
        self.asked.set(true);
        let request = Box::new(request.clone());
        reply(self.signer.ask_now(&ToSigner::Admin { attempt: self.attempt, request }))
    }

    fn next(&self) -> Result<Reply, Failure> {
        reply(self.signer.ask_now(&ToSigner::More))
    }
}

fn reply(answer: Result<FromSigner, ChannelError>) -> Result<Reply, Failure> {
    match answer {
        Ok(FromSigner::Admin(reply)) => {
            if let Reply::Refused(why) = *reply {
                Err(Failure::refused(why))
            } else {
                Ok(*reply)
            }
        }
        Ok(FromSigner::Refused { message }) => Err(Failure::refused(message)),
        Ok(_) => Err(usshca_admin::unexpected()),
        Err(e) => {
            say(&format!("signer: {e}"));
            Err(Failure::unavailable(text::SIGNER_AWAY))
        }
    }
}
