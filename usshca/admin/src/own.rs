//! The CA's own files, which no verb writes over: a typing error must not cost the CA its keys, its inventory or its policy.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use usshca_ipc::layout::Layout;

use crate::failure::Failure;
use crate::files::certificate_path;

/// Files of the public folder that the CA made; a KRL or a feed may lie beside them.
const PUBLIC: [&str; 4] = ["user_ca.pub", "host_ca.pub", "feed_key.pub", "known_hosts"];

/// Refuses to write to what is the CA's own, by whatever path, links and `..` it is named.
/// # Errors
/// It is the CA's own; what to do instead.
pub fn spare(layout: &Layout, path: &Path) -> Result<(), Failure> {
    not_in_state(layout, path)?;
    let host_certificate = certificate_path(&layout.host_key);
    if is_same(path, &host_certificate) {
        return Err(own(path, "its host certificate, which `usshca host sign` writes"));
    }
    spare_all_but_certificate(layout, path)
}

/// The same for a certificate, which may be the CA machine's own.
/// # Errors
/// As [`spare`].
pub fn spare_for_certificate(layout: &Layout, path: &Path) -> Result<(), Failure> {
    not_in_state(layout, path)?;
    spare_all_but_certificate(layout, path)
}

/// The same for a folder that files are written to.
/// # Errors
/// It is the state folder, or lies in it.
pub fn spare_folder(layout: &Layout, folder: &Path) -> Result<(), Failure> {
    not_in_state(layout, &folder.join("file"))
}

fn spare_all_but_certificate(layout: &Layout, path: &Path) -> Result<(), Failure> {
    let public_key = layout.host_key.with_extension("pub");
    for (own_file, what) in [
        (&layout.config, "its configuration"),
        (&layout.policy, "its policy"),
        (&layout.host_key, "its host key"),
        (&public_key, "its host key"),
    ] {
        if is_same(path, own_file) {
            return Err(own(path, what));
        }
    }
    if PUBLIC.iter().any(|name| is_same(path, &layout.public.join(name))) {
        return Err(own(path, "a file for everybody to fetch"));
    }
    let is_policy = path.extension().is_some_and(|extension| extension == "toml");
    let config_folder = layout.config.parent().unwrap_or(Path::new("/"));
    if is_policy && path.exists() && is_below(path, config_folder) {
        return Err(own(path, "a file of its configuration"));
    }
    Ok(())
}

/// Refuses a place in the configuration's folder, but for what everybody fetches.
/// # Errors
/// It lies there.
pub fn not_in_configuration(layout: &Layout, path: &Path) -> Result<(), Failure> {
    let folder = layout.config.parent().unwrap_or(Path::new("/"));
    if !is_below(path, folder) || is_below(path, &layout.public) || is_below(path, &layout.state) {
        return Ok(());
    }
    // What is there is named by [`spare`], which says what it is.
    if path.exists() {
        return Ok(());
    }
    let public = layout.public.display();
    Err(Failure::output(format!(
        "{}: in the folder of the CA's configuration; nothing was changed: name another place, as {public}",
        path.display()
    )))
}

/// Refuses a place in a folder that everybody fetches: the public one, or that of the feed.
/// # Errors
/// It lies there.
pub fn not_in_public(layout: &Layout, feed: Option<&Path>, path: &Path) -> Result<(), Failure> {
    match [Some(layout.public.as_path()), feed].into_iter().flatten().find(|folder| is_below(path, folder)) {
        None => Ok(()),
        Some(folder) => Err(Failure::output(format!(
            "{}: in {}, which everybody fetches; nothing was changed: name a place that is not for others to read",
            path.display(),
            folder.display()
        ))),
    }
}

fn not_in_state(layout: &Layout, path: &Path) -> Result<(), Failure> {
    if !is_below(path, &layout.state) {
        return Ok(());
    }
    let state = layout.state.display();
    Err(Failure::output(format!(
        "{}: in {state}, where the CA's keys and its inventory are; nothing was changed: name a place outside of it",
        path.display()
    )))
}

fn own(path: &Path, what: &str) -> Failure {
    Failure::output(format!(
        "{}: the CA's own file ({what}); it is not replaced, nothing was changed: name another file",
        path.display()
    ))
}

/// By what the kernel says that they are: a bind mount or a hard link has another path.
fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

fn is_same(path: &Path, other: &Path) -> bool {
    match (path.metadata(), other.metadata()) {
        (Ok(path), Ok(other)) => identity(&path) == identity(&other),
        _ => false,
    }
}

/// Whether it is, or would be, somewhere in this folder.
fn is_below(path: &Path, folder: &Path) -> bool {
    let Ok(folder) = folder.metadata() else { return false };
    let Some(parent) = existing_folder(path) else { return false };
    parent.ancestors().any(|ancestor| ancestor.metadata().is_ok_and(|found| identity(&found) == identity(&folder)))
}

/// The deepest folder on the way to it that is there, without links and `..`.
fn existing_folder(path: &Path) -> Option<PathBuf> {
    let path = std::path::absolute(path).ok()?;
    path.ancestors().skip(1).find_map(|ancestor| ancestor.canonicalize().ok())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn layout(dir: &Path) -> Layout {
        let layout = Layout::in_directory(dir);
        for folder in [&layout.state, &layout.public, &dir.join("teams")] {
            fs::create_dir(folder).unwrap();
        }
        for name in ["usshca.toml", "policy.toml", "ssh_host_ed25519_key", "ssh_host_ed25519_key-cert.pub"] {
            fs::write(dir.join(name), name).unwrap();
        }
        fs::write(layout.public.join("user_ca.pub"), "").unwrap();
        fs::write(dir.join("teams/web.toml"), "").unwrap();
        fs::write(dir.join("krl"), "").unwrap();
        layout
    }

    #[test]
    fn whatever_it_is_called_the_state_folder_takes_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let layout = layout(dir.path());
        symlink("state", dir.path().join("link")).unwrap();
        for name in ["state/new", "state/deep/er", "public/../state/x", "link/x", "./state/./user_ca"] {
            let error = spare(&layout, &dir.path().join(name)).unwrap_err();
            assert!(error.message.contains("where the CA's keys"), "{name}: {error}");
        }
        assert!(spare_folder(&layout, &dir.path().join("link")).is_err());
        assert!(spare_folder(&layout, &dir.path().join("state/feed")).is_err());
        spare_folder(&layout, &dir.path().join("feed")).unwrap();
    }

    #[test]
    fn the_cas_own_files_are_spared_and_what_lies_beside_them_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let layout = layout(dir.path());
        fs::hard_link(&layout.policy, dir.path().join("hard")).unwrap();
        for name in [
            "usshca.toml",
            "policy.toml",
            "hard",
            "ssh_host_ed25519_key",
            "ssh_host_ed25519_key-cert.pub",
            "teams/web.toml",
            "public/user_ca.pub",
        ] {
            let error = spare(&layout, &dir.path().join(name)).unwrap_err();
            assert!(error.message.contains("the CA's own file"), "{name}: {error}");
        }
        spare_for_certificate(&layout, &certificate_path(&layout.host_key)).unwrap();
        for name in ["krl", "public/krl", "none/krl", "other.toml"] {
            spare(&layout, &dir.path().join(name)).unwrap();
        }
    }

    #[test]
    fn what_everybody_fetches_is_no_place_for_what_is_not_for_everybody() {
        let dir = tempfile::tempdir().unwrap();
        let layout = layout(dir.path());
        let feed = dir.path().join("feed");
        fs::create_dir(&feed).unwrap();
        for place in [layout.public.join("x.db"), feed.join("x.db"), feed.join("../feed/x.db")] {
            let refused = not_in_public(&layout, Some(&feed), &place).unwrap_err();
            assert!(refused.message.contains("which everybody fetches"), "{}", refused.message);
        }
        not_in_public(&layout, Some(&feed), &dir.path().join("x.db")).unwrap();
        not_in_public(&layout, None, &feed.join("x.db")).unwrap();
    }
}
