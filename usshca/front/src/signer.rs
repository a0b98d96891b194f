//! What a front asks the signer, one question at a time.

use std::time::Duration;

use tokio::time::timeout;
use ussh_core::keys::PublicKey;
use ussh_core::login_proof;
use usshca_ipc::channel::ChannelError;
use usshca_ipc::front::{FromSigner, Makes, Purpose, ToSigner, Verb, Way};

use crate::channel::Channel;
use crate::say;
use crate::text;

/// How long the signer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// The signer, for one connection.
pub struct Signer {
    channel: Channel<ToSigner, FromSigner>,
}

/// Why there is no answer: what the user is told.
#[derive(Debug, PartialEq, Eq)]
pub struct NoAnswer(pub String);

/// Ways to log in besides PAM that policy has for this connection's address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ways {
    /// By a registered key.
    pub publickey: bool,
    /// With nothing.
    pub none: bool,
}

/// What a key is to a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Nothing that the signer tells of.
    No,
    /// Registered.
    Registered,
    /// Registered, and revoked.
    Revoked,
}

/// What policy demands of somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demands {
    /// Any of these is enough.
    pub ways: Vec<Way>,
    /// Kinds of keys that the rule allows and the CA makes.
    pub makes: Vec<Makes>,
}

impl Demands {
    /// Whether this is enough.
    pub fn met_by(&self, pam: bool, publickey: bool) -> bool {
        self.ways.iter().any(|way| (pam || !way.pam) && (publickey || !way.publickey))
    }
}

impl Signer {
    /// Over its channel.
    pub fn new(channel: Channel<ToSigner, FromSigner>) -> Self {
        Signer { channel }
    }

    /// One question, one answer.
    /// # Errors
    /// [`ChannelError`]
    pub async fn ask(&self, question: &ToSigner) -> Result<FromSigner, ChannelError> {
        self.channel.send(question).await?;
        self.next().await
    }

    async fn next(&self) -> Result<FromSigner, ChannelError> {
        let late = |_| ChannelError::Io(std::io::ErrorKind::TimedOut.into());
        timeout(PATIENCE, self.channel.receive()).await.map_err(late)?.map(|(message, _)| message)
    }

    /// The same, with the whole connection waiting for it.
    /// # Errors
    /// [`ChannelError`]
    pub fn ask_now(&self, question: &ToSigner) -> Result<FromSigner, ChannelError> {
        self.channel.ask_now(question, PATIENCE)
    }

    /// One question, one answer; a refusal is an error, and what cannot be asked is told in general words.
    /// # Errors
    /// [`NoAnswer`]
    pub async fn answer(&self, question: &ToSigner) -> Result<FromSigner, NoAnswer> {
        match self.ask(question).await {
            Ok(FromSigner::Refused { message }) => Err(NoAnswer(message)),
            Ok(answer) => Ok(answer),
            Err(e) => {
                say(&format!("signer: {e}"));
                Err(NoAnswer(text::SIGNER_AWAY.to_owned()))
            }
        }
    }

    /// Of a signer that cannot be asked: none but PAM.
    pub async fn ways(&self) -> Ways {
        match self.ask(&ToSigner::Ways).await {
            Ok(FromSigner::Ways { publickey, none }) => Ways { publickey, none },
            Ok(_) => Ways::default(),
            Err(e) => {
                say(&format!("signer: {e}"));
                Ways::default()
            }
        }
    }

    /// What a key is to this user.
    pub async fn knows(&self, user: &str, key: &[u8]) -> Known {
        let question = ToSigner::Knows { user: user.to_owned(), key: key.to_vec() };
        match self.ask(&question).await {
            Ok(FromSigner::Known(true)) => Known::Registered,
            Ok(FromSigner::KnownRevoked) => Known::Revoked,
            Ok(_) | Err(_) => Known::No,
        }
    }

    /// What is demanded of whoever an attempt named.
    /// # Errors
    /// [`NoAnswer`]
    pub async fn demands(&self, attempt: u32, by_key: bool) -> Result<Demands, NoAnswer> {
        let FromSigner::Demands { ways, makes } = self.answer(&ToSigner::Demands { attempt, by_key }).await? else {
            return Err(another_question());
        };
        Ok(Demands { ways, makes })
    }

    /// What the key is to sign, as an agent is asked for it.
    /// # Errors
    /// [`NoAnswer`]
    pub async fn challenge(&self, attempt: u32, purpose: Purpose, key: &PublicKey) -> Result<Vec<u8>, NoAnswer> {
        let FromSigner::Challenge { message } =
            self.answer(&ToSigner::Challenge { attempt, purpose, key: key.to_blob() }).await?
        else {
            return Err(another_question());
        };
        let purpose = match purpose {
            Purpose::Login => login_proof::Purpose::Login,
            Purpose::ClientKey => login_proof::Purpose::ClientKey,
        };
        login_proof::signed_data(&message, key, purpose).ok_or_else(another_question)
    }

    /// Brings the signature.
    /// # Errors
    /// [`NoAnswer`]
    pub async fn prove(&self, signature: Vec<u8>) -> Result<(), NoAnswer> {
        let answer = self.answer(&ToSigner::Prove { signature }).await?;
        if answer == FromSigner::Proved { Ok(()) } else { Err(another_question()) }
    }

    /// The first part of an answer.
    /// # Errors
    /// [`NoAnswer`]
    pub async fn mine(&self, attempt: u32, verb: Verb) -> Result<FromSigner, NoAnswer> {
        self.answer(&ToSigner::Mine { attempt, verb }).await
    }

    /// The next part.
    /// # Errors
    /// [`NoAnswer`]
    pub async fn more(&self) -> Result<FromSigner, NoAnswer> {
        self.answer(&ToSigner::More).await
    }
}

/// An answer that does not fit.
pub fn another_question() -> NoAnswer {
    say("the signer gave an answer to another question");
    NoAnswer(text::SIGNER_AWAY.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_proved_must_be_all_of_one_way() {
        let way = |pam, publickey| Way { pam, publickey };
        let demands = |ways| Demands { ways, makes: vec![] };
        let met = |demands: &Demands| {
            [(false, false), (false, true), (true, false), (true, true)].map(|(p, k)| demands.met_by(p, k))
        };
        assert_eq!(met(&demands(vec![way(true, false)])), [false, false, true, true]);
        assert_eq!(met(&demands(vec![way(false, true)])), [false, true, false, true]);
        assert_eq!(met(&demands(vec![way(true, true)])), [false, false, false, true]);
        assert_eq!(met(&demands(vec![way(true, false), way(false, true)])), [false, true, true, true]);
        assert_eq!(met(&demands(vec![way(false, false)])), [true; 4]);
        assert_eq!(met(&demands(vec![])), [false; 4]);
    }
}
