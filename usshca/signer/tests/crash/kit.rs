//! A signer under some other program (strace, unshare), and fronts that ask it.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Child;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ussh_core::certificate::Certificate;
use ussh_core::keys::PrivateKey;
use ussh_os::process::{self, ChildSetup};
use ussh_os::seqpacket::SeqPacket;
use usshca_ipc::admin::{Entry, Reply, Request};
use usshca_ipc::channel::{Channel, ChannelError, encode};
use usshca_ipc::front::{Delivery, FromSigner, ToSigner, Wish};
use usshca_ipc::signer::{Control, FromSignerControl, KeySetup, PolicyText, SignerSetup};
use usshca_ipc::worker::{Spoken, Statement, StatementReply};

/// The signer's program.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_usshca-signer");
const POLICY: &str = "[[rule]]\nname=\"all\"\nvalidity_seconds=600\nprincipals=[\"%u\"]\n";
const PATIENCE: Option<Duration> = Some(Duration::from_secs(60));
/// How many ask at once.
const FRONTS: u64 = 4;

/// A signer, and whatever runs it.
pub struct Signer {
    pub child: Child,
    control: Channel<Control, FromSignerControl>,
}

/// Certificates that left the CA, by serial.
pub type Left = BTreeMap<u64, Vec<u8>>;

/// A folder with two CA keys and an inventory.
pub fn state() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
    for name in ["user_ca", "host_ca"] {
        let path = dir.path().join(name);
        fs::write(&path, PrivateKey::generate_ed25519().unwrap().to_openssh(name).unwrap().as_bytes()).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    }
    Signer::started(dir.path(), &[PROGRAM], true).end();
    dir
}

impl Signer {
    /// Started, not necessarily ready.
    pub fn start(state: &Path, argv: &[&str], creates: bool) -> Self {
        let (ours, theirs) = SeqPacket::pair().unwrap();
        let uid = process::effective_uid();
        let setup = SignerSetup {
            state: state.to_owned(),
            policy: vec![PolicyText { name: "policy.toml".into(), folder: String::new(), text: POLICY.into() }],
            admin_uids: vec![uid],
            worker_uid: uid,
            listens: false,
            creates,
            only_policy: false,
            keys: KeySetup::default(),
            side_job: None,
        };
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&encode(&setup).unwrap()).unwrap();
        file.rewind().unwrap();
        let descriptors = vec![theirs.into_fd(), file.into()];
        let setup = ChildSetup { descriptors, die_with_parent: true, ..ChildSetup::default() };
        let path = [("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")];
        let child = process::spawn(Path::new(argv[0]), &argv[1..], &path, setup).unwrap();
        Signer { child, control: Channel::new(ours) }
    }

    /// Ready, or the test fails with what it says instead.
    pub fn started(state: &Path, argv: &[&str], creates: bool) -> Self {
        let signer = Signer::start(state, argv, creates);
        assert_eq!(signer.control.receive(PATIENCE).unwrap().message, FromSignerControl::Ready);
        signer
    }

    /// As the supervisor starts it, on what a crash left: without anybody's help.
    pub fn again(state: &Path) -> Self {
        Signer::started(state, &[PROGRAM], false)
    }

    /// Whether it became ready before it was killed.
    pub fn is_ready(&self) -> bool {
        self.control.receive(PATIENCE).is_ok_and(|received| received.message == FromSignerControl::Ready)
    }

    /// Ends as with its supervisor.
    pub fn end(mut self) {
        drop(self.control);
        assert!(self.child.wait().unwrap().success());
    }

    fn log_in(&self, connection: u64, attempt: u32) -> Result<(), ChannelError> {
        let (worker, theirs) = SeqPacket::pair()?;
        theirs.attest_sender()?;
        let worker_pid = i32::try_from(std::process::id()).unwrap();
        self.control.send_with(
            &Control::NewWorker { connection, attempt, worker_pid, user: "somebody".to_owned(), patience_seconds: 60 },
            &[theirs.as_fd()],
        )?;
        drop(theirs);
        let worker = Channel::<Spoken, StatementReply>::new(worker);
        worker.send(&Spoken::Passed(Statement { user: format!("user{connection}"), uid: 1000, groups: vec![] }))?;
        assert_eq!(worker.receive(PATIENCE)?.message, StatementReply::Kept);
        Ok(())
    }

    /// What it says of its inventory when it is asked whether it hears; `None`: nothing new.
    pub fn inventory_trouble(&self) -> Option<Option<String>> {
        self.control.send(&Control::Hears).unwrap();
        let mut said = None;
        loop {
            match self.control.receive(PATIENCE).unwrap().message {
                FromSignerControl::Hears => return said,
                FromSignerControl::InventoryTrouble(trouble) => said = Some(trouble),
                _ => {}
            }
        }
    }

    /// Four fronts, each with a certificate a round. What they were given is put into `left` as it comes, and what they were told instead into `refused`.
    /// # Errors
    /// The signer is gone.
    pub fn issue(&self, rounds: u32, left: &mut Left, refused: &mut Vec<String>) -> Result<(), ChannelError> {
        // Of connections as of serials: none twice.
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let first = NEXT.fetch_add(FRONTS, Ordering::Relaxed);
        let mut fronts = Vec::new();
        for connection in first..first + FRONTS {
            let (front, theirs) = SeqPacket::pair()?;
            let peer = "192.0.2.1:1".parse().unwrap();
            self.control.send_with(&Control::NewFront { connection, peer }, &[theirs.as_fd()])?;
            fronts.push(Channel::<ToSigner, FromSigner>::new(front));
        }
        let public_key = PrivateKey::generate_ed25519().unwrap().public_key().to_blob();
        let mut result = Ok(());
        for attempt in 1..=rounds {
            for (front, connection) in fronts.iter().zip(first..) {
                self.log_in(connection, attempt)?;
                let public_key = public_key.clone();
                front.send(&ToSigner::Issue { attempt, public_key, wish: Wish::default() })?;
            }
            let mut serials = Vec::new();
            for front in &fronts {
                // The others may have had theirs before the end.
                match front.receive(PATIENCE).map(|received| received.message) {
                    Ok(FromSigner::Issued { certificate, .. }) => {
                        let serial = Certificate::parse(&certificate).unwrap().serial();
                        assert!(left.insert(serial, certificate).is_none(), "serial {serial} twice");
                        serials.push((front, serial));
                    }
                    Ok(FromSigner::Refused { message }) => refused.push(message),
                    Ok(other) => panic!("{other:?}"),
                    Err(e) => result = Err(e),
                }
            }
            // The last one ends without a word, as a front that was killed.
            for (front, serial) in serials.into_iter().take(3) {
                front.send(&ToSigner::Outcome { serial, delivery: Delivery::Delivered })?;
                match front.receive(PATIENCE)?.message {
                    FromSigner::Noted => {}
                    FromSigner::Refused { message } => refused.push(message),
                    other => panic!("{other:?}"),
                }
            }
            result?;
            result = Ok(());
        }
        result
    }

    fn ask(admin: &Channel<Request, Reply>, request: &Request) -> Reply {
        admin.send(request).unwrap();
        admin.receive(PATIENCE).unwrap().message
    }

    /// Every row.
    pub fn rows(&self) -> Vec<Entry> {
        let (ours, theirs) = SeqPacket::pair().unwrap();
        self.control.send_with(&Control::NewAdmin, &[theirs.as_fd()]).unwrap();
        let admin = Channel::new(ours);
        let (mut all, mut before): (Vec<Entry>, u64) = (Vec::new(), u64::MAX);
        loop {
            match Self::ask(&admin, &Request::List { before, limit: 500 }) {
                Reply::List(rows) if rows.is_empty() => return all,
                Reply::List(rows) => {
                    before = rows.last().unwrap().row;
                    all.extend(rows);
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

/// Every certificate that left stands in the inventory, no serial stands there twice, and no older inventory is suspected.
pub fn check(signer: &Signer, left: &Left) {
    let rows = signer.rows();
    let mut outcomes = BTreeMap::new();
    for row in rows.iter().filter(|row| row.serial != 0) {
        assert!(outcomes.insert(row.serial, row.outcome.as_str()).is_none(), "serial {} twice", row.serial);
    }
    for serial in left.keys() {
        let outcome = outcomes.get(serial).unwrap_or_else(|| panic!("serial {serial} left and is not there"));
        assert!(*outcome == "signed" || outcome.contains("delivered"), "serial {serial} left: {outcome}");
    }
    let epochs: std::collections::BTreeSet<u64> = outcomes.keys().map(|serial| serial >> 40).collect();
    assert!(epochs.len() <= 1, "an older inventory was suspected: {epochs:?}");
}
