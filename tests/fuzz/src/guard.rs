//! The guarded agent, both sides: a CA that has been taken over, and root on a host. Behind it stands an agent that does whatever it is asked and tells what that was.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock};

use ussh_core::agent::{Identity, Request, frame};
use ussh_core::certificate::Certificate;
use ussh_core::challenge::is_challenge;
use ussh_core::clock::{Clock, UnixTime};
use ussh_wrapper::certificates::Judge;
use ussh_wrapper::config::{CaUser, Patterns};
use ussh_wrapper::guard::journal::Journal;
use ussh_wrapper::guard::{CaSide, HostSide, Rules, Talk};
use ussh_wrapper::user_agent::UserAgent;

use crate::fixtures;

/// When all of this happens: the fixtures' certificates are valid.
const NOW: UnixTime = UnixTime(1_800_000_000);
/// A blob in a request stands for alice's certificate if it is this: a fuzzer would not find it.
const STANDS_FOR_CERTIFICATE: &[u8] = b"\0\0\0\x04CERT";

struct At;

impl Clock for At {
    fn now(&self) -> UnixTime {
        NOW
    }
}

/// The agent behind, on a socket of this process's own, and the requests that have come to it.
struct Behind {
    socket: PathBuf,
    came: Mutex<Vec<Vec<u8>>>,
}

fn behind() -> &'static Behind {
    static VALUE: OnceLock<Behind> = OnceLock::new();
    VALUE.get_or_init(|| {
        let socket = PathBuf::from(format!("/tmp/ussh-fuzz-agent.{}", std::process::id()));
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || obey(stream));
            }
        });
        Behind { socket, came: Mutex::default() }
    })
}

fn obey(mut stream: UnixStream) {
    loop {
        let mut length = [0; 4];
        if stream.read_exact(&mut length).is_err() {
            return;
        }
        let mut payload = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut payload).unwrap();
        behind().came.lock().unwrap().push(payload.clone());
        let answer = match Request::parse(&payload) {
            Request::List => {
                let blob = fixtures::certificate().blob().to_vec();
                let plain = fixtures::keys().iter().map(|key| key.to_blob());
                let all = [blob].into_iter().chain(plain);
                frame::identities(&all.map(|blob| Identity { blob, comment: b"x".to_vec() }).collect::<Vec<_>>())
            }
            Request::Sign { .. } => frame::signature(b"signature"),
            Request::AddCertificate { .. } | Request::Remove { .. } => frame::success(),
            Request::Challenge { .. } | Request::Other(_) => frame::success(),
        };
        if stream.write_all(&answer).is_err() {
            return;
        }
    }
}

fn judge() -> Judge {
    Judge::new(fixtures::cas().clone(), CaUser::try_from("alice".to_owned()).unwrap(), None)
}

/// Several requests: each behind its length in two bytes. What stands for the certificate is replaced by it.
fn requests(mut data: &[u8]) -> Vec<Vec<u8>> {
    let mut certificate = Vec::new();
    ussh_core::wire::WireWrite::put_string(&mut certificate, fixtures::certificate().blob());
    let mut all = Vec::new();
    while let Some((length, rest)) = data.split_first_chunk::<2>() {
        let (one, rest) = rest.split_at(usize::from(u16::from_be_bytes(*length)).min(rest.len()));
        data = rest;
        let mut payload = Vec::new();
        let mut left = one;
        while let Some(at) = left.windows(STANDS_FOR_CERTIFICATE.len()).position(|w| w == STANDS_FOR_CERTIFICATE) {
            payload.extend_from_slice(&left[..at]);
            payload.extend_from_slice(&certificate);
            left = &left[at + STANDS_FOR_CERTIFICATE.len()..];
        }
        payload.extend_from_slice(left);
        if !payload.is_empty() && all.len() < 32 {
            all.push(payload);
        }
    }
    all
}

/// What the agent behind is asked by these; nobody else is on it meanwhile.
fn asked_behind(talk: impl FnOnce()) -> Vec<Request> {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let came = || std::mem::take(&mut *behind().came.lock().unwrap());
    came();
    talk();
    came().iter().map(|payload| Request::parse(payload)).collect()
}

/// Root on a host: whatever is asked, the agent behind is asked only to list, and to sign challenges with a certificate of alice's.
pub fn guard_host(data: &[u8]) {
    let asked = asked_behind(|| {
        let rules = Rules { judge: judge(), confirm: Patterns::default() };
        let journal = Journal::at(PathBuf::from("/dev/null/no-log"));
        let side = HostSide::new(UserAgent::at(behind().socket.clone()), rules, Box::new(At), journal);
        let mut talk = Talk::new(&side, 1, None);
        for payload in requests(data) {
            let answer = talk.answer(&payload);
            let kind = answer[4];
            assert!(matches!(kind, 5 | 12 | 14 | 28 | 29), "{kind}");
            assert!(kind != 12 || payload == [11], "a listing is the answer to a listing");
            assert!((kind != 14 || payload[0] == 13) && (!matches!(kind, 28 | 29) || payload[0] == 27), "{payload:?}");
        }
    });
    for request in asked {
        match request {
            Request::List => {}
            Request::Sign { blob, data, flags } => {
                assert!(is_challenge(&data), "a challenge and nothing else: {data:?}");
                assert!(matches!(flags, 0 | 2 | 4));
                let certificate = Certificate::parse(&blob).unwrap();
                assert!(judge().verify(&certificate, NOW).is_ok());
            }
            other @ (Request::AddCertificate { .. }
            | Request::Remove { .. }
            | Request::Challenge { .. }
            | Request::Other(_)) => panic!("{other:?}"),
        }
    }
}

/// A CA: whatever it asks, the agent behind is asked only to list, to add a certificate of alice's that ends in time, and to remove what was added.
pub fn guard_ca(data: &[u8]) {
    let mut added = Vec::new();
    let asked = asked_behind(|| {
        let mut side = CaSide::new(UserAgent::at(behind().socket.clone()), judge(), Box::new(At));
        for payload in requests(data) {
            let answer = side.answer(&payload);
            assert!(matches!(answer[4], 5 | 6 | 12), "{answer:?}");
            added.extend(side.added().iter().map(|identity| identity.blob.clone()));
        }
        assert!(side.added().len() <= 16);
    });
    for request in asked {
        match request {
            Request::List => {}
            Request::AddCertificate { certificate_blob, constraints, .. } => {
                let certificate = Certificate::parse(&certificate_blob).unwrap();
                assert!(judge().verify(&certificate, NOW).is_ok());
                let left = certificate.valid_before().0 - NOW.0;
                assert!(constraints.lifetime_seconds.is_some_and(|seconds| u64::from(seconds) <= left));
            }
            Request::Remove { blob } => assert!(added.contains(&blob), "not what it had not added"),
            other @ (Request::Sign { .. } | Request::Challenge { .. } | Request::Other(_)) => panic!("{other:?}"),
        }
    }
}
