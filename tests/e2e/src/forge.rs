//! Certificates that the CA itself would not issue, signed with the CA's key by root on the CA: what a test needs, and what nobody else can do.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ussh_lab::{Host, LabError, wait_until};

use crate::agent::PersonAgent;
use crate::world::{CA_DIR, World};

/// Where they are made on the CA.
const FOLDER: &str = "/srv/forged";

/// What is to be forged: a user certificate like those that policy gives, unless it is told otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forgery {
    key_id: String,
    principals: Vec<String>,
    validity: String,
    serial: u64,
    options: Vec<String>,
    is_host: bool,
    ca_key: String,
}

impl Forgery {
    /// Key ID and principal are this account's, validity is the coming hour, and the serial is like no other's.
    pub fn of(user: &str) -> Self {
        static SERIALS: AtomicU64 = AtomicU64::new(4_711_000_000);
        Forgery {
            key_id: user.to_owned(),
            principals: vec![user.to_owned()],
            validity: "-5m:+1h".to_owned(),
            serial: SERIALS.fetch_add(1, Ordering::Relaxed),
            options: Vec::new(),
            is_host: false,
            ca_key: format!("{CA_DIR}/state/user_ca"),
        }
    }

    /// Its serial.
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// Another key ID.
    #[must_use]
    pub fn key_id(mut self, key_id: &str) -> Self {
        key_id.clone_into(&mut self.key_id);
        self
    }

    /// These principals, or none.
    #[must_use]
    pub fn principals(mut self, principals: &[&str]) -> Self {
        self.principals = principals.iter().map(|&principal| principal.to_owned()).collect();
        self
    }

    /// As `ssh-keygen -V` takes it: `-5m:+1h`.
    #[must_use]
    pub fn validity(mut self, validity: &str) -> Self {
        validity.clone_into(&mut self.validity);
        self
    }

    /// One more `ssh-keygen -O`: `force-command=/bin/true`.
    #[must_use]
    pub fn option(mut self, option: &str) -> Self {
        self.options.push(option.to_owned());
        self
    }

    /// A host certificate.
    #[must_use]
    pub fn host(mut self) -> Self {
        self.is_host = true;
        self
    }

    /// Signed with this key on the CA's host, which is made when missing.
    #[must_use]
    pub fn signed_by(mut self, ca_key: &str) -> Self {
        ca_key.clone_into(&mut self.ca_key);
        self
    }

    /// As a script that leaves `k`, `k.pub` and `k-cert.pub` in `folder`.
    fn script(&self, folder: &str) -> String {
        let Forgery { key_id, validity, serial, ca_key, .. } = self;
        let mut sign = vec![format!("-q -s {ca_key} -I '{key_id}' -V {validity} -z {serial}")];
        if !self.principals.is_empty() {
            sign.push(format!("-n '{}'", self.principals.join(",")));
        }
        if self.is_host {
            sign.push("-h".to_owned());
        }
        sign.extend(self.options.iter().map(|option| format!("-O '{option}'")));
        format!(
            "mkdir -p {folder} && cd {folder}\n\
             test -f {ca_key} || flock {FOLDER} sh -c \"test -f {ca_key} || ssh-keygen -q -t ed25519 -N '' -f {ca_key}\"\n\
             ssh-keygen -q -t ed25519 -N '' -C forged-{serial} -f k\n\
             ssh-keygen {} k.pub",
            sign.join(" ")
        )
    }
}

/// A key pair and a certificate for it, in OpenSSH's files.
#[derive(Clone, Debug)]
pub struct Forged {
    /// Of the certificate.
    pub serial: u64,
    private: Vec<u8>,
    public: Vec<u8>,
    certificate: Vec<u8>,
}

impl World {
    /// Makes a key pair and a certificate.
    ///
    /// # Errors
    /// ssh-keygen would not.
    pub fn forge(&self, forgery: &Forgery) -> Result<Forged, LabError> {
        let ca = self.host("ca");
        let folder = format!("{FOLDER}/{}", forgery.serial);
        ca.script(&forgery.script(&folder))?;
        let read = |name: &str| ca.read_bytes(&format!("{folder}/{name}"));
        Ok(Forged {
            serial: forgery.serial,
            private: read("k")?,
            public: read("k.pub")?,
            certificate: read("k-cert.pub")?,
        })
    }
}

impl Forged {
    /// The plain public key, for authorized_keys.
    pub fn public(&self) -> &[u8] {
        &self.public
    }

    /// The certificate, one line as in OpenSSH's files.
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// Private key, public key and certificate as they are called beside a private key of this name.
    pub fn files(&self, name: &str) -> [(String, &[u8]); 3] {
        [
            (name.to_owned(), &self.private),
            (format!("{name}.pub"), &self.public),
            (format!("{name}-cert.pub"), &self.certificate),
        ]
    }

    /// Puts it on the laptop as `~/NAME`, `~/NAME.pub` and `~/NAME-cert.pub` of a person.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write(&self, world: &World, user: &str, name: &str) -> Result<(), LabError> {
        let laptop = world.host("laptop");
        let path = format!("/home/{user}/{name}");
        laptop.write_file_as(user, &path, 0o600, &self.private)?;
        laptop.write_file_as(user, &format!("{path}.pub"), 0o600, &self.public)?;
        laptop.write_file_as(user, &format!("{path}-cert.pub"), 0o600, &self.certificate)
    }

    /// Puts the certificate with its key into an agent, for as long as the agent lives.
    ///
    /// # Errors
    /// ssh-add would not.
    pub fn add_to(&self, agent: &PersonAgent<'_>) -> Result<(), LabError> {
        self.add(agent, "ssh-add -q $f && ssh-add -q -d $f.plain")
    }

    /// As [`Forged::add_to`]; the agent is to ask before each use.
    ///
    /// # Errors
    /// ssh-add would not.
    pub fn add_confirmed_to(&self, agent: &PersonAgent<'_>) -> Result<(), LabError> {
        self.add(agent, "ssh-add -q -c $f && ssh-add -q -d $f.plain")
    }

    /// Puts the key into an agent, without the certificate.
    ///
    /// # Errors
    /// ssh-add would not.
    pub fn add_plain_to(&self, agent: &PersonAgent<'_>) -> Result<(), LabError> {
        self.add(agent, "rm $f-cert.pub && ssh-add -q $f")
    }

    /// Starts an ssh-agent of a host's own user that holds the certificate with its key, and nothing else.
    ///
    /// # Errors
    /// It does not come up, or ssh-add would not.
    pub fn serve_at(&self, host: &Host, user: &str, socket: &str) -> Result<(), LabError> {
        host.command(["ssh-agent", "-D", "-a", socket]).user(user).service(socket)?;
        wait_until(Duration::from_secs(20), "the agent's socket", || host.exists(socket))?;
        let file = format!("{socket}.key");
        for (name, mode, content) in [("", 0o600, &self.private), ("-cert.pub", 0o644, &self.certificate)] {
            host.write_file_as(user, &format!("{file}{name}"), mode, content)?;
        }
        host.write_file_as(user, &format!("{file}.plain.pub"), 0o644, &self.public)?;
        let add = "ssh-add -q $f && ssh-add -q -d $f.plain && rm $f*";
        host.command(["sh", "-c", add]).user(user).env("SSH_AUTH_SOCK", socket).env("f", &file).run()?.ok()?;
        Ok(())
    }

    fn add(&self, agent: &PersonAgent<'_>, how: &str) -> Result<(), LabError> {
        let name = format!(".forged-{}", self.serial);
        self.write(agent.world(), agent.user(), &name)?;
        // Under another name, so that `ssh-add -d` does not take the certificate for it as well.
        agent.sh(&format!("set -e; f=~/{name}; cp $f.pub $f.plain.pub; {how}; rm $f*"))?.ok()?;
        Ok(())
    }
}
