//! For tests: keys and certificates made by the real ssh-keygen, and certificates that it refuses to make.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::path::PathBuf;
use std::process::Command;

use sha2::{Digest, Sha256};

use crate::certificate::Certificate;
use crate::keys::{PrivateKey, PublicKey};
use crate::wire::{Reader, WireWrite};

/// The wire form of one value.
pub(crate) fn string(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_string(value);
    out
}

/// A folder in which ssh-keygen works.
pub(crate) struct Keygen {
    dir: tempfile::TempDir,
}

impl Keygen {
    pub(crate) fn new() -> Self {
        Keygen { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, data: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), data).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    pub(crate) fn read_text(&self, name: &str) -> String {
        String::from_utf8(self.read(name)).unwrap()
    }

    /// Runs ssh-keygen; its exit status and what it printed.
    pub(crate) fn try_run(&self, args: &[&str]) -> (bool, String) {
        let mut command = Command::new("ssh-keygen");
        let out = command.args(args).current_dir(self.dir.path()).output().expect("ssh-keygen");
        let mut text = String::from_utf8_lossy(&out.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&out.stderr));
        (out.status.success(), text)
    }

    /// Runs ssh-keygen, which must succeed.
    pub(crate) fn run(&self, args: &[&str]) -> String {
        let (ok, text) = self.try_run(args);
        assert!(ok, "ssh-keygen {args:?}: {text}");
        text
    }

    /// Makes the files `name` and `name.pub`. `kind`: `ed25519`, `rsa-2048`, `ecdsa-384`, …
    pub(crate) fn generate(&self, name: &str, kind: &str) -> PrivateKey {
        let (algorithm, bits) = kind.split_once('-').unwrap_or((kind, ""));
        let mut args = vec!["-q", "-t", algorithm, "-N", "", "-C", name, "-f", name];
        if !bits.is_empty() {
            args.extend(["-b", bits]);
        }
        self.run(&args);
        PrivateKey::from_openssh(&self.read_text(name)).unwrap()
    }

    pub(crate) fn public(&self, name: &str) -> PublicKey {
        PublicKey::from_openssh(&self.read_text(&format!("{name}.pub"))).unwrap()
    }

    /// Certifies `name.pub` with `ca`; leaves `name-cert.pub` behind.
    pub(crate) fn certify(&self, ca: &str, name: &str, args: &[&str]) -> Certificate {
        let public = format!("{name}.pub");
        let all = [&["-q", "-s", ca], args, &[public.as_str()]].concat();
        self.run(&all);
        Certificate::from_openssh(&self.read_text(&format!("{name}-cert.pub"))).unwrap()
    }

    /// Whether ssh-keygen reads this certificate, its CA signature included (sshkey.c `cert_parse`).
    pub(crate) fn reads_certificate(&self, blob: &[u8]) -> bool {
        let name = Reader::new(blob).string().unwrap();
        let name = String::from_utf8(name.to_vec()).unwrap();
        self.write("probe.pub", crate::keys::to_line(&name, blob, ""));
        self.try_run(&["-l", "-f", "probe.pub"]).0
    }
}

/// Every field of a certificate, to be written down as it stands.
#[derive(Clone)]
pub(crate) struct RawCertificate {
    pub(crate) type_name: Vec<u8>,
    pub(crate) key_fields: Vec<u8>,
    pub(crate) serial: u64,
    pub(crate) kind: u32,
    pub(crate) key_id: Vec<u8>,
    pub(crate) principals: Vec<Vec<u8>>,
    pub(crate) valid_after: u64,
    pub(crate) valid_before: u64,
    pub(crate) critical_options: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) extensions: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) reserved: Vec<u8>,
    /// Instead of the signing key's.
    pub(crate) ca_blob: Option<Vec<u8>>,
}

/// The middle of [`RawCertificate`]'s validity, 1000..2000.
pub(crate) const NOW: u64 = 1500;

impl RawCertificate {
    /// A good one for `key`: user alice, valid from 1000 to 2000, serial 7.
    pub(crate) fn new(key: &PublicKey) -> Self {
        RawCertificate {
            type_name: key.key_type().certificate_name().as_bytes().to_vec(),
            key_fields: key.fields().to_vec(),
            serial: 7,
            kind: 1,
            key_id: b"alice".to_vec(),
            principals: vec![b"alice".to_vec()],
            valid_after: 1000,
            valid_before: 2000,
            critical_options: Vec::new(),
            extensions: vec![(b"permit-pty".to_vec(), Vec::new())],
            reserved: Vec::new(),
            ca_blob: None,
        }
    }

    pub(crate) fn critical(mut self, name: &[u8], data: &[u8]) -> Self {
        self.critical_options.push((name.to_vec(), data.to_vec()));
        self
    }

    pub(crate) fn extension(mut self, name: &[u8], data: &[u8]) -> Self {
        self.extensions.push((name.to_vec(), data.to_vec()));
        self
    }

    pub(crate) fn sign(&self, ca: &PrivateKey) -> Vec<u8> {
        self.sign_with(&ca.public_key(), |message| ca.sign(message).unwrap())
    }

    pub(crate) fn sign_with(&self, ca: &PublicKey, sign: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
        let options = |list: &[(Vec<u8>, Vec<u8>)]| {
            let pairs = list.iter().flat_map(|(name, data)| [name, data]);
            pairs.flat_map(|value| string(value)).collect::<Vec<u8>>()
        };
        let mut out = Vec::new();
        out.put_string(&self.type_name);
        out.put_string(&[7; 32]);
        out.extend_from_slice(&self.key_fields);
        out.put_u64(self.serial);
        out.put_u32(self.kind);
        out.put_string(&self.key_id);
        out.put_string(&self.principals.iter().flat_map(|p| string(p)).collect::<Vec<u8>>());
        out.put_u64(self.valid_after);
        out.put_u64(self.valid_before);
        out.put_string(&options(&self.critical_options));
        out.put_string(&options(&self.extensions));
        out.put_string(&self.reserved);
        out.put_string(self.ca_blob.as_deref().unwrap_or(ca.blob()));
        let signature = sign(&out);
        out.put_string(&signature);
        out
    }
}

/// A FIDO key without the hardware: a plain Ed25519 or P-256 key behind it.
pub(crate) struct SoftFido {
    inner: PrivateKey,
    pub(crate) public: PublicKey,
}

/// PROTOCOL.u2f flags: touched; touched and user verified.
pub(crate) const TOUCHED: u8 = 1;
pub(crate) const VERIFIED: u8 = 5;

impl SoftFido {
    pub(crate) fn new(inner: PrivateKey) -> Self {
        let plain = inner.public_key();
        let name: &[u8] = match plain.type_name() {
            "ssh-ed25519" => b"sk-ssh-ed25519@openssh.com",
            "ecdsa-sha2-nistp256" => b"sk-ecdsa-sha2-nistp256@openssh.com",
            other => panic!("{other}"),
        };
        let blob = [&string(name), plain.fields(), &string(b"ssh:")].concat();
        SoftFido { inner, public: PublicKey::from_blob(&blob).unwrap() }
    }

    /// In wire form, as a security key would sign (PROTOCOL.u2f).
    pub(crate) fn sign(&self, message: &[u8], flags: u8) -> Vec<u8> {
        let tail = [&[flags][..], &9_u32.to_be_bytes()].concat();
        let signed = [&Sha256::digest(b"ssh:")[..], &tail, &Sha256::digest(message)[..]].concat();
        let plain = self.inner.sign(&signed).unwrap();
        let mut reader = Reader::new(&plain);
        reader.string().unwrap();
        let data = reader.string().unwrap();
        let name = string(self.public.type_name().as_bytes());
        [name, string(data), tail].concat()
    }
}
