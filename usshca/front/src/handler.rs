//! russh's callbacks. Whatever is not named here is refused: every other way to log in, every forwarding, every second channel.

use std::borrow::Cow;
use std::io;
use std::time::Duration;

use russh::keys::ssh_key::{Algorithm, Certificate, EcdsaCurve, HashAlg, PrivateKey};
use russh::server::{Auth, ChannelOpenHandle, Config, Msg, PublicKeyOffer, Response, VerifiedPublicKey};
use russh::{Channel as SshChannel, ChannelId, MethodKind, MethodSet, Preferred, Pty, SshId};
use tokio::sync::watch;
use usshca_ipc::front::FrontSetup;
use zeroize::Zeroizing;

use crate::host;
use crate::login::{Login, Step};
use crate::session::{self, Job, Session};
use crate::sign::MAX_INPUT;
use crate::signer::{Signer, Ways};
use crate::text;

/// russh tells every refusal apart from every other by nothing but this floor; PAM's own delays are the worker's.
const REJECTION_TIME: Duration = Duration::from_millis(50);
/// Most answers of one response that are looked at.
const MAX_ANSWERS: usize = 64;

/// Algorithms of keys.
const KEY_ALGORITHMS: [Algorithm; 8] = [
    Algorithm::Ed25519,
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
    Algorithm::SkEd25519,
    Algorithm::SkEcdsaSha2NistP256,
    Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
    Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
];

/// Where a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nobody has logged in.
    Login,
    /// Somebody has, and asked for nothing yet.
    LoggedIn,
    /// A session is open.
    Session,
}

impl Phase {
    /// How long it may take.
    pub fn patience(self, grace: Duration) -> Duration {
        match self {
            Phase::Login => grace,
            Phase::LoggedIn => Duration::from_secs(10),
            // Key, certificate, delivery, and a person who confirms it at the agent.
            Phase::Session => Duration::from_secs(120),
        }
    }

    /// What is said when it took longer.
    pub fn overtime(self) -> &'static str {
        match self {
            Phase::Login => "The login took too long.",
            Phase::LoggedIn => "No session was opened. For a certificate: ssh -A, without -N.",
            Phase::Session => "The session took too long.",
        }
    }
}

/// russh's configuration.
/// # Errors
/// Host key or certificate cannot be read.
pub fn config(setup: &FrontSetup) -> io::Result<Config> {
    let key = PrivateKey::from_openssh(&setup.host_key).map_err(|_| io::Error::other("host key cannot be read"))?;
    let certificate = Certificate::from_openssh(&setup.host_certificate).map_err(io::Error::other)?;
    let grace = Duration::from_secs(setup.login_grace_seconds.into());
    Ok(Config {
        server_id: SshId::Standard(Cow::Borrowed("SSH-2.0-usshca")),
        methods: only_keyboard_interactive(),
        auth_rejection_time: REJECTION_TIME,
        // The client's opening question which methods there are: nothing is given away by a quick answer.
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys: vec![key],
        certificates: vec![certificate],
        // Of the host keys those that we have are offered; of users' keys these are taken, and a client that holds to the list (RFC 8308 §3.1) is told so. No ssh-rsa.
        preferred: Preferred { key: Cow::Borrowed(&KEY_ALGORITHMS), ..Preferred::DEFAULT },
        // Ours count first (setup.max_attempts); this is for requests that never get to PAM.
        max_auth_attempts: usize::try_from(setup.max_attempts).unwrap_or(usize::MAX).saturating_add(8),
        // Behind our own deadlines.
        inactivity_timeout: Some(grace.max(Duration::from_secs(60)).saturating_mul(2)),
        // It fires before the login is done, and stock clients then disconnect.
        keepalive_interval: None,
        window_size: 256 * 1024,
        channel_buffer_size: 32,
        ..Config::default()
    })
}

/// A name that no client goes on with. (An empty list makes OpenSSH's ask for a password that nobody takes: sshconnect2.c `authmethod_get`.)
fn nothing_more() -> MethodSet {
    MethodSet::from(&[MethodKind::None][..])
}

fn only_keyboard_interactive() -> MethodSet {
    MethodSet::from(&[MethodKind::KeyboardInteractive][..])
}

/// One connection.
pub struct Handler {
    pub(crate) login: Login,
    /// Until the session takes it.
    pub(crate) signer: Option<Signer>,
    /// Once they were asked for.
    pub(crate) ways: Option<Ways>,
    phase: watch::Sender<Phase>,
    ca_name: String,
    session: Option<Session>,
    /// Whether it is a host that has logged in, by nothing.
    is_host: bool,
    /// A host's channel: it has something to say there.
    host_channel: Option<SshChannel<Msg>>,
}

impl Handler {
    /// At the start of a connection.
    pub fn new(login: Login, signer: Signer, phase: watch::Sender<Phase>, ca_name: String) -> Self {
        Handler {
            login,
            signer: Some(signer),
            ways: None,
            phase,
            ca_name,
            session: None,
            is_host: false,
            host_channel: None,
        }
    }

    /// The session, if `channel` is its channel. (The agent's channel is one too.)
    fn session_on(&mut self, channel: ChannelId) -> Option<&mut Session> {
        self.session.as_mut().filter(|s| s.channel == channel)
    }

    fn start(
        &mut self,
        channel: ChannelId,
        command: &[u8],
        ssh: &mut russh::server::Session,
    ) -> Result<(), russh::Error> {
        if self.is_host {
            return self.start_host(channel, command, ssh);
        }
        match self.job(channel, command, ssh) {
            Some(job) => {
                ssh.channel_success(channel)?;
                tokio::spawn(session::run(job));
                Ok(())
            }
            None => ssh.channel_failure(channel),
        }
    }

    fn start_host(
        &mut self,
        channel: ChannelId,
        command: &[u8],
        ssh: &mut russh::server::Session,
    ) -> Result<(), russh::Error> {
        let started = self.session_on(channel).filter(|s| !s.started).map(|s| s.started = true);
        match (started, self.host_channel.take(), self.signer.take()) {
            (Some(()), Some(input), Some(signer)) => {
                ssh.channel_success(channel)?;
                let job = host::Job { handle: ssh.handle(), channel, input, command: command.to_vec(), signer };
                tokio::spawn(host::run(job));
                Ok(())
            }
            _ => ssh.channel_failure(channel),
        }
    }

    /// Once in a connection, on its session's channel, for somebody who has logged in.
    fn job(&mut self, channel: ChannelId, command: &[u8], ssh: &russh::server::Session) -> Option<Job> {
        let passed = self.login.passed()?.clone();
        let session = self.session_on(channel).filter(|s| !s.started)?;
        session.started = true;
        let (has_pty, forwards_agent, keeps) = (session.has_pty, session.forwards_agent, session.keeps);
        let input = session.input.take();
        Some(Job {
            handle: ssh.handle(),
            channel,
            has_pty,
            forwards_agent,
            keeps,
            command: command.to_vec(),
            input,
            passed,
            signer: self.signer.take()?,
            ca_name: self.ca_name.clone(),
        })
    }
}

impl russh::server::Handler for Handler {
    type Error = russh::Error;

    /// A host proves itself in its session, to the signer. Until then it is nobody: it can ask for nothing but that.
    async fn auth_none(&mut self, user: &str) -> Result<Auth, Self::Error> {
        if user == host::USER && self.login.is_untouched() {
            self.is_host = true;
            return Ok(Auth::Accept);
        }
        let auth = self.by_nothing(user).await;
        self.tell_impossible().await;
        auth.map_err(|_| russh::Error::Disconnect)
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        user: &str,
        _submethods: &str,
        response: Option<Response<'a>>,
    ) -> Result<Auth, Self::Error> {
        let step = match response {
            None => self.login.begin(user).await,
            Some(answers) => {
                // russh gives None for an answer that is cut short, and ends there: too few answers, refused as such.
                let answers = answers.take(MAX_ANSWERS).map(|a| Zeroizing::new(a.to_vec())).collect();
                self.login.answer(answers).await
            }
        };
        self.tell_impossible().await;
        step.map(auth).map_err(|_| russh::Error::Disconnect)
    }

    /// The default lets every key go on to prove itself.
    async fn auth_publickey_offered(&mut self, user: &str, offer: PublicKeyOffer<'_>) -> Result<Auth, Self::Error> {
        let key = offer.public_key.to_bytes()?;
        // ssh-rsa is a signature with SHA-1.
        let takes = KEY_ALGORITHMS.contains(offer.algorithm);
        let auth = self.by_offer(user, takes.then_some(&key)).await;
        self.tell_impossible().await;
        Ok(auth)
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        let key = key.public_key.to_bytes()?;
        self.by_key(user, key).await.map_err(|_| russh::Error::Disconnect)
    }

    async fn auth_succeeded(&mut self, _session: &mut russh::server::Session) -> Result<(), Self::Error> {
        if self.login.passed().is_none() && !self.is_host {
            return Err(russh::Error::Inconsistent);
        }
        // Its receiver lives as long as the connection.
        let _ = self.phase.send(Phase::LoggedIn);
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: SshChannel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut russh::server::Session,
    ) -> Result<(), Self::Error> {
        if self.session.is_none() {
            self.session = Some(Session::new(channel.id()));
            self.host_channel = self.is_host.then_some(channel);
            let _ = self.phase.send(Phase::Session);
            reply.accept().await;
        }
        // Else dropped, and thereby refused.
        Ok(())
    }

    async fn agent_request(
        &mut self,
        channel: ChannelId,
        _session: &mut russh::server::Session,
    ) -> Result<bool, Self::Error> {
        let session = self.session_on(channel).filter(|s| !s.started);
        Ok(session.map(|s| s.forwards_agent = true).is_some())
    }

    /// Standard input, for the one command that reads it.
    async fn data(
        &mut self,
        channel: ChannelId,
        data: &[u8],
        _session: &mut russh::server::Session,
    ) -> Result<(), Self::Error> {
        if let Some(session) = self.session_on(channel) {
            session.came = session.came.saturating_add(data.len());
            if session.came > MAX_INPUT {
                session.sender = None;
            }
            if let Some(sender) = &session.sender {
                // An error is a command that reads nothing.
                let _ = sender.send(data.to_vec());
            }
        }
        Ok(())
    }

    async fn channel_eof(
        &mut self,
        channel: ChannelId,
        _session: &mut russh::server::Session,
    ) -> Result<(), Self::Error> {
        if let Some(session) = self.session_on(channel) {
            session.sender = None;
        }
        Ok(())
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        _term: &str,
        _columns: u32,
        _rows: u32,
        _width: u32,
        _height: u32,
        _modes: &[(Pty, u32)],
        ssh: &mut russh::server::Session,
    ) -> Result<(), Self::Error> {
        match self.session_on(channel).filter(|s| !s.started) {
            Some(session) => {
                session.has_pty = true;
                ssh.channel_success(channel)
            }
            None => ssh.channel_failure(channel),
        }
    }

    async fn shell_request(&mut self, channel: ChannelId, ssh: &mut russh::server::Session) -> Result<(), Self::Error> {
        self.start(channel, b"", ssh)
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        command: &[u8],
        ssh: &mut russh::server::Session,
    ) -> Result<(), Self::Error> {
        self.start(channel, command, ssh)
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        value: &str,
        ssh: &mut russh::server::Session,
    ) -> Result<(), Self::Error> {
        match (text::Keeps::parse(name, value), self.session_on(channel).filter(|s| !s.started)) {
            (Some(keeps), Some(session)) => {
                session.keeps = Some(keeps);
                ssh.channel_success(channel)
            }
            _ => ssh.channel_failure(channel),
        }
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        ssh: &mut russh::server::Session,
    ) -> Result<(), Self::Error> {
        if self.is_host {
            return ssh.channel_failure(channel);
        }
        // There is none, and a refusal shows nothing at the client's: as a command it is answered in words.
        self.start(channel, &[text::SUBSYSTEM, name.as_bytes()].concat(), ssh)
    }

    async fn x11_request(
        &mut self,
        channel: ChannelId,
        _single: bool,
        _protocol: &str,
        _cookie: &str,
        _screen: u32,
        ssh: &mut russh::server::Session,
    ) -> Result<(), Self::Error> {
        ssh.channel_failure(channel)
    }
}

fn auth(step: Step) -> Auth {
    match step {
        Step::Accept => Auth::Accept,
        Step::Ask { text, prompts } => Auth::Partial {
            name: Cow::Borrowed(""),
            instructions: text.into(),
            prompts: prompts.into_iter().map(|(prompt, echo)| (prompt.into(), echo)).collect(),
        },
        Step::Reject { again } => Auth::Reject {
            proceed_with_methods: Some(if again { only_keyboard_interactive() } else { nothing_more() }),
            partial_success: false,
        },
    }
}
