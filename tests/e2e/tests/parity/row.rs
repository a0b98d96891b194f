//! One line of the table: how it is made, and what each of the judges must say.

use std::collections::BTreeMap;

use base64ct::{Base64, Encoding};

use crate::certificate::Certificate;
use crate::forge::Forge;
use crate::job::{Job, Presented, folder};
use crate::keys::Key;

/// A file beside the certificate.
#[derive(Clone, Debug)]
pub struct File {
    /// `None`: it is not there.
    pub content: Option<Vec<u8>>,
    pub mode: u32,
}

impl File {
    pub fn of(content: impl Into<Vec<u8>>) -> Self {
        File { content: Some(content.into()), mode: 0o644 }
    }

    pub const MISSING: File = File { content: None, mode: 0 };
}

/// What every sshd has in its configuration. DEBUG2: that a CA is not listed is said at no lower level.
const SSHD_CONFIG: &str = "\
HostKey /etc/ssh/ssh_host_ed25519_key
LogLevel DEBUG2
UsePAM no
UseDNS no
AuthenticationMethods publickey
";

/// What is judged.
#[derive(Clone, Debug)]
pub struct Case {
    pub certificate: Presented,
    pub key: Key,
    pub ca_file: File,
    /// The list decides alone, as in sshd.
    pub principals_file: Option<File>,
    /// Then with a file the certificate must name the user as well, as by default.
    pub names_user_too: bool,
    pub revoked_keys: Option<File>,
    /// Instead of TrustedUserCAKeys in sshd.
    pub authorized_keys: Option<String>,
    pub ipv6: bool,
}

impl Case {
    /// This certificate of this key, where this CA is trusted.
    pub fn new(certificate: Vec<u8>, key: Key, ca: &Key) -> Self {
        Case {
            certificate: Presented::Always(Base64::encode_string(&certificate)),
            key,
            ca_file: File::of(ca.line() + "\n"),
            principals_file: None,
            names_user_too: false,
            revoked_keys: None,
            authorized_keys: None,
            ipv6: false,
        }
    }

    /// Another certificate for each second.
    pub fn by_second(mut self, certificates: impl Iterator<Item = (u64, Vec<u8>)>) -> Self {
        let encoded = certificates.map(|(second, certificate)| (second, Base64::encode_string(&certificate)));
        self.certificate = Presented::BySecond(encoded.collect::<BTreeMap<_, _>>());
        self
    }

    pub fn ca_file(mut self, content: impl Into<Vec<u8>>) -> Self {
        self.ca_file = File::of(content);
        self
    }

    pub fn principals_file(mut self, content: impl Into<Vec<u8>>) -> Self {
        self.principals_file = Some(File::of(content));
        self
    }

    pub fn revoked(mut self, content: impl Into<Vec<u8>>) -> Self {
        self.revoked_keys = Some(File::of(content));
        self
    }

    pub fn job(&self, number: usize) -> Job {
        Job { number, certificate: self.certificate.clone(), key: self.key.clone(), ipv6: self.ipv6 }
    }

    /// The files of the row in every host: path, mode, content.
    pub fn files(&self, number: usize) -> Vec<(String, u32, Vec<u8>)> {
        let folder = folder(number);
        let beside = [
            ("ca", Some(&self.ca_file)),
            ("principals", self.principals_file.as_ref()),
            ("revoked", self.revoked_keys.as_ref()),
        ];
        let mut files = Vec::new();
        for (name, file) in beside {
            if let Some(File { content: Some(content), mode }) = file {
                files.push((format!("{folder}/{name}"), *mode, content.clone()));
            }
        }
        if let Some(line) = &self.authorized_keys {
            files.push((format!("{folder}/authorized_keys"), 0o644, line.clone().into_bytes()));
        }
        files.push((format!("{folder}/sshd_config"), 0o644, self.sshd_config(number).into_bytes()));
        files.push((format!("/etc/pam.d/{}", crate::job::service(number)), 0o644, self.pam(number).into_bytes()));
        files
    }

    fn sshd_config(&self, number: usize) -> String {
        let folder = folder(number);
        let mut config = SSHD_CONFIG.to_owned();
        match &self.authorized_keys {
            None => config += &format!("TrustedUserCAKeys {folder}/ca\nAuthorizedKeysFile none\n"),
            Some(_) => config += &format!("AuthorizedKeysFile {folder}/authorized_keys\n"),
        }
        if self.principals_file.is_some() {
            config += &format!("AuthorizedPrincipalsFile {folder}/principals\n");
        }
        if self.revoked_keys.is_some() {
            config += &format!("RevokedKeys {folder}/revoked\n");
        }
        config
    }

    fn pam(&self, number: usize) -> String {
        let folder = folder(number);
        let mut line = format!("auth required pam_ussh.so ca_file={folder}/ca");
        if self.principals_file.is_some() {
            let user_too = if self.names_user_too { "yes" } else { "no" };
            line += &format!(" authorized_principals_file={folder}/principals require_user_principal={user_too}");
        }
        if self.revoked_keys.is_some() {
            line += &format!(" revoked_keys={folder}/revoked");
        }
        line + "\n"
    }
}

/// What a judge must say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Accepted,
    /// And why. sshd: words of its log. pam_ussh: all that it says, with `DIR` for the row's folder and anything for `…`.
    Refused(&'static str),
}

impl Verdict {
    pub fn is_yes(self) -> bool {
        self == Verdict::Accepted
    }
}

/// One of the two OpenSSHs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Followed {
    Nine,
    Ten,
}

type Make = Box<dyn Fn(&Forge) -> Case>;

/// A line of the table.
pub struct Row {
    pub name: String,
    pub make: Make,
    /// OpenSSH of Debian 12.
    pub theirs_9: Verdict,
    /// OpenSSH of Debian 13.
    pub theirs_10: Verdict,
    /// pam_ussh as sudo asks it.
    pub ours: Verdict,
    /// pam_ussh in sshd's own stack; only asked where sshd itself says yes.
    pub within_sshd: Verdict,
    /// The row of docs/deviations.md that says why we are stricter.
    pub deviation: Option<&'static str>,
    /// Where the two OpenSSHs differ: whom we follow, and why.
    pub follows: Option<(Followed, &'static str)>,
}

/// A row that is half written.
pub struct Draft {
    name: String,
    make: Make,
}

/// From the name on.
pub fn row(name: impl Into<String>, make: impl Fn(&Forge) -> Case + 'static) -> Draft {
    Draft { name: name.into(), make: Box::new(make) }
}

/// A good certificate for the user's key with one change.
pub fn changed(name: impl Into<String>, change: impl Fn(Certificate) -> Certificate + 'static) -> Draft {
    row(name, move |forge| forge.issue(&change(forge.certificate())))
}

/// What ssh-keygen makes of these arguments.
pub fn keygen(name: impl Into<String>, arguments: &'static str) -> Draft {
    row(name, move |forge| forge.keygen(arguments))
}

impl Draft {
    /// All say yes.
    pub fn accepted(self) -> Row {
        self.judged(Verdict::Accepted, Verdict::Accepted, Verdict::Accepted)
    }

    /// All say no: sshd in its words, pam_ussh in its own.
    pub fn refused(self, theirs: &'static str, ours: &'static str) -> Row {
        self.judged(Verdict::Refused(theirs), Verdict::Refused(theirs), Verdict::Refused(ours))
    }

    /// All say no, and the two OpenSSHs in other words.
    pub fn refused_in_words(self, theirs_9: &'static str, theirs_10: &'static str, ours: &'static str) -> Row {
        self.judged(Verdict::Refused(theirs_9), Verdict::Refused(theirs_10), Verdict::Refused(ours))
    }

    /// sshd says yes, and we do not: everywhere.
    pub fn stricter(self, deviation: &'static str, ours: &'static str) -> Row {
        let row = self.judged(Verdict::Accepted, Verdict::Accepted, Verdict::Refused(ours));
        Row { deviation: Some(deviation), within_sshd: Verdict::Refused(ours), ..row }
    }

    /// sshd says yes, and so do we behind it; in sudo nobody would enforce what is asked, and we do not.
    pub fn stricter_in_sudo(self, deviation: &'static str, ours: &'static str) -> Row {
        let row = self.judged(Verdict::Accepted, Verdict::Accepted, Verdict::Refused(ours));
        Row { deviation: Some(deviation), ..row }
    }

    pub fn judged(self, theirs_9: Verdict, theirs_10: Verdict, ours: Verdict) -> Row {
        let Draft { name, make } = self;
        let within_sshd = Verdict::Accepted;
        Row { name, make, theirs_9, theirs_10, ours, within_sshd, deviation: None, follows: None }
    }
}

impl Row {
    /// Why we go with 9.2 and not with 10.0.
    pub fn follows_9(mut self, why: &'static str) -> Row {
        self.follows = Some((Followed::Nine, why));
        self
    }

    /// Why we go with 10.0 and not with 9.2.
    pub fn follows_10(mut self, why: &'static str) -> Row {
        self.follows = Some((Followed::Ten, why));
        self
    }

    /// Which row of docs/deviations.md it is.
    pub fn deviation(mut self, key: &'static str) -> Row {
        self.deviation = Some(key);
        self
    }

    pub fn within_sshd(mut self, verdict: Verdict) -> Row {
        self.within_sshd = verdict;
        self
    }
}
