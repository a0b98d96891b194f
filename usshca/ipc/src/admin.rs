//! What administrators ask of the signer (root or the CA's owner, kernel-attested).

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::front::Wish;
use crate::host::{Host, Secret, Token};

/// One question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Certificates by serial descending, from below `before` (exclusive; u64::MAX = newest), at most `limit` (≤ 500) rows.
    List {
        /// Exclusive upper bound on the row number.
        before: u64,
        /// Rows.
        limit: u32,
    },
    /// Revokes.
    Revoke {
        /// What.
        what: Revoke,
        /// Free text, ≤ 1 KiB.
        reason: String,
    },
    /// Lifts a revocation.
    Lift {
        /// Its number.
        act: u64,
    },
    /// Revocations, newest first, from below `before` (exclusive; u64::MAX = newest), at most `limit` (≤ 500).
    Revocations {
        /// Exclusive upper bound on the number.
        before: u64,
        /// Rows.
        limit: u32,
    },
    /// The KRL of all that is revoked and not yet expired.
    Krl,
    /// Sign a host certificate.
    HostSign {
        /// Wire form of the host key.
        public_key: Vec<u8>,
        /// Host names; wildcards as far as the policy names them.
        principals: Vec<String>,
        /// Seconds from now; `None`: as the policy says.
        validity_seconds: Option<u64>,
        /// Also if the key is another host's: it is this one's from then on.
        take_key: bool,
    },
    /// CA public keys.
    Keys,
    /// One certificate, with all that is known of it.
    Show {
        /// The serial.
        serial: u64,
    },
    /// What policy would say, and why.
    Explain(Box<Supposed>),
    /// Make a token for a host of these names.
    HostToken {
        /// Its own name first.
        principals: Vec<String>,
        /// For how long it is good.
        life_seconds: u64,
    },
    /// Tokens that can still be used, newest first, from below `before` (exclusive; u64::MAX = newest), at most `limit` (≤ 500).
    HostTokens {
        /// Exclusive upper bound on the number.
        before: u64,
        /// Rows.
        limit: u32,
    },
    /// Make a token useless.
    HostTokenRevoke {
        /// Its number.
        id: u64,
    },
    /// Hosts by name ascending, from above `after` (exclusive; empty = first), at most `limit` (≤ 500).
    Hosts {
        /// Exclusive lower bound on the name.
        after: String,
        /// Rows.
        limit: u32,
    },
    /// One host.
    HostShow {
        /// Its name.
        name: String,
    },
    /// Take a host out: its certificates are revoked, and it gets no more.
    HostRemove {
        /// Its name.
        name: String,
        /// Free text, ≤ 1 KiB.
        reason: String,
    },
    /// A new feed, to be published.
    Feed {
        /// Seconds; `None`: as configured.
        valid_seconds: Option<u64>,
        /// Signed; else a draft for whoever holds the feed key elsewhere.
        signed: bool,
    },
    /// The feed key.
    FeedKey,
    /// The feed key hands over to another one: a new one of the signer's own, or this one (wire form), which is elsewhere.
    FeedKeyRotate {
        /// Wire form of a public key.
        to: Option<Vec<u8>>,
    },
    /// A feed key that is elsewhere has handed over: the manifest in which it names its successor (`ussh_core::feed::Handover`).
    FeedKeyHandedOver {
        /// JSON, as it was signed.
        manifest: Vec<u8>,
        /// Armoured SSHSIG.
        signature: Vec<u8>,
    },
    /// Rows of which all of this holds, newest first.
    Find {
        /// What holds.
        find: Box<Find>,
        /// Where to go on; [`Cursor::NEWEST`] to begin.
        cursor: Cursor,
        /// At most so many (≤ 500); there may be none, and more behind.
        limit: u32,
    },
    /// The requests of users that stand in the inventory, newest first, as policy was asked.
    Recorded {
        /// Seconds since the epoch, inclusive.
        since: u64,
        /// Where to go on; [`Cursor::NEWEST`] to begin.
        cursor: Cursor,
    },
    /// Serials that were given and are unknown, since an older inventory was put back.
    Lost,
    /// Registers a key, by which its user can log in where policy takes that.
    KeyRegister {
        /// Canonical account name.
        user: String,
        /// Wire form.
        public_key: Vec<u8>,
        /// For people, ≤ 256 bytes.
        comment: String,
    },
    /// Registered keys, newest first, from below `before` (exclusive; u64::MAX = newest), at most `limit` (≤ 500).
    KeyList {
        /// Of this user only.
        user: Option<String>,
        /// Exclusive upper bound on the number.
        before: u64,
        /// Rows.
        limit: u32,
    },
    /// A key is not registered any more.
    KeyRemove {
        /// `SHA256:…`
        fingerprint: String,
    },
    /// One row with all that is known of it; a refusal has no serial. The answer is [`Reply::Shown`].
    ShowRow {
        /// Its number.
        row: u64,
    },
    /// How far the inventory has come in time. The answer is [`Reply::Latest`].
    Latest,
}

/// What is looked for: all of what is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Find {
    /// A user's certificates and refusals.
    pub user: Option<String>,
    /// Fingerprint `SHA256:…` of the subject key, or of the registered key by which somebody had logged in.
    pub key: Option<String>,
    /// One certificate.
    pub serial: Option<u64>,
    /// Asked for at this time or later, seconds since the epoch.
    pub since: Option<u64>,
    /// Asked for before this time, seconds since the epoch.
    pub until: Option<u64>,
    /// One of its principals.
    pub principal: Option<String>,
    /// A host's certificates, by any of its names.
    pub host: Option<String>,
    /// Peer address, or `admin`.
    pub from: Option<String>,
    /// `reserved`, `signed`, `delivered`, `undelivered`, `refused`, `revoked`.
    pub state: Option<String>,
    /// Policy rule.
    pub rule: Option<String>,
}

/// Where a search stands. Of the signer's making; a search that was made up finds other rows and nothing worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Row number, exclusive.
    pub before: u64,
    /// The last row number that can matter, inclusive; `None`: not looked up yet.
    pub floor: Option<u64>,
}

impl Cursor {
    /// From the newest row on.
    pub const NEWEST: Cursor = Cursor { before: u64::MAX, floor: None };
}

/// A request that stands in the inventory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// Its row.
    pub entry: Entry,
    /// What policy was asked.
    pub supposed: Supposed,
    /// Whether policy said yes; a certificate may not have been made for another reason.
    pub granted: bool,
    /// Critical options of the certificate, if it was signed.
    pub critical_options: Option<Vec<(String, String)>>,
    /// Extensions of it, but for `login-time@ussh`.
    pub extensions: Option<Vec<String>>,
}

/// Serials that are unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostSerials {
    /// Inclusive.
    pub first: u64,
    /// Inclusive.
    pub last: u64,
    /// When it was noted, seconds since the epoch.
    pub noted: u64,
    /// Whether a revocation holds all of them.
    pub revoked: bool,
}

/// Which CA's certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CertificateKind {
    /// The user CA's.
    User,
    /// The host CA's.
    Host,
}

/// What is to be revoked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Revoke {
    /// One certificate.
    Serial(u64),
    /// All that were issued to a user so far.
    User(String),
    /// All that were issued so far to a host with this name.
    Host(String),
    /// A key, by its fingerprint `SHA256:…`: all certificates that hold it, past and to come, and the plain key.
    Key(String),
    /// A key ID: all certificates with it, past and to come.
    KeyId {
        /// Whose.
        kind: CertificateKind,
        /// The key ID.
        key_id: String,
    },
    /// All that were issued before a time.
    Before {
        /// Whose.
        kind: CertificateKind,
        /// Seconds since the epoch, exclusive.
        time: u64,
    },
    /// A CA key: all certificates by it.
    Ca {
        /// Which.
        kind: CertificateKind,
        /// Its fingerprint; filled in by the signer.
        fingerprint: String,
    },
    /// Serials of one epoch, in the inventory or not: users' and hosts'.
    Serials {
        /// Inclusive.
        first: u64,
        /// Inclusive.
        last: u64,
    },
}

/// What was revoked now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoked {
    /// The revocation's number, by which it can be lifted.
    pub act: u64,
    /// How many certificates of the inventory that are not over.
    pub certificates: u64,
    /// How many of them another revocation holds as well: they were revoked before.
    pub held: u64,
}

/// One revocation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// Its number.
    pub id: u64,
    /// `serial`, `user`, `host`, `key`, `key ID`, `before`, `ca` or `serials`.
    pub scope: String,
    /// `user`, `host`, or nothing: both.
    pub kind: String,
    /// What was named: a serial, a name, a fingerprint, seconds since the epoch.
    pub value: String,
    /// Seconds since the epoch.
    pub at: u64,
    /// Who did it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// How many certificates of the inventory it met.
    pub certificates: u64,
    /// Seconds since the epoch, if it was lifted.
    pub lifted: Option<u64>,
    /// By whom.
    pub lifted_by: Option<String>,
}

/// A request that might be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Supposed {
    /// Canonical account name.
    pub user: String,
    /// Its groups by name.
    pub groups: Vec<String>,
    /// Where it comes from.
    pub source: IpAddr,
    /// When, seconds since the epoch; `None`: now.
    pub time: Option<u64>,
    /// How it is authenticated, as policy names it; empty: by the first way that the rule takes.
    pub authentication: String,
    /// Who makes the key, as policy names it; empty: the CA, if the rule allows that.
    pub mode: String,
    /// Of the key, as policy names it; empty: what the CA would make, or the first that the rule allows.
    pub key_type: String,
    /// What the user would like.
    pub wish: Wish,
    /// Where the rule demands a reason and the wish has none, there is one.
    pub reason_if_demanded: bool,
}

/// What a rule that grants demands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Takes {
    /// Any of these ways to prove who one is, as policy names them.
    pub authentication: Vec<String>,
    /// Who makes the key.
    pub modes: Vec<String>,
    /// Types of keys.
    pub key_types: Vec<String>,
    /// A reason.
    pub reason: bool,
}

/// What policy says to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explained {
    /// Rules that were looked at before the one that decides, in order, and why each was not it.
    pub passed_over: Vec<(String, String)>,
    /// The rule that decides; empty: none does.
    pub rule: String,
    /// What was supposed: as it was asked, with what the rule demands where nothing was said.
    pub supposed: Supposed,
    /// What the rule demands; `None`: it denies, or there is none.
    pub takes: Option<Takes>,
    /// The certificate that there would be, or why there is none.
    pub decision: Result<Grant, String>,
}

/// What a certificate would be like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The account.
    pub key_id: String,
    /// In order.
    pub principals: Vec<String>,
    /// Seconds since the epoch.
    pub valid_after: u64,
    /// Seconds since the epoch.
    pub valid_before: u64,
    /// Name and value; the value of a flag is empty.
    pub critical_options: Vec<(String, String)>,
    /// Flags by name; `login-time@ussh` is in every certificate besides.
    pub extensions: Vec<String>,
    /// What the agent is told, into which it is put with its key; `None`: it is not, the key is the user's own.
    pub in_agent: Option<InAgent>,
    /// Most of them that are good at one time, if there is such a limit.
    pub max_certificates: Option<u32>,
}

/// What an agent is told that holds a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InAgent {
    /// It asks before each use.
    pub confirm: bool,
    /// It drops it after so many seconds.
    pub lifetime_seconds: u64,
}

/// The answer.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Rows; more follow below the last one's `row`.
    List(Vec<Entry>),
    /// Revoked now; `None`: the same was before.
    Revoked(Option<Revoked>),
    /// Lifted.
    Lifted {
        /// How many certificates are good again.
        certificates: u64,
        /// How many stay revoked, since another revocation holds them.
        held: u64,
        /// It was lifted before.
        already: bool,
    },
    /// Revocations; more follow below the last one's number.
    Revocations(Vec<Revocation>),
    /// A KRL, chunked: `more` = ask nothing, keep receiving.
    Krl {
        /// Bytes.
        chunk: Vec<u8>,
        /// Another Reply::Krl follows.
        more: bool,
    },
    /// `type base64 comment`.
    HostCertificate {
        /// The line.
        line: String,
        /// Its serial.
        serial: u64,
        /// The host whose key it was, which has it no more.
        taken_from: Option<String>,
    },
    /// CA public keys, `type base64 comment`.
    Keys {
        /// Signs users.
        user_ca: String,
        /// Signs hosts.
        host_ca: String,
    },
    /// No; why, and what to try.
    Refused(String),
    /// The certificate that was asked for.
    Shown(Box<Shown>),
    /// What policy would say.
    Explained(Box<Explained>),
    /// A new token. Nobody can show it again.
    HostToken {
        /// The token's text.
        secret: Secret,
        /// All else.
        token: Token,
    },
    /// Tokens; more follow below the last one's number.
    HostTokens(Vec<Token>),
    /// The token is useless now.
    HostTokenRevoked,
    /// Hosts; more follow above the last one's name.
    Hosts(Vec<Host>),
    /// The host that was asked for.
    Host(Box<Host>),
    /// The host is out.
    HostRemoved {
        /// Certificates that were revoked now.
        certificates: u64,
    },
    /// A feed (`ussh_core::feed::Bundle`), chunked: `more` = ask nothing, keep receiving.
    Feed {
        /// Bytes.
        chunk: Vec<u8>,
        /// Another Reply::Feed follows.
        more: bool,
    },
    /// The feed key.
    FeedKey {
        /// `type base64`, if there is one.
        line: Option<String>,
        /// Where it is held.
        held: String,
    },
    /// What was found.
    Found {
        /// Newest first.
        rows: Vec<Entry>,
        /// Where to go on; `None`: that was all.
        next: Option<Cursor>,
    },
    /// Recorded requests.
    Recorded {
        /// Newest first.
        rows: Vec<Recorded>,
        /// Where to go on; `None`: that was all.
        next: Option<Cursor>,
    },
    /// Serials that are unknown.
    Lost(Vec<LostSerials>),
    /// Registered now.
    KeyRegistered {
        /// It was before.
        already: bool,
    },
    /// Registered keys; more follow below the last one's `id`.
    RegisteredKeys(Vec<RegisteredKey>),
    /// Not registered any more.
    KeyRemoved {
        /// Whose it was.
        user: String,
    },
    /// How far the inventory has come in time, seconds since the epoch. Ahead of the clock they keep the CA from its work.
    Latest {
        /// When the newest row was asked for.
        row: u64,
        /// The last KRL's version.
        krl_version: u64,
    },
}

/// A key by which its user can log in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisteredKey {
    /// Number, ascending.
    pub id: u64,
    /// Canonical account name.
    pub user: String,
    /// `SHA256:…`
    pub fingerprint: String,
    /// `ssh-ed25519 AAAA…`
    pub public_key: String,
    /// For people.
    pub comment: String,
    /// Seconds since the epoch.
    pub at: u64,
    /// Who did it.
    pub by: String,
    /// It is revoked as well (`usshca revoke --key`), and good for nothing.
    pub revoked: bool,
}

/// One certificate, with all that is known of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// Its row.
    pub entry: Entry,
    /// `type base64`; `None`: reserved, but never signed as far as the inventory knows.
    pub certificate: Option<String>,
    /// Who revoked it (`admin uid 0`), if revoked.
    pub revoked_by: Option<String>,
    /// Why, if revoked.
    pub revocation_reason: Option<String>,
}

/// One row of the inventory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Row number, ascending.
    pub row: u64,
    /// 0 for a refusal (no certificate was made).
    pub serial: u64,
    /// `user` or `host`.
    pub kind: String,
    /// Key ID.
    pub key_id: String,
    /// Principals.
    pub principals: Vec<String>,
    /// Fingerprint of the subject key, empty if none.
    pub fingerprint: String,
    /// Seconds since the epoch.
    pub valid_after: u64,
    /// Seconds since the epoch.
    pub valid_before: u64,
    /// Seconds since the epoch: when it was asked for.
    pub asked: u64,
    /// Peer address, or `admin`.
    pub from: String,
    /// How authenticated: `pam`, `publickey SHA256:…`, `admin uid 0`; of a login that was refused what was tried as well: `none (tried pam)`.
    pub authenticated: String,
    /// Policy rule.
    pub rule: String,
    /// `reserved`, `signed`, `delivered`, `undelivered: why`, `refused: why`.
    pub outcome: String,
    /// Seconds since the epoch, if revoked.
    pub revoked: Option<u64>,
    /// What the user said that it is for (`reason="…"`), escaped; empty: nothing.
    pub reason: String,
    /// How often the same login was refused; 1 for all other rows.
    pub count: u64,
    /// Seconds since the epoch: when it was refused last; when it was asked for, for all other rows.
    pub last: u64,
}
