//! What both sides of PAM share: the layout of security/_pam_types.h. Linux-PAM keeps it stable.

use std::ffi::{c_char, c_int, c_void};

pub(crate) const PAM_SUCCESS: c_int = 0;
pub(crate) const PAM_TTY: c_int = 3;
pub(crate) const PAM_RHOST: c_int = 4;
pub(crate) const PAM_ERROR_MSG: c_int = 3;

/// `struct pam_message`
#[repr(C)]
pub(crate) struct RawMessage {
    pub style: c_int,
    pub text: *const c_char,
}

/// `struct pam_response`
#[repr(C)]
pub(crate) struct RawResponse {
    pub text: *mut c_char,
    pub retcode: c_int,
}

/// `struct pam_conv`'s function.
pub(crate) type ConverseFn =
    unsafe extern "C" fn(c_int, *const *const RawMessage, *mut *mut RawResponse, *mut c_void) -> c_int;

/// `struct pam_conv`. The function may be missing: it is the other side's to set.
#[repr(C)]
pub(crate) struct RawConversation {
    pub converse: Option<ConverseFn>,
    pub appdata: *mut c_void,
}
