//! PAM from the module's side: a safe handle over pam_handle_t, and the fence that turns panics into refusals.
//!
//! Process: whoever loads the module (sudo, su, sshd, …), as root. Trusted: libpam and the items it keeps; not what a user put into them.

use std::any::Any;
use std::ffi::{CStr, CString, OsStr, OsString, c_char, c_int, c_void};
use std::fs::OpenOptions;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;

use crate::pam_abi::{PAM_ERROR_MSG, PAM_RHOST, PAM_SUCCESS, PAM_TTY, RawConversation, RawMessage, RawResponse};

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

impl PamReturn {
    /// The number (security/_pam_types.h).
    pub fn code(self) -> c_int {
        match self {
            PamReturn::Success => 0,
            PamReturn::ServiceErr => 3,
            PamReturn::PermDenied => 6,
            PamReturn::AuthErr => 7,
            PamReturn::AuthInfoUnavail => 9,
            PamReturn::SessionErr => 14,
        }
    }
}

const PAM_SERVICE: c_int = 1;
const PAM_CONV: c_int = 5;
const PAM_RUSER: c_int = 8;
const PAM_SILENT: c_int = 0x8000;
/// More arguments than any line of ours has.
const MAX_ARGUMENTS: c_int = 256;

type Cleanup = unsafe extern "C" fn(*mut c_void, *mut c_void, c_int);

// Linked, not left to the host: libpam opens modules RTLD_LOCAL, and a host such as sudo has libpam behind a plugin where a module would not find it.
#[link(name = "pam")]
unsafe extern "C" {
    fn pam_get_item(handle: *const c_void, item: c_int, value: *mut *const c_void) -> c_int;
    fn pam_get_user(handle: *mut c_void, user: *mut *const c_char, prompt: *const c_char) -> c_int;
    fn pam_getenv(handle: *mut c_void, name: *const c_char) -> *const c_char;
    fn pam_set_data(handle: *mut c_void, name: *const c_char, data: *mut c_void, cleanup: Option<Cleanup>) -> c_int;
    fn pam_get_data(handle: *const c_void, name: *const c_char, data: *mut *const c_void) -> c_int;
}

/// A borrowed pam_handle_t.
#[derive(Debug)]
pub struct PamHandle {
    raw: *mut libc::c_void,
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
        let mut user = ptr::null();
        // SAFETY: the handle is live (from_raw's contract), `user` writable; a null prompt means the default one (pam_get_user(3)).
        let code = unsafe { pam_get_user(self.raw, &raw mut user, ptr::null()) };
        if code != PAM_SUCCESS {
            return None;
        }
        // SAFETY: null or a terminated string that stays until the item is set again (pam_get_user(3)); copied at once.
        unsafe { copy(user) }
    }

    // Of the items below what is no UTF-8 is there all the same: U+FFFD stands for each such part of it ([`NOT_TEXT`]).

    /// PAM_SERVICE.
    pub fn service(&self) -> Option<String> {
        self.text(PAM_SERVICE)
    }

    /// PAM_RUSER.
    pub fn ruser(&self) -> Option<String> {
        self.text(PAM_RUSER)
    }

    /// PAM_RHOST.
    pub fn rhost(&self) -> Option<String> {
        self.text(PAM_RHOST)
    }

    /// PAM_TTY.
    pub fn tty(&self) -> Option<String> {
        self.text(PAM_TTY)
    }

    /// From PAM's own environment (pam_getenv), not the process's. As with items, what is no UTF-8 is there all the same.
    pub fn env(&self, name: &str) -> Option<String> {
        let name = CString::new(name).ok()?;
        // SAFETY: the handle is live and the name terminated; the result is null or a terminated string in the handle (pam_getenv(3)), copied at once.
        unsafe { copy_any(pam_getenv(self.raw, name.as_ptr())) }
    }

    /// Says something to the user through the conversation, as PAM_ERROR_MSG whatever it is: PAM_TEXT_INFO is printed by sudo (without a terminal), su and doas on standard output,
    /// among what the command writes there. Errors are nobody's concern.
    pub fn say(&self, text: &str) {
        let Ok(text) = CString::new(text) else { return };
        // SAFETY: PAM_CONV is null or a struct pam_conv that stays while the hook runs (pam_get_item(3)).
        let Some(conversation) =
            self.item(PAM_CONV).and_then(|item| unsafe { item.cast::<RawConversation>().as_ref() })
        else {
            return;
        };
        let Some(converse) = conversation.converse else { return };
        let message = RawMessage { style: PAM_ERROR_MSG, text: text.as_ptr() };
        let pointer = ptr::from_ref(&message);
        let mut response: *mut RawResponse = ptr::null_mut();
        // SAFETY: one pointer to one message with a terminated text, a place for the response, the application's own appdata (pam_conv(3)).
        let code = unsafe { converse(1, &raw const pointer, &raw mut response, conversation.appdata) };
        if code == PAM_SUCCESS && !response.is_null() {
            // SAFETY: on success the one response and its text, if any, are malloc's and ours to free (pam_conv(3)).
            unsafe {
                libc::free((*response).text.cast());
                libc::free(response.cast());
            }
        }
    }

    /// Keeps a value in the handle (pam_set_data) under a name of ours, in place of one kept before; true if kept. It lives as long as the handle, in this process only.
    pub fn keep<T: Any + Clone + Send>(&self, name: &str, value: T) -> bool {
        let Some(name) = data_name(name) else { return false };
        let value: Box<Kept> = Box::new(Box::new(value));
        let data: *mut c_void = Box::into_raw(value).cast();
        kept_values().push(data.addr());
        // SAFETY: the handle is live, the name terminated (libpam copies it), and `forget` is what takes this kind of data back (pam_set_data(3)).
        let code = unsafe { pam_set_data(self.raw, name.as_ptr(), data, Some(forget)) };
        if code != PAM_SUCCESS {
            // SAFETY: libpam did not take it, and nobody else has it.
            unsafe { forget(ptr::null_mut(), data, code) };
        }
        code == PAM_SUCCESS
    }

    /// What was kept before under this name in this handle, if it was [`PamHandle::keep`] of this very library that kept it, and a `T`.
    pub fn kept<T: Any + Clone + Send>(&self, name: &str) -> Option<T> {
        let name = data_name(name)?;
        let mut data = ptr::null();
        // SAFETY: the handle is live, the name terminated and `data` writable (pam_get_data(3)).
        let code = unsafe { pam_get_data(self.raw, name.as_ptr(), &raw mut data) };
        // The names are shared by all modules of a handle: what another one keeps under ours is not followed. Locked until it is copied, or `forget` could be taking it back.
        let values = kept_values();
        if code != PAM_SUCCESS || !values.contains(&data.addr()) {
            return None;
        }
        // SAFETY: a pointer that `keep` made and `forget` has not taken back: it points to a live `Kept`, which nobody changes.
        let value = unsafe { &*data.cast::<Kept>() };
        value.as_ref().downcast_ref::<T>().cloned()
    }

    fn text(&self, item: c_int) -> Option<String> {
        let value = self.item(item)?;
        // SAFETY: the items this is called for are null or terminated strings that stay until they are set again (pam_get_item(3)); copied at once.
        unsafe { copy_any(value.cast()) }
    }

    fn item(&self, item: c_int) -> Option<*const c_void> {
        let mut value = ptr::null();
        // SAFETY: the handle is live and `value` writable (pam_get_item(3)).
        let code = unsafe { pam_get_item(self.raw, item, &raw mut value) };
        (code == PAM_SUCCESS && !value.is_null()).then_some(value)
    }
}

/// What libpam keeps a pointer to for us.
type Kept = Box<dyn Any + Send>;

/// Addresses of the values that libpam keeps for us, of all handles.
static KEPT: Mutex<Vec<usize>> = Mutex::new(Vec::new());

fn kept_values() -> std::sync::MutexGuard<'static, Vec<usize>> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes a value back: libpam calls it when the handle ends, or another value takes the place (pam_set_data(3)). The library is still loaded then (pam_end.c drops data before modules).
/// # Safety
/// `data` is one that `keep` made, or one that it never saw.
unsafe extern "C" fn forget(_handle: *mut c_void, data: *mut c_void, _status: c_int) {
    let mut values = kept_values();
    let Some(place) = values.iter().position(|&value| value == data.addr()) else { return };
    values.swap_remove(place);
    if values.is_empty() {
        values.shrink_to_fit();
    }
    // SAFETY: made by `keep` with Box::into_raw, and on the list until now: it is dropped once.
    let value = unsafe { Box::from_raw(data.cast::<Kept>()) };
    // The fence for what is called by libpam itself.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(value)));
}

/// The names are shared by all modules of a handle.
fn data_name(name: &str) -> Option<CString> {
    CString::new(format!("pam_ussh:{name}")).ok()
}

/// While it lives, descriptors 0 to 2 are open: else a socket or file of ours would get one of them in a host that has them closed, and what the host prints meanwhile would go into it.
struct StandardDescriptors {
    _ours: Vec<OwnedFd>,
}

impl StandardDescriptors {
    fn fill() -> Self {
        let mut ours = Vec::new();
        for number in 0..=2 {
            // SAFETY: a question on a plain number (fcntl(2) F_GETFD).
            let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
            if flags != -1 || Errno::last() != Errno::EBADF {
                continue;
            }
            // The lowest free number is this one. Close-on-exec is std's default.
            match OpenOptions::new().read(true).write(true).open("/dev/null") {
                Ok(file) if file.as_raw_fd() == number => ours.push(file.into()),
                _ => {}
            }
        }
        StandardDescriptors { _ours: ours }
    }
}

/// `None` for null and for what is no UTF-8.
/// # Safety
/// `text` is null or a terminated string that does not change during the call.
unsafe fn copy(text: *const c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: the caller's contract.
    unsafe { CStr::from_ptr(text) }.to_str().ok().map(str::to_owned)
}

/// What stands in an item or variable for bytes that are no UTF-8. Whoever decides by one refuses where this is in it: read as unset, it would count for what a caller from here has.
pub const NOT_TEXT: char = char::REPLACEMENT_CHARACTER;

/// `None` for null only.
/// # Safety
/// As [`copy`].
unsafe fn copy_any(text: *const c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: the caller's contract.
    Some(unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}

/// Runs a hook: argv as strings (not UTF-8 = `None`), catches panics (`on_panic` is the answer then), flags PAM_SILENT passed on.
/// A panic is not printed, since descriptor 2 is the host's: it goes to syslog by its place in the source.
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
    if raw.is_null() {
        return on_panic.code();
    }
    let run = || {
        let _descriptors = StandardDescriptors::fill();
        // SAFETY: the caller's contract: the handle and the arguments are libpam's.
        let (handle, arguments) = unsafe { (PamHandle::from_raw(raw), arguments(argc, argv)) };
        hook(&handle, flags & PAM_SILENT != 0, arguments)
    };
    // This module's own copy of std has its own panic hook: the host's Rust, if it has any, is not touched. It is put back for tests that run many of these.
    let quiet = catch_unwind(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(report_panic));
        before
    });
    let answer = catch_unwind(AssertUnwindSafe(run)).unwrap_or(on_panic);
    if let Ok(before) = quiet {
        // Cannot panic: this thread is not unwinding.
        std::panic::set_hook(before);
    }
    answer.code()
}

fn report_panic(panic: &std::panic::PanicHookInfo<'_>) {
    // Not the payload: it may quote what it tripped over.
    let place = panic.location().map_or_else(String::new, |place| format!(" at {}:{}", place.file(), place.line()));
    crate::syslog::authpriv("pam_ussh", crate::syslog::Severity::Error, &format!("internal error{place}: refusing"));
}

/// # Safety
/// `argv` is null or holds `argc` terminated strings.
unsafe fn arguments(argc: c_int, argv: *const *const c_char) -> Option<Vec<String>> {
    if argc == 0 {
        return Some(Vec::new());
    }
    if argv.is_null() || !(0..=MAX_ARGUMENTS).contains(&argc) {
        return None;
    }
    // SAFETY: the caller's contract: `argc` pointers, each null or a terminated string.
    (0..argc as usize).map(|index| unsafe { copy(argv.add(index).read()) }).collect()
}

/// A variable from `environ` itself, not through getenv (sudo hooks that: facts). Absolute path or nothing is for the caller to check.
pub fn environ_variable(name: &str) -> Option<OsString> {
    // Not std's vars_os, which copies all of it first.
    let mut entry = environ();
    if entry.is_null() {
        return None;
    }
    loop {
        // SAFETY: `environ` ends in a null pointer, and each one before it is a terminated string (environ(7)); nobody changes it while a hook runs, or getenv would be as unsafe.
        let text = unsafe { entry.read() };
        if text.is_null() {
            return None;
        }
        // SAFETY: as above; copied at once.
        let text = unsafe { CStr::from_ptr(text) }.to_bytes();
        if let Some(value) = text.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"=")) {
            return Some(OsStr::from_bytes(value).to_owned());
        }
        // SAFETY: not past the null pointer, which was not met yet.
        entry = unsafe { entry.add(1) };
    }
}

/// environ(7); null after clearenv(3).
fn environ() -> *const *const c_char {
    unsafe extern "C" {
        static environ: *const *const c_char;
    }
    // SAFETY: libc's own variable, of this type (environ(7)).
    unsafe { environ }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    // The other side of PAM is declared in pam_application with that module's own types.
    #[allow(clashing_extern_declarations)]
    unsafe extern "C" {
        fn pam_start(
            service: *const c_char,
            user: *const c_char,
            conversation: *const RawConversation,
            handle: *mut *mut c_void,
        ) -> c_int;
        fn pam_end(handle: *mut c_void, status: c_int) -> c_int;
        fn pam_putenv(handle: *mut c_void, line: *const c_char) -> c_int;
        fn pam_set_item(handle: *mut c_void, item: c_int, value: *const c_void) -> c_int;
    }

    /// Notes "style text" of each message in the Vec<String> that appdata points to, and answers like sshd: an empty response.
    unsafe extern "C" fn note(
        count: c_int,
        messages: *const *const RawMessage,
        responses: *mut *mut RawResponse,
        appdata: *mut c_void,
    ) -> c_int {
        // SAFETY: the contract of conv(), as `say` keeps it; appdata is the test's own.
        unsafe {
            let heard = &mut *appdata.cast::<Vec<String>>();
            for index in 0..count as usize {
                let message = &**messages.add(index);
                heard.push(format!("{} {}", message.style, copy(message.text).unwrap()));
            }
            *responses = libc::calloc(count as usize, size_of::<RawResponse>()).cast();
        }
        PAM_SUCCESS
    }

    /// A real handle, made as an application would.
    fn with_handle(test: impl FnOnce(&PamHandle)) -> Vec<String> {
        let mut heard: Vec<String> = Vec::new();
        let conversation = RawConversation { converse: Some(note), appdata: ptr::from_mut(&mut heard).cast() };
        let mut raw = ptr::null_mut();
        // SAFETY: terminated strings, and pointers that outlive the handle.
        unsafe {
            assert_eq!(
                pam_start(c"ussh-os-test".as_ptr(), c"alice".as_ptr(), &raw const conversation, &raw mut raw),
                0
            );
            assert_eq!(pam_putenv(raw, c"SSH_AUTH_INFO_0=publickey x y".as_ptr()), 0);
            test(&PamHandle::from_raw(raw));
            pam_end(raw, 0);
        }
        heard
    }

    #[test]
    fn reads_items_and_environment() {
        with_handle(|handle| {
            assert_eq!(handle.user().as_deref(), Some("alice"));
            assert_eq!(handle.service().as_deref(), Some("ussh-os-test"));
            assert_eq!((handle.ruser(), handle.rhost(), handle.tty()), (None, None, None));
            assert_eq!(handle.env("SSH_AUTH_INFO_0").as_deref(), Some("publickey x y"));
            assert_eq!(handle.env("PATH"), None, "the process's environment is another one");
            assert_eq!(handle.env("A\0B"), None);
        });
    }

    #[test]
    fn an_item_that_is_no_text_is_not_an_unset_one() {
        with_handle(|handle| {
            for item in [PAM_SERVICE, PAM_RUSER, PAM_RHOST, PAM_TTY] {
                // SAFETY: the handle is live and the value terminated (pam_set_item(3) copies it).
                let code = unsafe { pam_set_item(handle.raw, item, c"\xffevil".as_ptr().cast()) };
                assert_eq!(code, PAM_SUCCESS, "{item}");
            }
            for read in [handle.service(), handle.ruser(), handle.rhost(), handle.tty()] {
                assert_eq!(read, Some(format!("{NOT_TEXT}evil")));
            }
            // SAFETY: as above.
            unsafe { assert_eq!(pam_putenv(handle.raw, c"SSH_AUTH_INFO_0=\xff".as_ptr()), PAM_SUCCESS) };
            assert_eq!(handle.env("SSH_AUTH_INFO_0"), Some(NOT_TEXT.to_string()));
        });
    }

    #[test]
    fn says_through_the_conversation() {
        let heard = with_handle(|handle| {
            handle.say("no");
            handle.say("well");
            handle.say("not\0this");
        });
        assert_eq!(heard, ["3 no", "3 well"]);
    }

    #[test]
    fn nothing_is_kept_where_libpam_does_not_keep_it() {
        // libpam keeps data for modules while a hook runs; here an application holds the handle. That it is kept there is for pam_ussh's tests to show.
        with_handle(|handle| {
            assert!(!handle.keep("proof", 7u64));
            assert_eq!(handle.kept::<u64>("proof"), None);
            assert!(!handle.keep("a\0b", 7u64));
        });
    }

    #[test]
    fn a_value_is_dropped_once_and_only_if_it_is_ours() {
        let counted = std::sync::Arc::new(());
        let value: Box<Kept> = Box::new(Box::new(std::sync::Arc::clone(&counted)));
        let data: *mut c_void = Box::into_raw(value).cast();
        // SAFETY: not on the list: it is not touched.
        unsafe { forget(ptr::null_mut(), data, 0) };
        assert_eq!(std::sync::Arc::strong_count(&counted), 2);
        kept_values().push(data.addr());
        // SAFETY: made as `keep` makes it; the second call finds it no longer on the list.
        unsafe {
            forget(ptr::null_mut(), data, 0);
            forget(ptr::null_mut(), data, 0);
        }
        assert_eq!(std::sync::Arc::strong_count(&counted), 1);
    }

    fn run(
        argv: &[*const c_char],
        flags: c_int,
        hook: fn(&PamHandle, bool, Option<Vec<String>>) -> PamReturn,
    ) -> c_int {
        let mut code = -1;
        with_handle(|handle| {
            // SAFETY: a live handle and terminated strings.
            code = unsafe {
                run_hook(handle.raw, flags, argv.len() as c_int, argv.as_ptr(), PamReturn::AuthInfoUnavail, hook)
            };
        });
        code
    }

    #[test]
    fn passes_arguments_and_silence_on() {
        let argv = [c"group=staff".as_ptr(), c"debug".as_ptr()];
        let code = run(&argv, PAM_SILENT | 1, |_, silent, arguments| {
            assert!(silent);
            assert_eq!(arguments.unwrap(), ["group=staff", "debug"]);
            PamReturn::Success
        });
        assert_eq!(code, 0);
        let code =
            run(
                &[],
                1,
                |_, silent, arguments| {
                    if !silent && arguments == Some(vec![]) { PamReturn::Success } else { PamReturn::AuthErr }
                },
            );
        assert_eq!(code, 0);
    }

    #[test]
    fn arguments_that_are_no_text_are_none() {
        let odd: fn(&PamHandle, bool, Option<Vec<String>>) -> PamReturn =
            |_, _, arguments| if arguments.is_none() { PamReturn::ServiceErr } else { PamReturn::Success };
        assert_eq!(run(&[c"debug".as_ptr(), c"\xff".as_ptr()], 0, odd), 3);
        assert_eq!(run(&[ptr::null()], 0, odd), 3);
        // SAFETY: a null array is what is tested.
        unsafe { assert_eq!(arguments(3, ptr::null()), None) };
        // SAFETY: the count is refused before the array is looked at.
        unsafe { assert_eq!(arguments(-1, [c"x".as_ptr()].as_ptr()), None) };
    }

    #[test]
    fn a_panic_refuses() {
        assert_eq!(run(&[], 0, |_, _, _| panic!("on purpose")), 9);
        // SAFETY: a null handle is what is tested: nothing is called.
        let code = unsafe {
            run_hook(ptr::null_mut(), 0, 0, ptr::null(), PamReturn::SessionErr, |_, _, _| PamReturn::Success)
        };
        assert_eq!(code, 14);
    }

    #[test]
    fn environment_is_read_where_getenv_is_hooked() {
        assert!(environ_variable("PATH").is_some());
        assert_eq!(environ_variable("USSH_NO_SUCH_VARIABLE"), None);
        assert_eq!(environ_variable(""), None);
    }

    #[test]
    fn codes_are_those_of_linux_pam() {
        use PamReturn::{AuthErr, AuthInfoUnavail, PermDenied, ServiceErr, SessionErr, Success};
        assert_eq!(
            [Success, ServiceErr, PermDenied, AuthErr, AuthInfoUnavail, SessionErr].map(PamReturn::code),
            [0, 3, 6, 7, 9, 14]
        );
    }
}
