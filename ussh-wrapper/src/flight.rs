//! One login at a time: of all `ussh` that find no good certificate at the same moment one asks, and the others wait for what becomes of it.
//!
//! What they wait for is flock(2) on a file, one for each agent (or place of files) and list of CAs, whatever is asked of the CA beyond a certificate, in a folder that is the user's alone ([`Home`]). The kernel lets go of it with the process that holds it,
//! however that ends, so nothing is ever left over. Who has come to an end writes it into the file first; who was interrupted or killed writes nothing, and the next in line asks.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::time::{ClockId, clock_gettime};
use ussh_core::digest::sha256;
use ussh_core::escape::escape;
use ussh_os::process::boot_id;

use crate::config::{CaAddress, CaUser};
use crate::guard::{Home, HomeError};
use crate::login::{LoginError, Order, Prompting};

/// Who waits longer than this is told what for.
const UNNOTICED: Duration = Duration::from_secs(1);
/// Who waits longer than this gives up: the question that is waited for is asked in vain by now. (usshca leaves a login open for two minutes unless its configuration says otherwise.)
const LONGEST_WAIT: Duration = Duration::from_secs(600);
/// Most of a reason that is handed on, bytes.
const MAX_REASON: usize = 1024;
/// Most of a record that is read, bytes.
const MAX_RECORD: u64 = 4096;

/// Nanoseconds since the machine has booted, sleep included: all processes have the same, and nobody sets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Moment {
    /// This one.
    pub fn now() -> Self {
        // This clock exists on every Linux since 2.6.39; the beginning shares nothing.
        let now = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default();
        Moment(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX))
    }
}

/// Where those who want a certificate in the same place wait.
#[derive(Debug)]
pub struct Line {
    path: PathBuf,
    want: Want,
}

/// What one asks the CA for, and whether nothing else will do.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Want {
    /// Of the order's words.
    digest: String,
    /// It was asked for on the command line. (The environment's reason is for the CA's row only: a certificate that came for another one is as good.)
    is_exact: bool,
}

impl Want {
    fn of(order: &Order, is_exact: bool) -> Self {
        Want { digest: short_digest(order.words().join("\0").as_bytes()), is_exact }
    }
}

/// 16 hex digits.
fn short_digest(of: &[u8]) -> String {
    sha256(of).iter().take(8).fold(String::new(), |name, byte| name + &format!("{byte:02x}"))
}

/// Whose it was to ask.
#[derive(Debug)]
pub enum Turn {
    /// Ours: nobody else asks meanwhile.
    Ours(Flight),
    /// Somebody else's, who has asked since we began.
    Theirs(Outcome),
}

/// What became of somebody else's login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A certificate is in the agent.
    Came,
    /// None is; why, in one line.
    Failed(String),
    /// None is, since no CA was to be had, or no place for a certificate; why, in one line.
    CaFailed(String),
}

/// The right to ask, until it is dropped.
#[derive(Debug)]
pub struct Flight {
    file: Flock<File>,
    prompting: Prompting,
    want: Want,
}

impl Line {
    /// The one for this agent, these CAs and this user's name there. What is asked of them: `is_exact`, and no other certificate will do.
    pub fn of(home: &Home, agent: &Path, cas: &[CaAddress], user: &CaUser, order: &Order, is_exact: bool) -> Self {
        let mut wanted = agent.as_os_str().as_bytes().to_vec();
        for word in cas.iter().map(ToString::to_string).chain([user.as_str().to_owned()]) {
            wanted.push(0);
            wanted.extend(word.as_bytes());
        }
        let path = home.folder().join(format!("login.{}", short_digest(&wanted)));
        Line { path, want: Want::of(order, is_exact) }
    }

    /// Waits for one's turn. `began`: who has failed or succeeded since then has done it for us. `notice` is called once, after a second.
    /// # Errors
    /// [`LoginError::WaitedInVain`]; the file cannot be had.
    pub fn wait(&self, began: Moment, prompting: Prompting, notice: &dyn Fn()) -> Result<Turn, LoginError> {
        let failed = |source| LoginError::Line(HomeError::Io { path: self.path.clone(), source });
        let mut file = lock(self.open().map_err(failed)?, notice)?.map_err(failed)?;
        let mut text = String::new();
        // What cannot be read or understood says nothing.
        let _ = Read::by_ref(&mut *file).take(MAX_RECORD).read_to_string(&mut text);
        let boot = boot_id().unwrap_or_default();
        let shared =
            Record::parse(&text).filter(|record| record.is_for(&boot, began, Moment::now(), prompting, &self.want));
        Ok(match shared {
            Some(record) => Turn::Theirs(record.outcome),
            None => Turn::Ours(Flight { file, prompting, want: self.want.clone() }),
        })
    }

    fn open(&self) -> io::Result<File> {
        // For this program alone: an `ssh` that inherited it would go on holding the lock.
        let flags = (OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits();
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(flags);
        options.open(&self.path)
    }
}

/// `Err`: nobody let go of it in time.
fn lock(file: File, notice: &dyn Fn()) -> Result<io::Result<Flock<File>>, LoginError> {
    let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(file) => return Ok(Ok(file)),
        Err((file, Errno::EWOULDBLOCK)) => file,
        Err((_, errno)) => return Ok(Err(errno.into())),
    };
    let (sender, receiver) = channel();
    let waiter = thread::spawn(move || drop(sender.send(lock_in_turn(file))));
    let locked = receiver.recv_timeout(UNNOTICED).or_else(|_| {
        notice();
        receiver.recv_timeout(LONGEST_WAIT)
    });
    match locked {
        Ok(locked) => {
            // Whoever is started next is started by a process with one thread.
            let _ = waiter.join();
            Ok(locked)
        }
        Err(RecvTimeoutError::Timeout) => Err(LoginError::WaitedInVain(LONGEST_WAIT)),
        Err(RecvTimeoutError::Disconnected) => Ok(Err(io::ErrorKind::Other.into())),
    }
}

fn lock_in_turn(mut file: File) -> io::Result<Flock<File>> {
    loop {
        match Flock::lock(file, FlockArg::LockExclusive) {
            Ok(locked) => return Ok(locked),
            Err((again, Errno::EINTR)) => file = again,
            Err((_, errno)) => return Err(errno.into()),
        }
    }
}

impl Flight {
    /// Tells those who wait what became of it, and lets the next one go. Without this they know nothing, and ask for themselves.
    pub fn land<T>(mut self, result: &Result<T, LoginError>) {
        let outcome = match result {
            Ok(_) => Outcome::Came,
            Err(error) if error.concerns_all() => {
                let reason = escape(error.to_string().as_bytes(), MAX_REASON);
                if error.is_ca_failure() || error.is_no_place() {
                    Outcome::CaFailed(reason)
                } else {
                    Outcome::Failed(reason)
                }
            }
            Err(_) => return,
        };
        let Ok(boot) = boot_id() else { return };
        let (asked, order) = (self.prompting.can_ask(), self.want.digest.clone());
        let is_about_order = matches!(result, Err(LoginError::NotGiven { .. }));
        let record = Record { boot, ended: Moment::now(), asked, order, is_about_order, outcome };
        // A full disk costs those who wait a question each.
        let file = &mut *self.file;
        let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(record.to_text().as_bytes()));
    }
}

/// What stands in the file: who came to an end last.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Record {
    /// The machine's boot: moments of different ones have nothing in common.
    boot: String,
    ended: Moment,
    /// Whether somebody could be asked.
    asked: bool,
    /// What was asked for ([`Want::digest`]).
    order: String,
    /// It failed for that, perhaps.
    is_about_order: bool,
    outcome: Outcome,
}

impl Record {
    /// Whether it ended while we were there; and where nobody could be asked, or something else was asked for, whether it would be the same with us.
    fn is_for(&self, boot: &str, began: Moment, now: Moment, prompting: Prompting, want: &Want) -> bool {
        let as_able = self.asked || !prompting.can_ask();
        let is_the_same = self.order == want.digest;
        let as_wanted = match &self.outcome {
            Outcome::Came => is_the_same || !want.is_exact,
            Outcome::Failed(_) => is_the_same || !(want.is_exact || self.is_about_order),
            Outcome::CaFailed(_) => true,
        };
        let has_ended = self.boot == boot && (began..=now).contains(&self.ended);
        has_ended && (as_able || self.outcome == Outcome::Came) && as_wanted
    }

    fn to_text(&self) -> String {
        let (word, reason) = match &self.outcome {
            Outcome::Came => ("came", ""),
            Outcome::Failed(reason) => ("failed", reason.as_str()),
            Outcome::CaFailed(reason) => ("ca-failed", reason.as_str()),
        };
        let asked = if self.asked { "asked" } else { "unasked" };
        let about = if self.is_about_order { "order" } else { "any" };
        format!("{} {} {asked} {} {about} {word} {reason}\n", self.boot, self.ended.0, self.order)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.strip_suffix('\n')?.splitn(7, ' ');
        let (boot, ended) = (words.next()?.to_owned(), Moment(words.next()?.parse().ok()?));
        let asked = match words.next()? {
            "asked" => true,
            "unasked" => false,
            _ => return None,
        };
        let order = words.next()?.to_owned();
        let is_about_order = match words.next()? {
            "order" => true,
            "any" => false,
            _ => return None,
        };
        let outcome = match (words.next()?, words.next()?) {
            ("came", "") => Outcome::Came,
            ("failed", reason) => Outcome::Failed(reason.to_owned()),
            ("ca-failed", reason) => Outcome::CaFailed(reason.to_owned()),
            _ => return None,
        };
        Some(Record { boot, ended, asked, order, is_about_order, outcome })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::{Arc, Barrier};
    use std::time::Instant;

    use super::*;

    const ASKS: Prompting = Prompting::Possible;
    const CANNOT_ASK: Prompting = Prompting::Impossible(crate::login::Missing::Program);

    fn line(folder: &Path) -> Line {
        let home = Home::at(folder.join("ussh"), nix::unistd::getuid().as_raw()).unwrap();
        let ca = CaAddress::try_from("ca".to_owned()).unwrap();
        Line::of(
            &home,
            Path::new("/run/agent"),
            &[ca],
            &CaUser::try_from("alice".to_owned()).unwrap(),
            &Order::default(),
            false,
        )
    }

    fn reason(text: &str) -> Order {
        Order::default().with_reason(text.as_ref()).unwrap()
    }

    fn unreachable() -> Result<(), LoginError> {
        Err(LoginError::NoneAnswers("ca: not there".into()))
    }

    fn turn(line: &Line, began: Moment, prompting: Prompting) -> Turn {
        line.wait(began, prompting, &|| ()).unwrap()
    }

    fn ours(line: &Line, began: Moment) -> Flight {
        match turn(line, began, ASKS) {
            Turn::Ours(flight) => flight,
            Turn::Theirs(outcome) => panic!("{outcome:?}"),
        }
    }

    #[test]
    fn of_fifty_at_once_one_asks_and_all_have_its_outcome() {
        for result in [Ok(()), unreachable()] {
            let (folder, began) = (tempfile::tempdir().unwrap(), Moment::now());
            let (line, asked) = (Arc::new(line(folder.path())), AtomicU32::new(0));
            let all = Barrier::new(50);
            let outcomes: Vec<Option<Outcome>> = thread::scope(|scope| {
                let each = || {
                    all.wait();
                    match turn(&line, began, ASKS) {
                        Turn::Ours(flight) => {
                            asked.fetch_add(1, Ordering::SeqCst);
                            flight.land(&result);
                            None
                        }
                        Turn::Theirs(outcome) => Some(outcome),
                    }
                };
                let threads: Vec<_> = (0..50).map(|_| scope.spawn(each)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            assert_eq!(asked.load(Ordering::SeqCst), 1);
            let wanted = match result {
                Ok(()) => Outcome::Came,
                Err(_) => Outcome::CaFailed("none of the CAs answers: ca: not there".into()),
            };
            assert_eq!(outcomes.iter().filter(|outcome| **outcome == Some(wanted.clone())).count(), 49);
        }
    }

    #[test]
    fn who_begins_after_a_failure_asks_again() {
        let folder = tempfile::tempdir().unwrap();
        let line = line(folder.path());
        ours(&line, Moment::now()).land(&unreachable());
        assert!(matches!(turn(&line, Moment::now(), ASKS), Turn::Ours(_)));
    }

    #[test]
    fn one_that_was_interrupted_or_let_go_without_a_word_decides_for_nobody() {
        let (folder, began) = (tempfile::tempdir().unwrap(), Moment::now());
        let line = line(folder.path());
        ours(&line, began).land::<()>(&Err(LoginError::Interrupted(2)));
        drop(ours(&line, began));
        assert!(matches!(turn(&line, began, ASKS), Turn::Ours(_)));
    }

    #[test]
    fn a_failure_where_nobody_could_be_asked_is_one_only_for_others_of_that_kind() {
        let (folder, began) = (tempfile::tempdir().unwrap(), Moment::now());
        let line = line(folder.path());
        let Turn::Ours(flight) = turn(&line, began, CANNOT_ASK) else { panic!() };
        flight.land(&unreachable());
        assert!(matches!(turn(&line, began, CANNOT_ASK), Turn::Theirs(Outcome::CaFailed(_))));
        assert!(matches!(turn(&line, began, ASKS), Turn::Ours(_)));
    }

    #[test]
    fn who_waits_for_more_than_a_second_is_told() {
        let (folder, began) = (tempfile::tempdir().unwrap(), Moment::now());
        let line = line(folder.path());
        let flight = ours(&line, began);
        let (told, begun) = (AtomicU32::new(0), Instant::now());
        let notice = || {
            assert!(begun.elapsed() >= UNNOTICED);
            told.fetch_add(1, Ordering::SeqCst);
        };
        thread::scope(|scope| {
            let waiting = scope.spawn(|| line.wait(began, ASKS, &notice).unwrap());
            while told.load(Ordering::SeqCst) == 0 {
                assert!(begun.elapsed() < Duration::from_secs(20));
                thread::sleep(Duration::from_millis(5));
            }
            flight.land(&Ok(()));
            assert!(matches!(waiting.join().unwrap(), Turn::Theirs(Outcome::Came)));
        });
        assert_eq!(told.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_record_of_another_boot_of_the_future_or_torn_says_nothing() {
        let want = Want::of(&Order::default(), false);
        let record = Record {
            boot: "b".into(),
            ended: Moment(50),
            asked: true,
            order: want.digest.clone(),
            is_about_order: false,
            outcome: Outcome::Failed("why not".into()),
        };
        assert_eq!(Record::parse(&record.to_text()), Some(record.clone()));
        for (boot, began, now, wanted) in
            [("b", 40, 60, true), ("b", 50, 50, true), ("c", 40, 60, false), ("b", 51, 60, false), ("b", 40, 49, false)]
        {
            assert_eq!(record.is_for(boot, Moment(began), Moment(now), ASKS, &want), wanted, "{boot} {began} {now}");
        }
        for text in [
            "",
            "b 50 asked o any came",
            "b 50 asked o any came x\n",
            "b 50 maybe o any came \n",
            "b x asked o any came \n",
            "b 5 asked o none came \n",
            "\n",
        ] {
            assert_eq!(Record::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn what_came_for_another_reason_is_as_good_unless_it_was_asked_for_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let at = |order: &Order, is_exact| Line { want: Want::of(order, is_exact), ..line(folder.path()) };
        let (one, other) = (reason("one"), reason("other"));
        let refused = LoginError::NotGiven {
            ca: CaAddress::try_from("ca".to_owned()).unwrap(),
            user: "alice".into(),
            wants_reason: true,
        };
        for (result, order, is_exact, is_theirs) in [
            (Ok(()), &other, false, true),
            (Ok(()), &Order::default(), false, true),
            (Ok(()), &other, true, false),
            (Ok(()), &one, true, true),
            (Err(refused), &other, false, false),
            (unreachable(), &other, true, true),
        ] {
            let began = Moment::now();
            ours(&at(&one, true), began).land(&result);
            let turn = turn(&at(order, is_exact), began, ASKS);
            assert_eq!(matches!(turn, Turn::Theirs(_)), is_theirs, "{result:?} {order:?} {is_exact}");
        }
    }

    #[test]
    fn each_agent_ca_and_name_has_a_line_of_its_own_whatever_the_order_and_no_link_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path().join("ussh"), nix::unistd::getuid().as_raw()).unwrap();
        let of_order = |agent: &str, ca: &str, user: &str, order: &Order| {
            let ca = CaAddress::try_from(ca.to_owned()).unwrap();
            Line::of(&home, Path::new(agent), &[ca], &CaUser::try_from(user.to_owned()).unwrap(), order, true).path
        };
        let of = |agent: &str, ca: &str, user: &str| of_order(agent, ca, user, &Order::default());
        let one = of("/a", "ca", "alice");
        assert_eq!(one, of("/a", "ca", "alice"));
        for other in
            [of("/b", "ca", "alice"), of("/a", "cb", "alice"), of("/a", "ca:23", "alice"), of("/a", "ca", "bob")]
        {
            assert_ne!(one, other);
        }
        // What one puts there the next would take away again.
        assert_eq!(one, of_order("/a", "ca", "alice", &reason("what for")));
        std::os::unix::fs::symlink("/etc/passwd", &one).unwrap();
        assert!(matches!(
            Line { path: one, want: Want::of(&Order::default(), false) }.wait(Moment::now(), ASKS, &|| ()),
            Err(LoginError::Line(_))
        ));
    }
}
