//! Building beside the final places, and moving there in the end.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use usshca_ipc::layout::Layout;

use super::accounts::Owner;
use crate::failure::Failure;

/// New folders, each beside the place where it will be.
pub struct Stage {
    layout: Layout,
    tops: Vec<Top>,
}

/// One folder that will be moved as a whole.
struct Top {
    temporary: TempDir,
    last: PathBuf,
}

impl Stage {
    /// Refuses where there is something already.
    pub fn new(last: &Layout) -> Result<Self, Failure> {
        let lasts = tops_of(last);
        for top in &lasts {
            refuse_to_overwrite(top)?;
        }
        let tops = lasts.into_iter().map(Top::beside).collect::<Result<Vec<_>, _>>()?;
        let moved = |path: &Path| {
            let inside =
                tops.iter().find_map(|top| Some(top.temporary.path().join(path.strip_prefix(&top.last).ok()?)));
            inside.unwrap_or_else(|| path.to_owned())
        };
        let layout = Layout {
            config: moved(&last.config),
            policy: moved(&last.policy),
            state: moved(&last.state),
            host_key: moved(&last.host_key),
            admin_socket: moved(&last.admin_socket),
            public: moved(&last.public),
        };
        Ok(Stage { layout, tops })
    }

    /// Where everything lies for the moment.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// A new folder.
    pub fn folder(&self, path: &Path, mode: u32, owner: Option<Owner>) -> Result<(), Failure> {
        let made = DirBuilder::new().mode(0o700).create(path).and_then(|()| give(path, mode, owner));
        made.map_err(|e| failure(path, &e))
    }

    /// A new file, on disk when this returns.
    pub fn file(&self, path: &Path, text: &str, mode: u32, owner: Option<Owner>) -> Result<(), Failure> {
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
            file.write_all(text.as_bytes())?;
            give(path, mode, owner)?;
            file.sync_all()
        };
        write().map_err(|e| failure(path, &e))
    }

    /// A failure in the words of the folders as they were to be: those of the moment are nobody's business, and gone when it is read.
    pub fn by_last_names(&self, failure: Failure) -> Failure {
        let rename = |message: String, top: &Top| {
            message.replace(&*top.temporary.path().to_string_lossy(), &top.last.to_string_lossy())
        };
        Failure { message: self.tops.iter().fold(failure.message, rename), ..failure }
    }

    /// Moves all into place. The configuration's folder comes last: without it there is no CA to serve.
    pub fn publish(self) -> Result<(), Failure> {
        for top in &self.tops {
            sync_folders(top.temporary.path()).map_err(|e| failure(top.temporary.path(), &e))?;
        }
        for top in self.tops {
            top.publish()?;
        }
        Ok(())
    }
}

impl Top {
    fn beside(last: PathBuf) -> Result<Self, Failure> {
        let make = || -> io::Result<TempDir> {
            let parent = parent(&last);
            fs::create_dir_all(parent)?;
            let temporary = tempfile::Builder::new().prefix(".usshca-init-").tempdir_in(parent)?;
            // What is secret inside has a mode of its own; the signer must get to its state.
            fs::set_permissions(temporary.path(), Permissions::from_mode(0o755))?;
            Ok(temporary)
        };
        match make() {
            Ok(temporary) => Ok(Top { temporary, last }),
            Err(e) => Err(failure(&last, &e)),
        }
    }

    /// rename(2) takes the place of an empty folder, and of nothing else.
    fn publish(self) -> Result<(), Failure> {
        fs::rename(self.temporary.path(), &self.last).map_err(|e| failure(&self.last, &e))?;
        // There is nothing left to clean up.
        let _ = self.temporary.keep();
        File::open(parent(&self.last)).and_then(|f| f.sync_all()).map_err(|e| failure(&self.last, &e))
    }
}

/// The folders that will be new, the configuration's last.
fn tops_of(layout: &Layout) -> Vec<PathBuf> {
    let folder = |path: &Path| parent(path).to_owned();
    let (state, config) = (folder(&layout.state), folder(&layout.config));
    if state == config { vec![config] } else { vec![state, config] }
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

fn refuse_to_overwrite(top: &Path) -> Result<(), Failure> {
    let mut entries = match fs::read_dir(top) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(failure(top, &e)),
    };
    let shown = top.display();
    if ["state", "usshca.toml"].iter().any(|name| top.join(name).symlink_metadata().is_ok()) {
        return Err(Failure::refused(format!(
            "{shown}: there is a CA already, or the rest of one; nothing was changed. To make a new one, move that folder away"
        )));
    }
    match entries.next() {
        None => Ok(()),
        Some(_) => Err(Failure::refused(format!(
            "{shown}: not empty; nothing was changed. Give a new folder, or an empty one"
        ))),
    }
}

fn give(path: &Path, mode: u32, owner: Option<Owner>) -> io::Result<()> {
    if let Some(owner) = owner {
        chown(path, Some(owner.uid), Some(owner.gid))?;
    }
    // After chown, which may clear bits; not subject to the umask.
    fs::set_permissions(path, Permissions::from_mode(mode))
}

/// The entries of each folder too must be on disk before the move is.
fn sync_folders(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_folders(&entry.path())?;
        }
    }
    File::open(folder)?.sync_all()
}

fn failure(path: &Path, error: &io::Error) -> Failure {
    let denied = error.kind() == io::ErrorKind::PermissionDenied;
    let hint = if denied { "; it takes root, or with --dir a folder of your own" } else { "" };
    Failure::output(format!("{}: {error}{hint}", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;
    use crate::failure::Exit;

    #[test]
    fn nothing_is_there_before_the_end_and_nothing_is_left_of_a_failure() {
        let dir = tempfile::tempdir().unwrap();
        let last = Layout::in_directory(&dir.path().join("deep/ca"));
        let stage = Stage::new(&last).unwrap();
        stage.file(&stage.layout().config, "x", 0o644, None).unwrap();
        stage.folder(&stage.layout().state, 0o700, None).unwrap();
        assert!(!dir.path().join("deep/ca").exists());
        drop(stage);
        assert_eq!(fs::read_dir(dir.path().join("deep")).unwrap().count(), 0);

        let stage = Stage::new(&last).unwrap();
        stage.file(&stage.layout().config, "x", 0o644, None).unwrap();
        stage.folder(&stage.layout().state, 0o700, None).unwrap();
        stage.publish().unwrap();
        assert_eq!(fs::read_to_string(&last.config).unwrap(), "x");
        assert_eq!(last.state.metadata().unwrap().permissions().mode() & 0o7777, 0o700);
        assert_eq!(fs::read_dir(dir.path().join("deep")).unwrap().count(), 1);
    }

    #[test]
    fn an_empty_folder_is_taken_and_a_full_one_is_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("ca");
        let last = Layout::in_directory(&top);
        fs::create_dir(&top).unwrap();
        drop(Stage::new(&last).unwrap());
        for (name, problem) in [("readme", "not empty"), ("usshca.toml", "a CA already"), ("state", "a CA already")] {
            fs::write(top.join(name), "mine").unwrap();
            let refused = Stage::new(&last).err().unwrap();
            assert_eq!(refused.exit, Exit::Refused);
            assert!(refused.message.contains(problem), "{refused}");
            assert_eq!(fs::read_to_string(top.join(name)).unwrap(), "mine");
            fs::remove_file(top.join(name)).unwrap();
        }
        let stage = Stage::new(&last).unwrap();
        // Somebody else was quicker.
        fs::write(top.join("late"), "mine").unwrap();
        assert!(stage.publish().is_err());
        assert_eq!(fs::read_to_string(top.join("late")).unwrap(), "mine");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_configuration_comes_last_where_folders_differ() {
        assert_eq!(tops_of(&Layout::system()), [Path::new("/var/lib/usshca"), Path::new("/etc/usshca")]);
        assert_eq!(tops_of(&Layout::in_directory(Path::new("/d"))), [Path::new("/d")]);
    }

    #[test]
    fn a_file_is_never_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let stage = Stage::new(&Layout::in_directory(&dir.path().join("ca"))).unwrap();
        stage.file(&stage.layout().config, "x", 0o600, None).unwrap();
        let failed = stage.file(&stage.layout().config, "y", 0o600, None).unwrap_err();
        let said = stage.by_last_names(failed).message;
        assert_eq!(said, format!("{}: File exists (os error 17)", dir.path().join("ca/usshca.toml").display()));
    }
}
