//! The host's half: lines in, lines out. Who runs `ssh host@CA VERB` is somebody else's affair.

use super::line::{self, Answer, MAX_LINE, TAKEN};
use super::{Claims, Grant, HostToken, NONCE_LEN, Verb};
use crate::certificate::{Certificate, CertificateKind};
use crate::clock::UnixTime;
use crate::keys::{FidoDemand, KeyError, PrivateKey, PublicKey};

/// Longest answer of which a host reads on, in bytes with its end: a KRL of some hundred thousand serials.
const MAX_ANSWER: usize = 64 << 20;

/// How far ahead of this host's clock a certificate may begin, seconds: clocks differ by minutes.
const MAX_SKEW: u64 = 300;

/// Why a host has nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeError {
    /// The CA says no; its sentence, untrusted.
    #[error("the CA refuses: {0}")]
    Refused(String),
    /// Not what a CA of this version says.
    #[error("the answer is none of a CA's: {0}")]
    Malformed(&'static str),
    /// A key could not sign, or the host has too many.
    #[error("the proof cannot be made: {0}")]
    Key(#[from] KeyError),
    /// By another CA than the one that made the token, or the present certificate.
    #[error("the answer is not by the CA that this host knows")]
    OtherCa,
    /// The signature over the answer, or a certificate in it, is not good.
    #[error("what the CA gave is not good: {0}")]
    Bad(&'static str),
}

/// How the CA is known.
#[derive(Debug)]
enum Anchor {
    Token(HostToken),
    HostCa(PublicKey),
    /// Nothing that it says is trusted.
    None,
}

/// One exchange with the CA.
#[derive(Debug)]
pub struct Exchange {
    verb: Verb,
    anchor: Anchor,
    names: Vec<String>,
    keys: Vec<PrivateKey>,
    nonce: Option<[u8; NONCE_LEN]>,
}

/// What a host was given: signed by its CA, each certificate for the key at the same place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// Its name in the inventory.
    pub host: String,
    /// One for each key, in their order.
    pub certificates: Vec<Certificate>,
    /// Whose user certificates it is to trust.
    pub user_ca: Vec<PublicKey>,
    /// The CA of this host's certificates.
    pub host_ca: PublicKey,
    /// `@cert-authority …`: for its own known_hosts.
    pub known_hosts: String,
    /// The feed's, if this CA has one.
    pub feed_key: Option<PublicKey>,
}

/// What the CA knows of a host that reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reported {
    /// Its name in the inventory.
    pub host: String,
    /// When the first of its certificates ends that the CA knows of, seconds since the epoch.
    pub valid_before: Option<u64>,
}

impl Exchange {
    /// `enroll`: certificates for these keys, under the token's names. `names`: to be told at once if the token is for others; may be empty.
    pub fn enroll(token: HostToken, names: Vec<String>, keys: Vec<PrivateKey>) -> Self {
        Exchange { verb: Verb::Enroll, anchor: Anchor::Token(token), names, keys, nonce: None }
    }

    /// `renew`: new certificates for keys that have some, by the CA that these name.
    pub fn renew(host_ca: PublicKey, names: Vec<String>, keys: Vec<PrivateKey>) -> Self {
        Exchange { verb: Verb::Renew, anchor: Anchor::HostCa(host_ca), names, keys, nonce: None }
    }

    /// `report`.
    pub fn report(keys: Vec<PrivateKey>) -> Self {
        Exchange { verb: Verb::Report, anchor: Anchor::None, names: Vec::new(), keys, nonce: None }
    }

    /// `krl`. What comes is as trustworthy as the connection to the CA: the feed is signed.
    pub fn krl(keys: Vec<PrivateKey>) -> Self {
        Exchange { verb: Verb::Krl, anchor: Anchor::None, names: Vec::new(), keys, nonce: None }
    }

    /// `break-glass`: uses, each a note's line, at most [`super::MAX_NOTES`]. The answer is that of a report, and means that all of them are on the CA's disk.
    pub fn break_glass(notes: Vec<String>, keys: Vec<PrivateKey>) -> Self {
        Exchange { verb: Verb::BreakGlass, anchor: Anchor::None, names: notes, keys, nonce: None }
    }

    /// What is asked for: the command of `ssh host@CA`.
    pub fn verb(&self) -> Verb {
        self.verb
    }

    /// The answer to the CA's first line: the proof, a line with its end.
    /// # Errors
    /// [`ExchangeError`]
    pub fn prove(&mut self, hello: &[u8]) -> Result<String, ExchangeError> {
        let Some(nonce) = line::read_hello(hello, self.verb) else {
            return Err(refusal_in(hello).unwrap_or(ExchangeError::Malformed("no hello")));
        };
        let token = match &self.anchor {
            Anchor::Token(token) => Some(token.key()?),
            Anchor::HostCa(_) | Anchor::None => None,
        };
        let claims = Claims { verb: self.verb, nonce: &nonce, names: &self.names };
        let proof = claims.sign(token.as_ref(), &self.keys)?;
        let line = line::proof_line(&proof).filter(|line| line.len() <= MAX_LINE);
        self.nonce = Some(nonce);
        line.ok_or(ExchangeError::Malformed("the proof is too long"))
    }

    /// Reads the answer to [`Self::enroll`] and [`Self::renew`], which must be good at this time. Send [`TAKEN`] when it is where it belongs.
    /// # Errors
    /// [`ExchangeError`]
    pub fn granted(&self, answer: &[u8], now: UnixTime) -> Result<Granted, ExchangeError> {
        match self.read(answer)? {
            Answer::Granted(grant) => self.check(&grant, now),
            Answer::Refused(_) | Answer::Reported { .. } | Answer::Krl(_) => {
                Err(ExchangeError::Malformed("no certificates"))
            }
        }
    }

    /// Reads the answer to [`Self::report`] and [`Self::break_glass`].
    /// # Errors
    /// [`ExchangeError`]
    pub fn reported(&self, answer: &[u8]) -> Result<Reported, ExchangeError> {
        match self.read(answer)? {
            Answer::Reported { host, valid_before } => Ok(Reported { host, valid_before }),
            Answer::Refused(_) | Answer::Granted(_) | Answer::Krl(_) => {
                Err(ExchangeError::Malformed("no word on the report"))
            }
        }
    }

    /// Reads the answer to [`Self::krl`].
    /// # Errors
    /// [`ExchangeError`]
    pub fn received_krl(&self, answer: &[u8]) -> Result<Vec<u8>, ExchangeError> {
        match self.read(answer)? {
            Answer::Krl(krl) => Ok(krl),
            Answer::Refused(_) | Answer::Granted(_) | Answer::Reported { .. } => {
                Err(ExchangeError::Malformed("no KRL"))
            }
        }
    }

    /// What to send when the certificates are where they belong.
    pub fn taken(&self) -> &'static str {
        TAKEN
    }

    fn read(&self, answer: &[u8]) -> Result<Answer, ExchangeError> {
        if answer.len() > MAX_ANSWER {
            return Err(ExchangeError::Malformed("too long"));
        }
        match line::read_answer(answer).ok_or(ExchangeError::Malformed("no answer"))? {
            Answer::Refused(why) => Err(ExchangeError::Refused(why)),
            good @ (Answer::Granted(_) | Answer::Reported { .. } | Answer::Krl(_)) => Ok(good),
        }
    }

    fn check(&self, grant: &Grant, now: UnixTime) -> Result<Granted, ExchangeError> {
        let nonce = self.nonce.ok_or(ExchangeError::Malformed("nothing was proved yet"))?;
        let bad = ExchangeError::Bad;
        let read = |line: &String| Certificate::from_openssh(line).map_err(|_| bad("a certificate does not read"));
        let certificates: Vec<Certificate> = grant.certificates.iter().map(read).collect::<Result<_, _>>()?;
        let host_ca = certificates.first().ok_or(bad("no certificates"))?.ca().clone();
        let is_ours = match &self.anchor {
            Anchor::Token(token) => token.is_of(&host_ca),
            Anchor::HostCa(known) => *known == host_ca,
            Anchor::None => false,
        };
        if !is_ours {
            return Err(ExchangeError::OtherCa);
        }
        let verified = host_ca.verify(&grant.signed_data(&nonce), &grant.signature, FidoDemand::Presence);
        verified.map_err(|_| bad("its signature"))?;
        let keys = self.keys.iter().map(PrivateKey::public_key);
        let fits = |(certificate, key): (&Certificate, PublicKey)| {
            *certificate.public_key() == key
                && certificate.ca() == &host_ca
                && certificate.kind() == CertificateKind::Host
                && certificate.is_signed()
        };
        if certificates.len() != self.keys.len() || !certificates.iter().zip(keys).all(fits) {
            return Err(bad("a certificate is not for this host's key"));
        }
        for certificate in &certificates {
            self.judge(certificate, now)?;
        }
        let key = |line: &String| PublicKey::from_openssh(line).map_err(|_| bad("a CA key does not read"));
        let user_ca: Vec<PublicKey> = grant.user_ca.iter().map(key).collect::<Result<_, _>>()?;
        if user_ca.is_empty() || user_ca.contains(&host_ca) {
            return Err(bad("no user CA of its own"));
        }
        Ok(Granted {
            host: grant.host.clone(),
            user_ca,
            host_ca,
            known_hosts: grant.known_hosts.clone(),
            feed_key: grant.feed_key.as_ref().map(key).transpose()?,
            certificates,
        })
    }

    /// Whether clients will take it, now and for the names that were asked for: what they would not take must not replace one that they do.
    fn judge(&self, certificate: &Certificate, now: UnixTime) -> Result<(), ExchangeError> {
        let bad = |problem| Err(ExchangeError::Bad(problem));
        if certificate.valid_before() <= now {
            return bad("a certificate has run out already: are the clocks of the CA and of this host right?");
        }
        if certificate.valid_after().0 > now.0.saturating_add(MAX_SKEW) {
            return bad("a certificate is not valid yet: are the clocks of the CA and of this host right?");
        }
        if !certificate.critical_options().is_empty() {
            return bad("a certificate has critical options, and no client takes a host certificate with any");
        }
        if certificate.principals().is_empty() {
            return bad("a certificate is for no name");
        }
        let is_for = |name: &String| certificate.principals().iter().any(|p| p.eq_ignore_ascii_case(name.as_bytes()));
        // A renewal is for what the inventory says.
        if self.verb == Verb::Enroll && !self.names.iter().all(is_for) {
            return bad("a certificate is not for all names that were asked for");
        }
        Ok(())
    }
}

/// A CA that says no before anything was asked.
fn refusal_in(line: &[u8]) -> Option<ExchangeError> {
    match line::read_answer(line.get(..line.len().min(MAX_LINE))?)? {
        Answer::Refused(why) => Some(ExchangeError::Refused(why)),
        Answer::Granted(_) | Answer::Reported { .. } | Answer::Krl(_) => None,
    }
}
