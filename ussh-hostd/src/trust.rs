//! What is trusted and what is revoked, as the files say at the moment, and the verdict on a certificate by it.
//!
//! A file that cannot be read, or does not read as what it must be, is never taken as "nothing is revoked": the last good state stays in force for the sessions
//! that live by it, and no session is prolonged until the files are whole again.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ussh_core::break_glass::read_keys;
use ussh_core::ca_file::TrustedCas;
use ussh_core::certificate::{Certificate, CertificateKind};
use ussh_core::clock::UnixTime;
use ussh_core::record::RecordError;
use ussh_core::revoked::{RevokedError, RevokedKeys};
use ussh_core::trusted_file::{FileState, TrustedFileError, read_trusted};
use ussh_core::verdict::{CriticalOptions, Demand, PrincipalDemand, Refusal, VerifiedCertificate, verify};

use crate::config::Config;

/// Largest CA file, bytes.
pub const MAX_CA_FILE: usize = 1024 * 1024;
/// Largest revocation list, bytes.
pub const MAX_REVOKED: usize = 64 * 1024 * 1024;

/// Why there is nothing to judge by.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// One of the files cannot be read, or others than root can change it.
    #[error("{0}")]
    File(#[from] TrustedFileError),
    /// The CA file holds no key.
    #[error("{0}: holds no CA key")]
    NoCa(PathBuf),
    /// The break-glass CA's key cannot be used.
    #[error("break_glass_ca_file: {0}")]
    BreakGlass(RecordError),
    /// The revocation list is not one.
    #[error("{path}: {source}")]
    Revoked {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: RevokedError,
    },
}

/// One whole, readable state of the files.
#[derive(Debug)]
pub struct Trust {
    cas: TrustedCas,
    revoked: Option<RevokedKeys>,
}

impl Trust {
    /// Reads both files.
    /// # Errors
    /// [`TrustError`]
    pub fn load(config: &Config) -> Result<Self, TrustError> {
        let cas = TrustedCas::parse(&read_trusted(&config.ca_file, MAX_CA_FILE)?);
        if cas.keys().is_empty() {
            return Err(TrustError::NoCa(config.ca_file.clone()));
        }
        let revoked = config.revoked_keys.as_deref().map(load_revoked).transpose()?;
        let break_glass = read_keys(&config.break_glass.ca_file).map_err(TrustError::BreakGlass)?;
        Ok(Trust { cas: cas.with_break_glass(&break_glass), revoked })
    }

    /// From parts at hand.
    #[cfg(test)]
    pub fn new(cas: TrustedCas, revoked: Option<RevokedKeys>) -> Self {
        Trust { cas, revoked }
    }

    /// The CA keys.
    pub fn cas(&self) -> &TrustedCas {
        &self.cas
    }

    /// The revocation list, if one is configured.
    pub fn revoked(&self) -> Option<&RevokedKeys> {
        self.revoked.as_ref()
    }

    /// What is demanded of a user certificate at `now`. sshd enforces the critical options of the connection's own certificate, and which account a principal
    /// may enter was sshd's decision at the login: what ties a newer certificate to the session is its lineage, which the caller compares, and what it must still allow
    /// is in `terms`.
    pub fn demand(&self, now: UnixTime) -> Demand<'_> {
        Demand {
            cas: &self.cas,
            kind: CertificateKind::User,
            now,
            principals: PrincipalDemand::AnyNonEmpty,
            critical_options: CriticalOptions::EnforcedBySshd,
            revoked: self.revoked.as_ref(),
            max_validity: None,
            max_age: None,
        }
    }

    /// The verdict at `now`.
    /// # Errors
    /// [`Refusal`]
    pub fn verdict(&self, certificate: &Certificate, now: UnixTime) -> Result<VerifiedCertificate, Refusal> {
        verify(certificate, &self.demand(now))
    }

    /// The verdict on a certificate that a session lives by, time apart: when it ends is the session's own bookkeeping, on two clocks. The moment taken is the
    /// nearest to `now` at which it is valid.
    /// # Errors
    /// [`Refusal`]
    pub fn verdict_time_apart(&self, certificate: &Certificate, now: UnixTime) -> Result<VerifiedCertificate, Refusal> {
        let last = UnixTime(certificate.valid_before().0.saturating_sub(1));
        self.verdict(certificate, now.min(last).max(certificate.valid_after()))
    }
}

/// Reads a revocation list.
/// # Errors
/// [`TrustError`]
pub fn load_revoked(path: &Path) -> Result<RevokedKeys, TrustError> {
    RevokedKeys::parse(&read_trusted(path, MAX_REVOKED)?)
        .map_err(|source| TrustError::Revoked { path: path.into(), source })
}

/// What became of a reload.
#[derive(Debug)]
pub enum Reload {
    /// The files are those that were read last.
    Unchanged,
    /// Read anew: judge every session.
    Changed,
    /// Not usable now; the words are new.
    Broken(String),
}

/// The files' present state, and the last good one.
#[derive(Debug)]
pub struct TrustStore {
    config: Config,
    /// Empty: nothing that was read is known to be as it was.
    seen: Vec<Option<FileState>>,
    last_good: Option<Arc<Trust>>,
    problem: Option<String>,
}

impl TrustStore {
    /// Nothing is read yet: [`TrustStore::reload`] does it.
    pub fn new(config: &Config) -> Self {
        TrustStore { config: config.clone(), seen: Vec::new(), last_good: None, problem: Some("not read yet".into()) }
    }

    /// The files that matter.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let break_glass = Some(self.config.break_glass.ca_file.as_path());
        [Some(self.config.ca_file.as_path()), self.config.revoked_keys.as_deref(), break_glass].into_iter().flatten()
    }

    /// Those whose folders are watched: the break-glass CA's may be missing, and is looked for now and then.
    pub fn watched(&self) -> impl Iterator<Item = &Path> {
        let optional = self.config.break_glass.ca_file.as_path();
        self.files().filter(move |file| *file != optional || file.parent().is_some_and(Path::is_dir))
    }

    /// What is wrong with the present state; `None`: nothing.
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// The next reload reads the files, whatever they look like.
    pub fn forget_seen(&mut self) {
        self.seen.clear();
    }

    /// Reads the files if they have changed. While they are not usable each call tries again: what is wrong need not show in the files (a folder above them that others
    /// could write to and now cannot).
    pub fn reload(&mut self) -> Reload {
        // Taken before reading: a change that comes in between shows the next time.
        let seen: Vec<_> = self.files().map(FileState::at).collect();
        // After a failure nothing is seen. Only the break-glass CA's file may be missing.
        if self.seen == seen {
            return Reload::Unchanged;
        }
        self.seen = seen;
        match Trust::load(&self.config) {
            Ok(trust) => {
                self.last_good = Some(Arc::new(trust));
                self.problem = None;
                Reload::Changed
            }
            Err(error) => {
                self.forget_seen();
                let problem = error.to_string();
                let known = self.problem.as_ref() == Some(&problem);
                self.problem = Some(problem.clone());
                if known { Reload::Unchanged } else { Reload::Broken(problem) }
            }
        }
    }

    /// To judge sessions by: the last state that was whole.
    pub fn for_sessions(&self) -> Option<&Trust> {
        self.last_good.as_deref()
    }

    /// To prolong sessions by: the present state, or nothing.
    pub fn for_renewals(&self) -> Option<Arc<Trust>> {
        if self.problem.is_some() { None } else { self.last_good.clone() }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;
    use crate::test_support::{Ca, from_now, trusted_folder};
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    struct Files {
        folder: tempfile::TempDir,
        ca: Ca,
        store: TrustStore,
    }

    impl Files {
        fn new() -> Self {
            let folder = trusted_folder();
            let text = format!(
                "ca_file = '{0}/ca'\nrevoked_keys = '{0}/revoked'\nbreak_glass_ca_file = '{0}/glass'",
                folder.path().display()
            );
            let store = TrustStore::new(&Config::parse(&text, Path::new("t")).unwrap());
            let files = Files { folder, ca: Ca::new(), store };
            files.put("ca", files.ca.line());
            files.put("revoked", files.ca.krl(1, from_now(0), &[]));
            files
        }

        fn put(&self, name: &str, data: impl AsRef<[u8]>) {
            let temporary = self.folder.path().join("new");
            std::fs::write(&temporary, data).unwrap();
            std::fs::rename(temporary, self.folder.path().join(name)).unwrap();
        }
    }

    #[test]
    fn the_break_glass_ca_counts_from_when_it_is_there_and_may_be_missing() {
        let mut files = Files::new();
        assert!(matches!(files.store.reload(), Reload::Changed));
        assert!(matches!(files.store.reload(), Reload::Unchanged));
        let (glass, user_ca) = (Ca::new(), files.ca.0.public_key());
        let key = glass.0.public_key();
        assert!(!files.store.for_sessions().unwrap().cas().is_break_glass(&key));
        files.put("glass", glass.line());
        assert!(matches!(files.store.reload(), Reload::Changed));
        assert!(files.store.for_sessions().unwrap().cas().is_break_glass(&key));
        // The wrong one of two files.
        files.put("glass", files.ca.line());
        assert!(matches!(files.store.reload(), Reload::Changed));
        assert!(!files.store.for_sessions().unwrap().cas().is_break_glass(&user_ca), "a user CA stays one");
        let (certificate, _) = files.ca.issue("alice", 1, 60);
        assert!(
            files.store.for_sessions().unwrap().verdict(&certificate, from_now(0)).is_ok(),
            "and nobody ends for it"
        );
        files.put("glass", "junk");
        assert!(matches!(files.store.reload(), Reload::Broken(_)));
    }

    #[test]
    fn reads_again_only_what_has_changed() {
        let mut files = Files::new();
        assert!(files.store.for_renewals().is_none(), "nothing is trusted before it is read");
        assert!(matches!(files.store.reload(), Reload::Changed));
        assert!(matches!(files.store.reload(), Reload::Unchanged));
        files.put("revoked", files.ca.krl(2, from_now(0), &[7]));
        assert!(matches!(files.store.reload(), Reload::Changed));
        let (certificate, _) = files.ca.issue("alice", 7, 60);
        let verdict = files.store.for_sessions().unwrap().verdict(&certificate, from_now(0));
        assert_eq!(verdict.unwrap_err(), Refusal::Revoked);
    }

    #[test]
    fn broken_files_renew_nobody_and_end_nobody() {
        let mut files = Files::new();
        files.store.reload();
        let (certificate, _) = files.ca.issue("alice", 7, 60);
        for (name, data, reason) in
            [("revoked", "", "empty"), ("revoked", "junk", "broken"), ("ca", "# none\n", "no CA key")]
        {
            files.put(name, data);
            let Reload::Broken(problem) = files.store.reload() else { panic!("{name} {data:?} was taken") };
            assert!(problem.contains(reason), "{problem}");
            assert!(files.store.for_renewals().is_none());
            assert!(files.store.for_sessions().unwrap().verdict(&certificate, from_now(0)).is_ok(), "last good state");
            files.put("ca", files.ca.line());
            files.put("revoked", files.ca.krl(1, from_now(0), &[]));
            assert!(matches!(files.store.reload(), Reload::Changed));
            assert!(files.store.for_renewals().is_some());
        }
    }

    #[test]
    fn a_list_that_came_while_its_folder_was_bad_is_read_once_the_folder_is_mended() {
        let mut files = Files::new();
        files.store.reload();
        let mode = |mode| std::fs::set_permissions(files.folder.path(), Permissions::from_mode(mode)).unwrap();
        mode(0o775);
        files.put("revoked", files.ca.krl(2, from_now(0), &[7]));
        let Reload::Broken(problem) = files.store.reload() else {
            panic!("taken from a folder that others can change")
        };
        assert!(problem.contains("bad ownership or modes"), "{problem}");
        assert_eq!(files.store.problem(), Some(problem.as_str()));
        assert!(matches!(files.store.reload(), Reload::Unchanged), "reported once");
        mode(0o755);
        assert!(matches!(files.store.reload(), Reload::Changed));
        assert_eq!(files.store.problem(), None);
        let (certificate, _) = files.ca.issue("alice", 7, 60);
        let verdict = files.store.for_renewals().unwrap().verdict(&certificate, from_now(0));
        assert_eq!(verdict.unwrap_err(), Refusal::Revoked);
    }

    #[test]
    fn what_is_forgotten_is_read_again() {
        let mut files = Files::new();
        files.store.reload();
        assert!(matches!(files.store.reload(), Reload::Unchanged));
        files.store.forget_seen();
        assert!(matches!(files.store.reload(), Reload::Changed));
    }

    #[test]
    fn missing_list_is_reported_once_and_found_when_it_comes() {
        let mut files = Files::new();
        std::fs::remove_file(files.folder.path().join("revoked")).unwrap();
        assert!(matches!(files.store.reload(), Reload::Broken(_)));
        assert!(matches!(files.store.reload(), Reload::Unchanged));
        files.put("revoked", files.ca.krl(1, from_now(0), &[]));
        assert!(matches!(files.store.reload(), Reload::Changed));
    }

    #[test]
    fn time_apart_means_revocation_is_seen_in_an_expired_certificate() {
        let ca = Ca::new();
        let (expired, _) = ca.issue("alice", 7, -10);
        let now = from_now(0);
        assert!(ca.trust(&[]).verdict_time_apart(&expired, now).is_ok());
        assert!(matches!(ca.trust(&[]).verdict(&expired, now), Err(Refusal::Expired { .. })));
        assert_eq!(ca.trust(&[7]).verdict_time_apart(&expired, now).unwrap_err(), Refusal::Revoked);
        let before_it_began = UnixTime(0);
        assert!(ca.trust(&[]).verdict_time_apart(&expired, before_it_began).is_ok());
        assert!(matches!(Ca::new().trust(&[]).verdict_time_apart(&expired, now), Err(Refusal::UntrustedCa { .. })));
    }
}
