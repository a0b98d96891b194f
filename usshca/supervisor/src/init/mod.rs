//! `usshca init`: a working CA in one command. All of it is made in folders beside the final places and moved there at the end, so that a kill leaves nothing half-made.
//!
//! The CA machine's own host certificate comes from a signer, as every other one, so that it stands in the inventory.

mod accounts;
pub mod pam;
mod stage;
mod text;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ussh_core::keys::{KeyError, PrivateKey, PublicKey};
use ussh_os::process;
use usshca_admin::desk::Link as _;
use usshca_ipc::admin::{Reply, Request};
use usshca_ipc::layout::Layout;
use usshca_ipc::signer::Secret;

use self::accounts::Owner;
use self::stage::Stage;
use crate::admin::{Link, certificate_path, layout_flag, small_letters};
use crate::cli::InitArgs;
use crate::config::Config;
use crate::failure::Failure;
use crate::prepare::Base;
use crate::unlock;

/// How long the CA machine's own host certificate is valid, in seconds: five years. Without a valid one nobody reaches the CA.
const HOST_VALIDITY: u64 = 5 * 365 * 86_400;
/// Private keys.
const SECRET: u32 = 0o600;
/// Everything else.
const PUBLIC: u32 = 0o644;

/// Makes a working CA.
pub fn run(layout: &Layout, args: &InitArgs) -> Result<(), Failure> {
    // Keys are made in this process: no core dump shall hold them.
    process::harden_memory().map_err(|e| Failure::internal(format!("cannot protect this process's memory: {e}")))?;
    let names = host_names(args)?;
    let ca_name = args.ca_name.clone().or_else(|| names.first().cloned()).unwrap_or_default();
    let config_text = text::config(layout, &ca_name, &names, &args.listen);
    let config = Config::parse(&config_text, &layout.config).map_err(|e| Failure::usage(e.to_string()))?;

    let passphrase = args.encrypt.then(unlock::new_passphrase).transpose()?;
    let stage = Stage::new(layout)?;
    let owner = accounts::ensure(&config)?;
    let made = make_files(&stage, owner, &config_text, &ca_name, passphrase.as_ref())
        .and_then(|key| certify(&stage, &key, &names));
    made.map_err(|e| match owner.and_then(|owner| closed_folder(&layout.state, owner)) {
        Some(folder) if e.message.contains("ermission denied") => not_entered(layout, &config.signer_user, &folder),
        _ => stage.by_last_names(e),
    })?;
    let pam = match owner {
        Some(_) => pam::ensure(&config.pam_service)?,
        None => own_pam(&stage, layout, &config)?,
    };
    stage.publish()?;
    report(layout, &config, &pam);
    Ok(())
}

/// The PAM service of an ordinary user's CA. Gives a line for people on how it stands.
fn own_pam(stage: &Stage, last: &Layout, config: &Config) -> Result<String, Failure> {
    let Some((stack, folder)) = pam::own_stack().zip(stage.layout().config.parent()) else {
        return pam::ensure(&config.pam_service);
    };
    let folder = folder.join(pam::OWN_FOLDER);
    stage.folder(&folder, 0o755, None)?;
    stage.file(&folder.join(&config.pam_service), &stack, PUBLIC, None)?;
    let shown = last.config.with_file_name(pam::OWN_FOLDER).join(&config.pam_service);
    Ok(format!("{} (new; without root it is this file that counts)", shown.display()))
}

fn host_names(args: &InitArgs) -> Result<Vec<String>, Failure> {
    let mut names: Vec<String> = small_letters(&args.names);
    if names.is_empty() {
        names.push(process::host_name().to_ascii_lowercase());
    }
    if names.iter().any(String::is_empty) {
        return Err(Failure::usage("this machine has no host name; try --name ca.example.com"));
    }
    Ok(names)
}

/// Everything but what a signer makes. Gives the machine's new host key.
fn make_files(
    stage: &Stage,
    signer: Option<Owner>,
    config: &str,
    ca_name: &str,
    passphrase: Option<&Secret>,
) -> Result<PublicKey, Failure> {
    let layout = stage.layout();
    let (user_ca, host_ca, feed_key, host_key) = (new_key()?, new_key()?, new_key()?, new_key()?);
    stage.file(&layout.config, config, PUBLIC, None)?;
    stage.file(&layout.policy, text::POLICY, PUBLIC, None)?;

    stage.folder(&layout.state, 0o700, signer)?;
    for (name, key, comment) in [
        ("user_ca", &user_ca, format!("user CA of {ca_name}")),
        ("host_ca", &host_ca, format!("host CA of {ca_name}")),
        ("feed_key", &feed_key, format!("feed key of {ca_name}")),
    ] {
        let public = key.public_key().to_openssh(&comment);
        let secret = match passphrase {
            Some(Secret(passphrase)) => key.to_openssh_encrypted(&comment, passphrase),
            None => key.to_openssh(&comment),
        };
        let secret = secret.map_err(key_failure)?;
        stage.file(&layout.state.join(name), &secret, SECRET, signer)?;
        stage.file(&layout.state.join(format!("{name}.pub")), &format!("{public}\n"), PUBLIC, signer)?;
    }

    let host_comment = format!("host key of {ca_name}");
    let secret = host_key.to_openssh(&host_comment).map_err(key_failure)?;
    stage.file(&layout.host_key, &secret, SECRET, None)?;
    let public = host_key.public_key().to_openssh(&host_comment);
    stage.file(&layout.host_key.with_extension("pub"), &format!("{public}\n"), PUBLIC, None)?;

    stage.folder(&layout.public, 0o755, None)?;
    let user_line = user_ca.public_key().to_openssh(&format!("user CA of {ca_name}"));
    let host_line = host_ca.public_key().to_openssh(&format!("host CA of {ca_name}"));
    stage.file(&layout.public.join("user_ca.pub"), &format!("{user_line}\n"), PUBLIC, None)?;
    stage.file(&layout.public.join("host_ca.pub"), &format!("{host_line}\n"), PUBLIC, None)?;
    let feed_line = feed_key.public_key().to_openssh(&format!("feed key of {ca_name}"));
    stage.file(&layout.public.join("feed_key.pub"), &format!("{feed_line}\n"), PUBLIC, None)?;
    stage.file(&layout.public.join("known_hosts"), &format!("@cert-authority * {host_line}\n"), PUBLIC, None)?;
    Ok(host_key.public_key())
}

fn new_key() -> Result<PrivateKey, Failure> {
    PrivateKey::generate_ed25519().map_err(key_failure)
}

fn key_failure(error: KeyError) -> Failure {
    Failure::internal(format!("making a key: {error}"))
}

/// By a signer, which makes the inventory at that.
fn certify(stage: &Stage, host_key: &PublicKey, names: &[String]) -> Result<(), Failure> {
    let layout = stage.layout();
    let base = Base::load(layout)?;
    let link = Link::first(&base)?;
    let request = Request::HostSign {
        public_key: host_key.to_blob(),
        principals: names.to_vec(),
        validity_seconds: Some(HOST_VALIDITY),
        take_key: false,
    };
    let Reply::HostCertificate { line, .. } = link.ask(&request)? else {
        return Err(Failure::internal("the signer gave an answer to another question"));
    };
    drop(link);
    stage.file(&certificate_path(&layout.host_key.with_extension("pub")), &format!("{line}\n"), PUBLIC, None)?;
    base.host_identity().map(drop)
}

/// The first folder above `path` that this account may not enter.
fn closed_folder(path: &Path, account: Owner) -> Option<PathBuf> {
    let above: Vec<&Path> = path.ancestors().skip(1).collect();
    let is_closed = |folder: &&&Path| {
        folder.metadata().is_ok_and(|folder| {
            let bit = match (folder.uid() == account.uid, folder.gid() == account.gid) {
                (true, _) => 0o100,
                (false, true) => 0o010,
                (false, false) => 0o001,
            };
            folder.mode() & bit == 0
        })
    };
    above.iter().rev().find(is_closed).map(|folder| folder.to_path_buf())
}

fn not_entered(layout: &Layout, account: &str, folder: &Path) -> Failure {
    let (dir, shown) = (layout.config.parent().unwrap_or(&layout.config).display(), folder.display());
    Failure::config(format!(
        "{dir}: {account}, the signer's account, cannot enter {shown}; make the CA in another folder, or: chmod o+x {shown}"
    ))
}

fn report(layout: &Layout, config: &Config, pam: &str) {
    let listen: Vec<String> = config.listen.iter().map(ToString::to_string).collect();
    let dir = layout_flag(layout);
    let public = layout.public.display();
    println!("A new CA, \"{}\":", config.ca_name);
    println!("  configuration   {}", layout.config.display());
    println!("  policy          {} (who gets what: read it before you serve)", layout.policy.display());
    println!("  state           {} (the CA keys and the inventory)", layout.state.display());
    println!("  for servers     {public}/user_ca.pub (sshd's TrustedUserCAKeys)");
    println!("  for everybody   {public}/known_hosts (add to /etc/ssh/ssh_known_hosts)");
    println!("  PAM             {pam}");
    println!(
        "  back up         the keys in {} once, and the inventory often: usshca{dir} backup FILE",
        layout.state.display()
    );
    println!("                  (never the file serials: docs/operations.md)");
    if ussh_os::process::effective_uid() != 0 {
        println!("  be warned       {}", crate::prepare::WITHOUT_ROOT);
    }
    let low = config.listen.iter().any(|address| (1..1024).contains(&address.port()));
    let but = match low && ussh_os::process::effective_uid() != 0 {
        true => {
            format!(" (if it may: ports below 1024 are root's, as a rule; `listen` in {})", layout.config.display())
        }
        false => String::new(),
    };
    println!("Start it: usshca{dir} serve      it will listen on {}{but}", listen.join(", "));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_folder_that_an_account_cannot_enter_is_found_by_its_own_bits() {
        let top = tempfile::tempdir().unwrap();
        // As the ones above may be: closed to somebody else.
        fs::set_permissions(top.path(), Permissions::from_mode(0o755)).unwrap();
        let (outer, inner) = (top.path().join("outer"), top.path().join("outer/inner"));
        fs::create_dir_all(&inner).unwrap();
        let us = outer.metadata().unwrap();
        let (owner, member, other) = (
            Owner { uid: us.uid(), gid: us.gid() },
            Owner { uid: us.uid() + 1, gid: us.gid() },
            Owner { uid: us.uid() + 1, gid: us.gid() + 1 },
        );
        let found = |account| closed_folder(&inner.join("state"), account);
        for (outer_mode, inner_mode, closed) in [
            (0o755, 0o755, [None, None, None]),
            (0o700, 0o755, [None, Some(&outer), Some(&outer)]),
            (0o710, 0o700, [None, Some(&inner), Some(&outer)]),
            (0o711, 0o666, [Some(&inner), Some(&inner), Some(&inner)]),
        ] {
            fs::set_permissions(&inner, Permissions::from_mode(inner_mode)).unwrap();
            fs::set_permissions(&outer, Permissions::from_mode(outer_mode)).unwrap();
            for (account, closed) in [owner, member, other].into_iter().zip(closed) {
                assert_eq!(found(account).as_ref(), closed, "{outer_mode:o} {inner_mode:o} {account:?}");
            }
        }
    }
}
