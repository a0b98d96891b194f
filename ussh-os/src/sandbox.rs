//! Giving privilege up for good: no capabilities, NoNewPrivs, a seccomp filter.

/// Which filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// usshca-front: an open TCP socket, its IPC sockets, memory, time, epoll. No open, no socket, no exec, no fork.
    Front,
    /// usshca-signer: files under its state folder, AF_UNIX descriptors it is passed, no socket() of another family, no exec, no fork (threads yes).
    Signer,
}

/// Enters: drops every capability set and the bounding set as far as allowed, sets NoNewPrivs, installs the filter (forbidden calls fail with EPERM, the dangerous ones kill).
/// # Errors
/// Any step that failed; the caller must exit then.
pub fn enter(profile: Profile) -> std::io::Result<()> {
    let _ = profile;
    todo!()
}

/// Makes an empty, read-only root the process's root (chroot into `empty_directory`; needs CAP_SYS_CHROOT).
/// # Errors
/// As the kernel says.
pub fn enter_empty_root(empty_directory: &std::path::Path) -> std::io::Result<()> {
    let _ = empty_directory;
    todo!()
}

/// Resource limits of this process.
/// # Errors
/// As the kernel says.
pub fn limit(
    address_space_bytes: Option<u64>,
    cpu_seconds: Option<u64>,
    open_files: Option<u64>,
) -> std::io::Result<()> {
    let _ = (address_space_bytes, cpu_seconds, open_files);
    todo!()
}
