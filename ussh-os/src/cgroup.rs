//! Control groups of version 2, as far as a session's processes are kept together, stopped and ended by them (Documentation/admin-guide/cgroup-v2.rst).
//!
//! A group is a folder of root's. Whoever runs in it stays in it whatever he forks, and so does what that forks; only who may write to a group that is above both can move him.
//! No controller is needed: `cgroup.freeze` (Linux 5.2) and `cgroup.kill` (5.14) are there in each group but the uppermost.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Deepest tree of groups that is walked.
const MAX_DEPTH: usize = 16;

/// A group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cgroup {
    path: PathBuf,
}

/// Where the tree is mounted as this process sees it: the first mount of it that begins at the tree's own root.
/// # Errors
/// `Unsupported`: nowhere.
pub fn mount_point() -> io::Result<PathBuf> {
    find_mount(&std::fs::read("/proc/self/mountinfo")?)
        .ok_or_else(|| io::Error::new(io::ErrorKind::Unsupported, "no cgroup v2 tree is mounted"))
}

/// proc_pid_mountinfo(5): the fourth field is the root of the mount, the fifth its place, and the type comes behind a dash.
fn find_mount(mountinfo: &[u8]) -> Option<PathBuf> {
    // A mount's place may be any bytes, and with FUSE anybody's choice.
    String::from_utf8_lossy(mountinfo).lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mut fields = before.split(' ').skip(3);
        let (root, place) = (fields.next()?, fields.next()?);
        let is_tree = after.split(' ').next() == Some("cgroup2") && root == "/";
        // Octal escapes stand for blanks, which no mount of this tree has.
        (is_tree && !place.contains('\\')).then(|| PathBuf::from(place))
    })
}

/// Whether a group can be stopped and ended here: tried on a group that is made for it, named `name`, below the one of this process.
/// # Errors
/// Why not.
pub fn try_out(name: &str) -> io::Result<()> {
    let group = Cgroup::of(std::process::id())?.child(name);
    group.make()?;
    let tried = group.freeze().and_then(|()| group.thaw()).and_then(|()| group.kill());
    let removed = group.remove();
    tried?;
    removed
}

impl Cgroup {
    /// The one that the process is in.
    /// # Errors
    /// `NotFound`: no such process; `Unsupported`: no tree, or none of the process's groups can be seen from here.
    pub fn of(pid: u32) -> io::Result<Self> {
        let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).map_err(|e| match e.raw_os_error() {
            Some(libc::ESRCH) => io::ErrorKind::NotFound.into(),
            _ => e,
        })?;
        Self::below(&mount_point()?, &groups)
    }

    /// The one whose folder this is, which need not be there.
    /// # Errors
    /// `Unsupported`: no tree; `InvalidInput`: it is not in the tree.
    pub fn at(path: &Path) -> io::Result<Self> {
        let below = path.strip_prefix(mount_point()?).map_err(|_| io::ErrorKind::InvalidInput)?;
        if !below.components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(Cgroup { path: path.into() })
    }

    /// cgroups(7): the line of version 2 is `0::PATH`. A path that leads up and out of our namespace is none of ours to touch.
    fn below(mount: &Path, groups: &str) -> io::Result<Self> {
        let path = groups.lines().find_map(|line| line.strip_prefix("0::/")).map(Path::new);
        let seen = path.filter(|path| path.components().all(|part| matches!(part, Component::Normal(_))));
        let path = seen.ok_or_else(|| io::Error::new(io::ErrorKind::Unsupported, "in no cgroup of this tree"))?;
        Ok(Cgroup { path: mount.join(path) })
    }

    /// The one of this name in it, which need not be there.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        Cgroup { path: self.path.join(name) }
    }

    /// The one above it; `None`: it is the uppermost of all that there is.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        self.path.parent().map(|path| Cgroup { path: path.into() })
    }

    /// Its own name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }

    /// Its folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What tells it from one of the same name that was there before.
    /// # Errors
    /// It is not there.
    pub fn inode(&self) -> io::Result<u64> {
        Ok(std::fs::metadata(&self.path)?.ino())
    }

    /// Whether it is there.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.path.join("cgroup.procs").exists()
    }

    /// Makes it, with those above it that are missing; one that is there is fine.
    /// # Errors
    /// As the kernel says.
    pub fn make(&self) -> io::Result<()> {
        std::fs::create_dir_all(&self.path)?;
        // Freezing is only ever offered below the uppermost one.
        if self.path.join("cgroup.freeze").exists() && self.path.join("cgroup.kill").exists() {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "this kernel's cgroups cannot be stopped and ended (Linux 5.14)",
        ))
    }

    /// Removes it and those in it, as far as no process lives there; one that is missing is fine.
    /// # Errors
    /// `ResourceBusy` while somebody lives in it.
    pub fn remove(&self) -> io::Result<()> {
        for child in self.children() {
            child.remove()?;
        }
        match std::fs::remove_dir(&self.path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    /// Those right below it.
    #[must_use]
    pub fn children(&self) -> Vec<Self> {
        let entries = std::fs::read_dir(&self.path).into_iter().flatten().flatten();
        let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        folders.map(|entry| Cgroup { path: entry.path() }).collect()
    }

    /// The processes in it and below it, as this process numbers them; one that is missing holds none.
    /// # Errors
    /// As the kernel says.
    pub fn processes(&self) -> io::Result<BTreeSet<u32>> {
        self.listed_in("cgroup.procs")
    }

    /// The threads in it and below it, of whatever process. A process counts to the group of its first thread; one whose first thread has ended, to the one in which that was then, wherever its others are.
    /// # Errors
    /// As the kernel says.
    pub fn threads(&self) -> io::Result<BTreeSet<u32>> {
        self.listed_in("cgroup.threads")
    }

    fn listed_in(&self, file: &str) -> io::Result<BTreeSet<u32>> {
        let (mut found, mut to_ask) = (BTreeSet::new(), vec![(self.clone(), 0)]);
        while let Some((group, depth)) = to_ask.pop() {
            match std::fs::read_to_string(group.path.join(file)) {
                // 0 stands for one that has no number here.
                Ok(list) => {
                    found.extend(list.lines().filter_map(|pid| pid.parse::<u32>().ok()).filter(|pid| *pid != 0))
                }
                Err(e) if is_gone(&e) => continue,
                Err(e) => return Err(e),
            }
            if depth < MAX_DEPTH {
                to_ask.extend(group.children().into_iter().map(|child| (child, depth + 1)));
            }
        }
        Ok(found)
    }

    /// Moves a process into it, with all its threads. One that has ended is no error.
    /// # Errors
    /// As the kernel says.
    pub fn take(&self, pid: u32) -> io::Result<()> {
        self.take_all([pid])
    }

    /// The same for many, which are brought one after the other; it is left at the first error.
    /// # Errors
    /// As the kernel says.
    pub fn take_all(&self, pids: impl IntoIterator<Item = u32>) -> io::Result<()> {
        let mut list = std::fs::OpenOptions::new().write(true).open(self.path.join("cgroup.procs"))?;
        pids.into_iter().try_for_each(|pid| match list.write_all(pid.to_string().as_bytes()) {
            Err(e) if e.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            other => other,
        })
    }

    /// Stops all that is in it and that comes to it, soon: see [`Cgroup::wait_frozen`].
    /// # Errors
    /// As the kernel says.
    pub fn freeze(&self) -> io::Result<()> {
        self.write("cgroup.freeze", "1")
    }

    /// Lets it go on.
    /// # Errors
    /// As the kernel says.
    pub fn thaw(&self) -> io::Result<()> {
        self.write("cgroup.freeze", "0")
    }

    /// Whether it was told to stop.
    #[must_use]
    pub fn is_told_to_stop(&self) -> bool {
        std::fs::read_to_string(self.path.join("cgroup.freeze")).is_ok_and(|told| told.trim() == "1")
    }

    /// Waits at most `patience` until all of it stands still; false: something does not yet (it is in the kernel, where nothing stops it).
    /// # Errors
    /// As the kernel says.
    pub fn wait_frozen(&self, patience: Duration) -> io::Result<bool> {
        self.wait_event("frozen 1", patience)
    }

    /// Waits at most `patience` until nobody lives in it or below it.
    /// # Errors
    /// As the kernel says.
    pub fn wait_empty(&self, patience: Duration) -> io::Result<bool> {
        self.wait_event("populated 0", patience)
    }

    /// SIGKILL to all that is in it and below it; also to what is frozen.
    /// # Errors
    /// As the kernel says.
    pub fn kill(&self) -> io::Result<()> {
        self.write("cgroup.kill", "1")
    }

    fn wait_event(&self, wanted: &str, patience: Duration) -> io::Result<bool> {
        let deadline = Instant::now() + patience;
        let mut events = File::open(self.path.join("cgroup.events"))?;
        let mut text = String::new();
        loop {
            // To be read from its beginning each time, which also arms the poll (kernfs).
            text.clear();
            events.rewind()?;
            events.read_to_string(&mut text)?;
            if text.lines().any(|line| line == wanted) {
                return Ok(true);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            let timeout = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(events.as_fd(), PollFlags::POLLPRI)], timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    fn write(&self, file: &str, text: &str) -> io::Result<()> {
        std::fs::OpenOptions::new().write(true).open(self.path.join(file))?.write_all(text.as_bytes())
    }
}

/// ENODEV: the group was removed while its file was open.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    #[test]
    fn a_folder_is_a_group_only_within_the_tree() {
        let Ok(mount) = mount_point() else { return };
        let own = Cgroup::of(std::process::id()).unwrap();
        assert_eq!(Cgroup::at(own.path()).unwrap(), own);
        for elsewhere in ["/tmp".into(), mount.join("a/../../x"), PathBuf::from("sys/fs/cgroup"), "/".into()] {
            assert_eq!(Cgroup::at(&elsewhere).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{elsewhere:?}");
        }
    }

    #[test]
    fn finds_the_tree_wherever_it_is_and_no_part_of_it() {
        let text = b"24 1 0:22 / /proc rw - proc proc rw\n\
            28 1 0:39 / /home/a/\xff rw - fuse.cgroup2 cgroup2 rw\n\
            30 1 0:27 /lxc/a /mnt rw,relatime shared:4 - cgroup2 cgroup2 rw\n\
            31 1 0:26 / /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(find_mount(text), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(find_mount(b"31 1 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"), None);
        assert_eq!(find_mount(b"31 1 0:26 / /with\\040blank rw - cgroup2 cgroup2 rw\n"), None);
    }

    #[test]
    fn a_group_outside_of_what_is_seen_from_here_is_none() {
        let at = |groups| Cgroup::below(Path::new("/m"), groups).map(|group| group.path);
        assert_eq!(at("4:cpu:/x\n0::/a/b\n").unwrap(), Path::new("/m/a/b"));
        assert_eq!(at("0::/\n").unwrap(), Path::new("/m/"));
        for elsewhere in ["0::/../other\n", "0::/a/../..\n", "4:cpu:/a\n", ""] {
            assert_eq!(at(elsewhere).unwrap_err().kind(), io::ErrorKind::Unsupported, "{elsewhere}");
        }
    }

    /// A group of this test's own; `None`: not root's to make.
    fn group(name: &str) -> Option<Cgroup> {
        if !nix::unistd::geteuid().is_root() {
            return None;
        }
        let group = Cgroup::of(std::process::id()).unwrap().child(&format!("ussh-os-{name}-{}", std::process::id()));
        group.make().unwrap();
        Some(group)
    }

    #[test]
    fn what_is_in_it_stops_with_all_that_it_forked_goes_on_and_ends_by_force() {
        let Some(group) = group("freeze") else { return };
        // Counts; so does what has left it by a double fork.
        let count = "n=0; while :; do n=$((n+1)); echo $1 $n; sleep 0.01; done";
        let script = format!("read go; (setsid sh -c '{count}' sh two &); set -- one; {count}");
        let mut child =
            Command::new("sh").args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (inside, other) = (group.child("inside"), std::process::id());
        inside.make().unwrap();
        inside.take(child.id()).unwrap();
        assert!(group.processes().unwrap().contains(&child.id()));
        assert!(!group.processes().unwrap().contains(&other));
        child.stdin.take().unwrap().write_all(b"go\n").unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        assert!(lines.any(|line| line == "two 3") && lines.any(|line| line.starts_with("one ")));

        group.freeze().unwrap();
        assert!(group.is_told_to_stop());
        assert!(group.wait_frozen(PATIENCE).unwrap());
        let ticks = || -> Vec<String> {
            let all = group.processes().unwrap().into_iter();
            let fields = |pid| std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            all.map(|pid| fields(pid).split(' ').skip(13).take(2).collect()).collect()
        };
        let before = ticks();
        assert!(before.len() >= 2, "both of them: {before:?}");
        assert!(!group.wait_empty(Duration::from_millis(50)).unwrap());
        assert_eq!(ticks(), before, "nobody has used the time");
        assert!(group.remove().is_err(), "somebody lives in it");
        group.thaw().unwrap();
        assert!(!group.is_told_to_stop());
        assert!(lines.any(|line| line.starts_with("two ")) && lines.any(|line| line.starts_with("one ")));

        group.freeze().unwrap();
        group.kill().unwrap();
        child.wait().unwrap();
        assert!(group.wait_empty(PATIENCE).unwrap());
        group.remove().unwrap();
        assert!(!group.exists());
        assert!(group.processes().unwrap().is_empty());
        group.remove().unwrap();
    }

    #[test]
    fn it_can_be_tried_whether_there_is_what_it_takes() {
        if nix::unistd::geteuid().is_root() {
            let name = format!("ussh-os-try-{}", std::process::id());
            try_out(&name).unwrap();
            assert!(!Cgroup::of(std::process::id()).unwrap().child(&name).exists());
        }
    }
}
