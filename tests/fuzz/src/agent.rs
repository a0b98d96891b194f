//! What an agent answers.

use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use ussh_core::agent::{Agent, MAX_IDENTITIES, Request, parse_identities, parse_signature, parse_success};
use ussh_core::challenge::ChallengeContext;
use ussh_core::clock::{Clock, UnixTime};
use ussh_core::decision::{Asking, Patience, decide};

use crate::fixtures;

/// One payload, read as every answer and as a request.
pub fn messages(data: &[u8]) {
    if let Ok(identities) = parse_identities(data) {
        assert!(identities.len() <= MAX_IDENTITIES);
        let bytes: usize = identities.iter().map(|one| one.blob.len() + one.comment.len() + 8).sum();
        assert!(bytes <= data.len(), "nothing comes out that did not go in");
    }
    assert!(parse_signature(data).is_err() || data.first() == Some(&14));
    assert!(parse_success(data).is_err() || data == [6]);
    let _ = Request::parse(data);
}

struct At(UnixTime);

impl Clock for At {
    fn now(&self) -> UnixTime {
        self.0
    }
}

/// A whole talk: the agent says these bytes and then nothing more. It cannot have signed a challenge that it has not seen.
pub fn decision(data: &[u8]) {
    let (near, mut far) = UnixStream::pair().unwrap();
    // As much as the socket takes at once: who reads is the one who writes.
    far.set_nonblocking(true).unwrap();
    let _ = far.write(data).and_then(|_| far.shutdown(Shutdown::Write));
    let demand = fixtures::demand();
    let context = ChallengeContext {
        host: "host".into(),
        service: "sudo".into(),
        user: "alice".into(),
        ruser: "alice".into(),
        tty: String::new(),
        now: demand.now,
    };
    let limit = Duration::from_secs(2);
    let patience = Patience { total: limit, touch: limit, overall: Some(limit) };
    let mut agent = Agent::new(near, limit);
    let clock = At(demand.now);
    assert!(decide(&mut agent, &demand, &Asking::new(&context, patience, &clock)).is_err());
}
