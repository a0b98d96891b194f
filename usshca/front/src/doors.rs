//! The ways into the CA besides PAM: a registered key, and nothing at all from the networks that policy names. What is decided here lets somebody in and no more: no certificate comes of it
//! before the signer has its own proof (`prove`).

use std::time::Duration;

use russh::server::Auth;
use russh::{MethodKind, MethodSet};
use tokio::time::{Instant, sleep_until};
use usshca_ipc::front::ToSigner;

use crate::handler::Handler;
use crate::login::{Found, Gone};
use crate::say;
use crate::signer::{Demands, Known, NoAnswer, Ways};

/// How long it takes at least to learn that nothing is not enough, so that it does not tell which accounts there are.
const LOOKUP_TIME: Duration = Duration::from_millis(300);

impl Handler {
    /// What the policy has for this address; asked once.
    pub(crate) async fn ways(&mut self) -> Ways {
        if self.ways.is_none() {
            self.ways = match &self.signer {
                Some(signer) => Some(signer.ways().await),
                None => None,
            };
        }
        self.ways.unwrap_or_default()
    }

    /// The methods of which a client is told.
    pub(crate) async fn methods(&mut self) -> MethodSet {
        let publickey = self.ways().await.publickey.then_some(MethodKind::PublicKey);
        let methods: Vec<_> = publickey.into_iter().chain([MethodKind::KeyboardInteractive]).collect();
        MethodSet::from(methods.as_slice())
    }

    /// With nothing: nobody is looked up for an address that no such rule is about.
    pub(crate) async fn by_nothing(&mut self, user: &str) -> Result<Auth, Gone> {
        if !self.ways().await.none {
            return Ok(self.rejected(false).await);
        }
        let looked_up = Instant::now();
        match self.look_up(user, false).await? {
            Some((found, demands)) if demands.met_by(false, false) => {
                self.login.accept(found, None);
                Ok(Auth::Accept)
            }
            _ => {
                sleep_until(looked_up + LOOKUP_TIME).await;
                Ok(self.rejected(false).await)
            }
        }
    }

    /// Whether this key is worth a signature; `None`: one by an algorithm that is not taken.
    pub(crate) async fn by_offer(&mut self, user: &str, key: Option<&Vec<u8>>) -> Auth {
        let takes = self.ways().await.publickey && self.login.takes(user);
        let known = match (&self.signer, key) {
            (Some(signer), Some(key)) if takes => signer.knows(user, key).await == Known::Registered,
            _ => false,
        };
        if known { Auth::Accept } else { self.rejected(false).await }
    }

    /// By a key that has signed, and of which the signer said that it is this user's.
    pub(crate) async fn by_key(&mut self, user: &str, key: Vec<u8>) -> Result<Auth, Gone> {
        if !self.ways().await.publickey {
            return Ok(self.rejected(false).await);
        }
        match self.look_up(user, true).await? {
            Some((found, demands)) if demands.met_by(false, true) => {
                self.login.accept(found, Some(key));
                Ok(Auth::Accept)
            }
            Some((_, demands)) if demands.ways.iter().any(|way| way.pam && way.publickey) => {
                self.login.claim(key);
                Ok(self.rejected(true).await)
            }
            // A rule that wants PAM and no key: the client goes on with that.
            _ => Ok(self.rejected(false).await),
        }
    }

    /// Of a name that no account has no worker is asked, and so the signer hears of it here.
    pub(crate) async fn tell_impossible(&mut self) {
        if let (Some(user), Some(signer)) = (self.login.take_impossible(), &self.signer)
            && signer.ask(&ToSigner::Impossible { user }).await.is_err()
        {
            say("an impossible name was not noted");
        }
    }

    /// `partial`: this much was right, and PAM is to follow (RFC 4252 §5.1).
    async fn rejected(&mut self, partial: bool) -> Auth {
        let methods = match partial {
            true => MethodSet::from(&[MethodKind::KeyboardInteractive][..]),
            false => self.methods().await,
        };
        Auth::Reject { proceed_with_methods: Some(methods), partial_success: partial }
    }

    async fn look_up(&mut self, user: &str, by_key: bool) -> Result<Option<(Found, Demands)>, Gone> {
        let Some(found) = self.login.look_up(user).await? else {
            return Ok(None);
        };
        let demands = match &self.signer {
            Some(signer) => signer.demands(found.attempt, by_key).await,
            None => Err(NoAnswer(String::new())),
        };
        Ok(demands.ok().map(|demands| (found, demands)))
    }
}
