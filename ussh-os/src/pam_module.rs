//! PAM from the module's side: a safe handle over pam_handle_t, and the fence that turns panics into refusals.

/// What a hook answers. There is no PAM_IGNORE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PamReturn {
    /// PAM_SUCCESS.
    Success,
    /// PAM_AUTH_ERR: checked, and refused.
    AuthErr,
    /// PAM_PERM_DENIED.
    PermDenied,
    /// PAM_AUTHINFO_UNAVAIL: could not be checked.
    AuthInfoUnavail,
    /// PAM_SERVICE_ERR: misconfigured.
    ServiceErr,
    /// PAM_SESSION_ERR.
    SessionErr,
}

/// A borrowed pam_handle_t.
#[derive(Debug)]
pub struct PamHandle {
    raw: *mut libc::c_void,
}

/// Text to the user.
#[derive(Clone, Copy, Debug)]
pub enum Style {
    /// PAM_TEXT_INFO.
    Info,
    /// PAM_ERROR_MSG.
    Error,
}

impl PamHandle {
    /// For entry points only.
    /// # Safety
    /// `raw` is the handle libpam passed to the running hook, and is not used after it returns.
    pub unsafe fn from_raw(raw: *mut libc::c_void) -> Self {
        PamHandle { raw }
    }
    /// PAM_USER, asking for it if unset (pam_get_user). `None`: unset, not UTF-8 or an error.
    pub fn user(&self) -> Option<String> {
        let _ = self.raw;
        todo!()
    }
    /// PAM_SERVICE.
    pub fn service(&self) -> Option<String> {
        todo!()
    }
    /// PAM_RUSER.
    pub fn ruser(&self) -> Option<String> {
        todo!()
    }
    /// PAM_RHOST.
    pub fn rhost(&self) -> Option<String> {
        todo!()
    }
    /// PAM_TTY.
    pub fn tty(&self) -> Option<String> {
        todo!()
    }
    /// From PAM's own environment (pam_getenv), not the process's.
    pub fn env(&self, name: &str) -> Option<String> {
        let _ = name;
        todo!()
    }
    /// Says something through the conversation; errors are nobody's concern.
    pub fn say(&self, style: Style, text: &str) {
        let _ = (style, text);
        todo!()
    }
    /// Keeps a flag in the handle (pam_set_data) under a name; true if kept.
    pub fn set_mark(&self, name: &str, value: u64) -> bool {
        let _ = (name, value);
        todo!()
    }
    /// A flag kept before.
    pub fn mark(&self, name: &str) -> Option<u64> {
        let _ = name;
        todo!()
    }
}

/// Runs a hook: argv as strings (not UTF-8 = `None`), catches panics (`on_panic` is the answer then), flags PAM_SILENT passed on.
/// # Safety
/// The arguments are those libpam passed to the running hook.
pub unsafe fn run_hook(
    raw: *mut libc::c_void,
    flags: libc::c_int,
    argc: libc::c_int,
    argv: *const *const libc::c_char,
    on_panic: PamReturn,
    hook: fn(&PamHandle, bool, Option<Vec<String>>) -> PamReturn,
) -> libc::c_int {
    let _ = (raw, flags, argc, argv, on_panic, hook);
    todo!()
}

/// A variable from `environ` itself, not through getenv (sudo hooks that: facts). Absolute path or nothing is for the caller to check.
pub fn environ_variable(name: &str) -> Option<std::ffi::OsString> {
    let _ = name;
    todo!()
}
