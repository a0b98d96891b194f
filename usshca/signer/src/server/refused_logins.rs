//! Logins that were refused, on their way into the inventory. What is the same is counted together; it is written once in a while, in a transaction of its own, when nobody waits for a
//! certificate, and before an administrator reads. So a flood of them costs an issue nothing, and the disk no more than the inventory's bound.
//!
//! Untrusted: the fronts. One that is taken over can have refusals of its own connection written, in its own network's share, and nothing else.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use ussh_core::clock::UnixTime;
use ussh_core::escape::{escape, escape_also};
use usshca_ipc::front::{Ending, MAX_TYPED, Purpose};
use usshca_ipc::worker::PamRefusal;

use super::Server;
use crate::inventory::refused_logins::{RefusedLogin, Tally};
use crate::log;
use crate::policy::{MAX_NAME, Proofs};

/// How long the first of them may wait.
const DELAY: Duration = Duration::from_secs(1);
/// How long it may wait while there are certificates to write.
const BUSY_DELAY: Duration = Duration::from_secs(5);
/// How long after a failure, a full disk for instance.
const RETRY: Duration = Duration::from_secs(10);
/// Most different ones of one network that wait; what is beyond is counted without names and keys.
const MAX_OF_NETWORK: usize = 32;
/// Most different ones that wait; what is beyond is counted without addresses, too.
const MAX_WAITING: usize = 1024;
/// Most bytes of a name in a row: it stands there four times, indexes included. The log has all of it.
const MAX_ROW_NAME: usize = 64;
/// Instead of what is not told apart.
const OTHERS: &str = "(others)";

/// What somebody tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tried {
    /// PAM.
    Pam,
    /// A registered key.
    Publickey,
    /// Nothing at all.
    Nothing,
    /// A key of the user's own, which was to be certified.
    ClientKey,
}

impl Tried {
    /// By what somebody who was named had come.
    pub fn tried_by(proofs: Proofs) -> Self {
        match (proofs.pam, proofs.publickey) {
            (true, _) => Tried::Pam,
            (false, true) => Tried::Publickey,
            (false, false) => Tried::Nothing,
        }
    }

    /// What a key's proof is for.
    pub fn by(purpose: Purpose) -> Self {
        match purpose {
            Purpose::Login => Tried::Publickey,
            Purpose::ClientKey => Tried::ClientKey,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Tried::Pam => "pam",
            Tried::Publickey => "publickey",
            Tried::Nothing => "none",
            Tried::ClientKey => "client-key",
        }
    }
}

/// Why a login was refused: the fixed vocabulary of the inventory (docs/operations.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// As the worker says.
    Pam(PamRefusal),
    /// The worker ended without a word: a module crashed, ended it, or closed its channel.
    BrokeDown,
    /// The connection ended before the worker had spoken, and its time was over.
    TimedOut,
    /// The connection ended before the worker had spoken.
    Left,
    /// The worker said something that was not taken.
    NotTaken,
    /// No key that was offered is registered.
    NotRegistered,
    /// The key that was offered is registered, and revoked.
    KeyRevoked,
    /// A key's signature was not its own, or not over what was asked.
    Signature,
    /// The account was found, and nothing was proved that is enough.
    NothingProved,
    /// The proof came too late, or what was proved is too long ago.
    TooLate,
    /// A name that no account has.
    ImpossibleName,
    /// Somebody was let in, and their front says why there is no certificate.
    Ends(Ending),
    /// Somebody was let in, and asked for nothing.
    NothingAsked,
}

impl Reason {
    /// As it stands in the inventory.
    pub fn text(self) -> &'static str {
        match self {
            Reason::Pam(PamRefusal::Authentication) => "PAM: authentication failed",
            Reason::Pam(PamRefusal::UnknownUser) => "PAM: unknown user",
            Reason::Pam(PamRefusal::TooManyTries) => "PAM: too many tries",
            Reason::Pam(PamRefusal::AccountExpired) => "PAM: account expired",
            Reason::Pam(PamRefusal::Account) => "PAM: account refused",
            Reason::Pam(PamRefusal::PasswordExpired) => "PAM: password expired",
            Reason::Pam(PamRefusal::PasswordNotChanged) => "PAM: password not changed",
            Reason::Pam(PamRefusal::Left) | Reason::Left => "left before PAM had decided",
            Reason::Pam(PamRefusal::Unavailable) => "PAM: could not check",
            Reason::Pam(PamRefusal::NoAccount) => "PAM: no such account",
            Reason::BrokeDown => "PAM: broke down",
            Reason::TimedOut => "PAM: not in time",
            Reason::NotTaken => "PAM: statement not taken",
            Reason::NotRegistered => "key not registered",
            Reason::KeyRevoked => "key revoked",
            Reason::Signature => "key did not prove itself",
            Reason::NothingProved => "nothing proved",
            Reason::TooLate => "too late",
            Reason::ImpossibleName => "impossible name",
            Reason::Ends(Ending::NoAgent) => "no agent was forwarded",
            Reason::Ends(Ending::AgentSilent) => "the agent did not answer",
            Reason::Ends(Ending::KeyNotInAgent) => "the key is not in the agent",
            Reason::Ends(Ending::NoRegisteredKey) => "no registered key is in the agent",
            Reason::Ends(Ending::RegisteredKeyRevoked) => "the registered key in the agent is revoked",
            Reason::Ends(Ending::AgentDidNotSign) => "the agent did not sign",
            Reason::Ends(Ending::NoPublicKey) => "no public key was given",
            Reason::Ends(Ending::Command) => "no such command",
            Reason::Ends(Ending::OnlyThere) => "only at the CA's machine",
            Reason::Ends(Ending::Help) | Reason::NothingAsked => "nothing was asked for",
        }
    }

    /// Whether it befell somebody who had been let in: no guesser.
    fn is_after_login(self) -> bool {
        matches!(self, Reason::Ends(_) | Reason::NothingAsked)
    }
}

/// One that is refused.
#[derive(Clone, Copy, Debug)]
pub struct Refusal<'a> {
    /// As typed, or the account that was named.
    pub user: &'a str,
    /// What had been proved.
    pub proved: &'a str,
    /// What was tried.
    pub tried: Tried,
    /// Fingerprint of the key that was tried, or nothing.
    pub key: &'a str,
    /// Why.
    pub reason: Reason,
    /// Of a command that does not run, what was typed, or nothing: the front's word.
    pub typed: &'a [u8],
}

/// Those that wait to be written.
#[derive(Debug, Default)]
pub struct RefusedLogins {
    waiting: BTreeMap<RefusedLogin, Waiting>,
    of_network: BTreeMap<String, usize>,
    /// When they are to be written.
    due: Option<Instant>,
    /// They could not be: it is not tried before they are due, whoever reads.
    failed: bool,
}

/// Tallies in the order of their first times.
#[derive(Debug)]
struct Waiting {
    place: usize,
    tally: Tally,
}

impl RefusedLogins {
    /// Counts one.
    pub fn note(&mut self, mut login: RefusedLogin, now: UnixTime) {
        if !self.waiting.contains_key(&login) {
            if self.of_network.get(&login.network).is_some_and(|&count| count >= MAX_OF_NETWORK) {
                login.user = OTHERS.to_owned();
                login.fingerprint = String::new();
                login.typed = String::new();
            }
            if self.waiting.len() >= MAX_WAITING && !self.waiting.contains_key(&login) {
                let others = || OTHERS.to_owned();
                login = RefusedLogin {
                    user: others(),
                    source: others(),
                    network: others(),
                    fingerprint: String::new(),
                    typed: String::new(),
                    ..login
                };
            }
        }
        let of_network = &mut self.of_network;
        let network = login.network.clone();
        let place = self.waiting.len();
        self.waiting
            .entry(login)
            .and_modify(|Waiting { tally, .. }| {
                tally.count = tally.count.saturating_add(1);
                tally.last = tally.last.max(now);
            })
            .or_insert_with(|| {
                *of_network.entry(network).or_default() += 1;
                Waiting { place, tally: Tally { first: now, last: now, count: 1 } }
            });
        self.due.get_or_insert_with(|| Instant::now() + DELAY);
    }

    /// The first one first.
    pub fn in_order(&self) -> Vec<(&RefusedLogin, &Tally)> {
        let mut all: Vec<_> = self.waiting.iter().collect();
        all.sort_unstable_by_key(|(_, waiting)| waiting.place);
        all.into_iter().map(|(login, waiting)| (login, &waiting.tally)).collect()
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    #[cfg(test)]
    pub fn total(&self) -> u64 {
        self.waiting.values().map(|waiting| waiting.tally.count).sum()
    }

    /// How long until they are to be written.
    pub fn patience(&self) -> Option<Duration> {
        self.due.map(|due| due.saturating_duration_since(Instant::now()))
    }

    fn is_due(&self, busy: bool) -> bool {
        let delay = if busy { BUSY_DELAY } else { Duration::ZERO };
        self.due.is_some_and(|due| Instant::now() >= due + delay)
    }
}

impl Server {
    /// One line of the log and, in a while, a row of the inventory; or one more in it. What PAM refuses has the worker's line.
    pub(super) fn refuse_login(&mut self, connection: u64, peer: IpAddr, refusal: &Refusal<'_>) {
        let Refusal { user, proved, tried, key, reason, typed } = *refusal;
        let (row_name, user) = (usable(user, MAX_ROW_NAME), usable(user, MAX_NAME));
        let (source, reason) = (peer.to_canonical().to_string(), reason.text());
        let typed = quoted(typed);
        if refusal.reason.is_after_login() {
            log::no_certificate(connection, &user, &source, proved, &format!("{reason}{typed}"));
        } else if tried != Tried::Pam || !matches!(refusal.reason, Reason::Pam(_)) {
            log::refused_login(connection, &user, &source, tried.name(), key, reason);
        }
        let authenticated = format!("{proved} (tried {})", tried.name());
        let login = RefusedLogin {
            user: row_name,
            source,
            network: network(peer),
            authenticated,
            fingerprint: key.to_owned(),
            reason,
            typed,
        };
        let now = self.ca.now();
        self.refused_logins.note(login, now);
    }

    /// Writes them if it is time. Who waits for a certificate goes first.
    pub(super) fn write_refused_logins_if_due(&mut self) {
        if self.refused_logins.is_due(!self.turn.is_empty()) {
            self.write_refused_logins();
        }
    }

    /// Writes them now, since somebody is going to read; but not soon after that has failed.
    pub(super) fn write_refused_logins_for_reader(&mut self) {
        if !self.refused_logins.failed || self.refused_logins.is_due(false) {
            self.write_refused_logins();
        }
    }

    /// Writes them now: they are due, or the CA stops.
    pub(super) fn write_refused_logins(&mut self) {
        if self.refused_logins.waiting.is_empty() {
            return;
        }
        let mut refused = std::mem::take(&mut self.refused_logins);
        if let Err(e) = self.ca.inventory().record_refused_logins(refused.in_order()) {
            // They stay, and what comes meanwhile is counted with them: it is bounded.
            log::warning(&format!("refused logins could not be recorded, {} of them wait: {e}", refused.waiting.len()));
            refused.due = Some(Instant::now() + RETRY);
            refused.failed = true;
            self.refused_logins = refused;
        }
    }
}

/// As typed, if that is short and of one line; else what can be shown of it.
fn usable(user: &str, longest: usize) -> String {
    if user.len() <= longest && !user.chars().any(char::is_control) {
        user.to_owned()
    } else {
        escape(user.as_bytes(), longest)
    }
}

/// In quotes that it cannot end, behind the reason; of nothing, nothing.
fn quoted(typed: &[u8]) -> String {
    if typed.is_empty() {
        return String::new();
    }
    format!(": \"{}\"", escape_also(typed, MAX_TYPED, b"\""))
}

/// Whoever has one IPv6 address has its /64.
fn network(peer: IpAddr) -> String {
    match peer.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).to_string(),
        v4 @ IpAddr::V4(_) => v4.to_string(),
    }
}
