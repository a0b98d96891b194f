//! Administrators over ssh. The front brings their questions; whether they are asked by an administrator is decided here alone, anew for each: by the statement of a PAM worker of this
//! very connection, by the age of that login, by the kernel's word on the address, and by the policy that is in force.

use std::time::{Duration, Instant};

use usshca_ipc::admin::Request;
use usshca_ipc::front::FromSigner;

use super::Server;
use crate::ca::Passed;
use crate::log;
use crate::policy::NoAdmin;

/// Why a question is not answered.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum NotAnswered {
    #[error("{0}")]
    NoAdmin(#[from] NoAdmin),
    /// A key alone, or nothing: an agent can be borrowed.
    #[error("authenticated by {0}, and administration takes PAM")]
    NotByPam(String),
    #[error("logged in {age} s ago, and {most} s is the most")]
    Stale { age: u64, most: u64 },
    /// The feed's key, whose thief would own every host's trust, and what only the machine's own programs ask.
    #[error("it is for the CA's machine alone")]
    OnlyThere,
}

impl NotAnswered {
    /// A sentence for whoever asked, and what to try.
    fn for_user(&self) -> &'static str {
        match self {
            NotAnswered::NoAdmin(NoAdmin::Nobody) => {
                "This CA is not administered over ssh: its policy names nobody for that (admins = …). Use usshca at the CA's machine."
            }
            NotAnswered::NoAdmin(NoAdmin::Subject) => "You are none of this CA's administrators.",
            NotAnswered::NoAdmin(NoAdmin::Source) => "This CA is not administered from your address.",
            NotAnswered::NotByPam(_) => {
                "Administration takes a login by PAM, and a key or the network let you in. Try: ssh -o PubkeyAuthentication=no CA admin …"
            }
            NotAnswered::OnlyThere => "This is done at the CA's machine alone.",
            NotAnswered::Stale { .. } => "You logged in too long ago to administer the CA. Log in again.",
        }
    }
}

impl Server {
    /// A statement is not used up by that: a list has many parts.
    pub(super) fn administer(&mut self, connection: u64, attempt: u32, request: Request) {
        let Some(front) = self.fronts.get_mut(&connection) else {
            return;
        };
        front.rest.clear();
        if front.has_failed_enough() {
            return self.misbehaved(connection, "asks to administer more often than a front of ours does");
        }
        // What is refused here has its line.
        front.settled = true;
        let from = front.peer.ip().to_canonical();
        let Some((passed, stated)) = front.statements.get(&attempt).map(|kept| (kept.passed.clone(), kept.stated))
        else {
            return self
                .misbehaved(connection, &format!("asks for administration in attempt {attempt}, which named nobody"));
        };
        let by = format!("admin {} from {from}", passed.user);
        let allowed = self.is_administrator(&passed, stated, from).and_then(|()| is_served(&request));
        if let Err(why) = allowed {
            log::warning(&format!("connection {connection}: {} from {from} is not to administer: {why}", passed.user));
            self.note_failed_proof(connection);
            return self.tell(connection, &FromSigner::Refused { message: why.for_user().to_owned() });
        }
        if let Some(front) = self.fronts.get_mut(&connection).filter(|front| !front.administers) {
            front.administers = true;
            log::info(&format!("connection {connection}: {by} administers"));
        }
        self.write_refused_logins_for_reader();
        let answers = crate::admin::answer(&mut self.ca, &by, request);
        if let Some(front) = self.fronts.get_mut(&connection) {
            front.rest.extend(answers.into_iter().map(|answer| FromSigner::Admin(Box::new(answer))));
        }
        self.more(connection);
    }

    fn is_administrator(&self, passed: &Passed, stated: Instant, from: std::net::IpAddr) -> Result<(), NotAnswered> {
        let admins = self.ca.policy().admins().ok_or(NoAdmin::Nobody)?;
        admins.admit(&passed.user, &passed.groups, from)?;
        if !passed.proofs.pam {
            return Err(NotAnswered::NotByPam(passed.proofs.to_string()));
        }
        // By both clocks: one may be set back, and the other stands still while the machine sleeps.
        let by_clock = Duration::from_secs(self.ca.now().0.saturating_sub(passed.login_time.0));
        let age = stated.elapsed().max(by_clock);
        let most = admins.login_seconds;
        if age >= Duration::from_secs(most) {
            return Err(NotAnswered::Stale { age: age.as_secs(), most });
        }
        Ok(())
    }
}

/// No wildcard: whoever adds a question says whether it is asked over ssh.
fn is_served(request: &Request) -> Result<(), NotAnswered> {
    match request {
        Request::List { .. }
        | Request::Revoke { .. }
        | Request::Lift { .. }
        | Request::Revocations { .. }
        | Request::Krl
        | Request::HostSign { .. }
        | Request::Keys
        | Request::Show { .. }
        | Request::Explain(_)
        | Request::HostToken { .. }
        | Request::HostTokens { .. }
        | Request::HostTokenRevoke { .. }
        | Request::Hosts { .. }
        | Request::HostShow { .. }
        | Request::HostRemove { .. }
        | Request::Find { .. }
        | Request::KeyRegister { .. }
        | Request::KeyList { .. }
        | Request::KeyRemove { .. }
        | Request::ShowRow { .. } => Ok(()),
        Request::Feed { .. }
        | Request::FeedKey
        | Request::FeedKeyRotate { .. }
        | Request::FeedKeyHandedOver { .. }
        | Request::Recorded { .. }
        | Request::Lost
        | Request::Latest => Err(NotAnswered::OnlyThere),
    }
}
