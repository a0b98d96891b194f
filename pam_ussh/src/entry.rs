//! The six hooks that libpam looks for: all that this library exports. Each only hands on, behind the fence that turns a panic into a refusal.

use std::ffi::{c_char, c_int, c_void};

use ussh_os::pam_module::{PamReturn, run_hook};

use crate::{account, answer, auth, session};

/// pam_authenticate.
/// # Safety
/// libpam's to call (pam_sm_authenticate(3)).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pam_sm_authenticate(
    handle: *mut c_void,
    flags: c_int,
    argc: c_int,
    argv: *const *const c_char,
) -> c_int {
    // SAFETY: libpam's contract for a module's hook (pam_sm_authenticate(3)).
    unsafe { run_hook(handle, flags, argc, argv, PamReturn::AuthInfoUnavail, auth::authenticate) }
}

/// pam_setcred.
/// # Safety
/// libpam's to call (pam_sm_setcred(3)).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pam_sm_setcred(
    handle: *mut c_void,
    flags: c_int,
    argc: c_int,
    argv: *const *const c_char,
) -> c_int {
    // SAFETY: libpam's contract for a module's hook (pam_sm_setcred(3)).
    unsafe { run_hook(handle, flags, argc, argv, PamReturn::AuthInfoUnavail, answer::nothing_to_set) }
}

/// pam_acct_mgmt.
/// # Safety
/// libpam's to call (pam_sm_acct_mgmt(3)).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pam_sm_acct_mgmt(
    handle: *mut c_void,
    flags: c_int,
    argc: c_int,
    argv: *const *const c_char,
) -> c_int {
    // SAFETY: libpam's contract for a module's hook (pam_sm_acct_mgmt(3)).
    unsafe { run_hook(handle, flags, argc, argv, PamReturn::ServiceErr, account::check) }
}

/// pam_open_session.
/// # Safety
/// libpam's to call (pam_sm_open_session(3)).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pam_sm_open_session(
    handle: *mut c_void,
    flags: c_int,
    argc: c_int,
    argv: *const *const c_char,
) -> c_int {
    // SAFETY: libpam's contract for a module's hook (pam_sm_open_session(3)).
    unsafe { run_hook(handle, flags, argc, argv, PamReturn::SessionErr, session::open) }
}

/// pam_close_session.
/// # Safety
/// libpam's to call (pam_sm_close_session(3)).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pam_sm_close_session(
    handle: *mut c_void,
    flags: c_int,
    argc: c_int,
    argv: *const *const c_char,
) -> c_int {
    // SAFETY: libpam's contract for a module's hook (pam_sm_close_session(3)).
    unsafe { run_hook(handle, flags, argc, argv, PamReturn::SessionErr, session::close) }
}

/// pam_chauthtok.
/// # Safety
/// libpam's to call (pam_sm_chauthtok(3)).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pam_sm_chauthtok(
    handle: *mut c_void,
    flags: c_int,
    argc: c_int,
    argv: *const *const c_char,
) -> c_int {
    // SAFETY: libpam's contract for a module's hook (pam_sm_chauthtok(3)).
    unsafe { run_hook(handle, flags, argc, argv, PamReturn::ServiceErr, answer::no_password) }
}
