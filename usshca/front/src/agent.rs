//! The forwarded agent, over an SSH channel: one question at a time, each with its own patience.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use ussh_core::agent::{
    AgentError, Constraints, Identity, MAX_FRAME, frame, parse_identities, parse_signature, parse_success,
};
use ussh_core::certificate::Certificate;
use ussh_core::keys::PrivateKey;
use zeroize::Zeroizing;

/// How long an agent may take over a question that concerns no person.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long it may take when a person is asked.
const TOUCH_PATIENCE: Duration = Duration::from_secs(60);

/// An agent at the other end of a channel.
pub struct Agent<S> {
    stream: S,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Agent<S> {
    /// Over an open channel.
    pub fn new(stream: S) -> Self {
        Agent { stream }
    }

    /// What it holds.
    /// # Errors
    /// [`AgentError`]
    pub async fn list(&mut self) -> Result<Vec<Identity>, AgentError> {
        parse_identities(&self.ask(&frame::list(), PATIENCE).await?)
    }

    /// Adds a key with its certificate.
    /// # Errors
    /// [`AgentError`]
    pub async fn add(
        &mut self,
        certificate: &Certificate,
        key: &PrivateKey,
        comment: &str,
        constraints: &Constraints,
    ) -> Result<(), AgentError> {
        let request = frame::add_certificate(certificate, key, comment, constraints).map_err(AgentError::Key)?;
        parse_success(&self.ask(&request, TOUCH_PATIENCE).await?)
    }

    /// Has an identity sign.
    /// # Errors
    /// [`AgentError`]
    pub async fn sign(&mut self, blob: &[u8], data: &[u8], flags: u32) -> Result<Vec<u8>, AgentError> {
        parse_signature(&self.ask(&frame::sign(blob, data, flags), TOUCH_PATIENCE).await?)
    }

    /// Removes an identity.
    /// # Errors
    /// [`AgentError`]
    pub async fn remove(&mut self, blob: &[u8]) -> Result<(), AgentError> {
        parse_success(&self.ask(&frame::remove(blob), PATIENCE).await?)
    }

    async fn ask(&mut self, request: &[u8], patience: Duration) -> Result<Zeroizing<Vec<u8>>, AgentError> {
        timeout(patience, self.round_trip(request)).await.map_err(|_| AgentError::Timeout)?
    }

    async fn round_trip(&mut self, request: &[u8]) -> Result<Zeroizing<Vec<u8>>, AgentError> {
        let io = |e: std::io::Error| AgentError::Io(e.to_string());
        self.stream.write_all(request).await.map_err(io)?;
        let length = usize::try_from(self.stream.read_u32().await.map_err(io)?).unwrap_or(usize::MAX);
        if length > MAX_FRAME {
            return Err(AgentError::TooLarge);
        }
        let mut payload = Zeroizing::new(vec![0; length]);
        self.stream.read_exact(&mut payload).await.map_err(io)?;
        Ok(payload)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    async fn list_from(answer: &[u8]) -> Result<Vec<Identity>, AgentError> {
        let (ours, mut theirs) = tokio::io::duplex(1 << 20);
        theirs.write_all(answer).await.unwrap();
        let mut agent = Agent::new(ours);
        let result = agent.list().await;
        let mut asked = [0; 5];
        theirs.read_exact(&mut asked).await.unwrap();
        assert_eq!(asked, [0, 0, 0, 1, 11]);
        result
    }

    #[tokio::test]
    async fn an_empty_agent_is_an_agent() {
        assert_eq!(list_from(&[0, 0, 0, 5, 12, 0, 0, 0, 0]).await, Ok(vec![]));
    }

    #[tokio::test]
    async fn a_failure_is_a_refusal() {
        assert_eq!(list_from(&[0, 0, 0, 1, 5]).await, Err(AgentError::Refused));
    }

    #[tokio::test]
    async fn a_length_beyond_the_cap_allocates_nothing() {
        assert_eq!(list_from(&[0xff, 0xff, 0xff, 0xff, 12]).await, Err(AgentError::TooLarge));
        assert_eq!(list_from(&[0, 4, 0, 1, 12]).await, Err(AgentError::TooLarge));
    }

    #[tokio::test]
    async fn an_agent_that_goes_away_in_the_middle_is_an_error() {
        let (ours, mut theirs) = tokio::io::duplex(1 << 10);
        theirs.write_all(&[0, 0, 0, 5, 12]).await.unwrap();
        theirs.shutdown().await.unwrap();
        assert!(matches!(Agent::new(ours).list().await, Err(AgentError::Io(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_says_nothing_runs_out_of_time() {
        let (ours, _theirs) = tokio::io::duplex(1 << 10);
        assert_eq!(Agent::new(ours).list().await, Err(AgentError::Timeout));
    }
}
