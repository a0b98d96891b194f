//! PAM from the application's side (pam_start … pam_end): the CA's worker and tests use it.
//!
//! Trusted: libpam and the modules it loads (they run in this process). What they say is shown to people; what people answer goes to them and nowhere else.

use std::cell::Cell;
use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::time::Duration;

use zeroize::{Zeroize, Zeroizing};

use crate::pam_abi::{PAM_ERROR_MSG, PAM_RHOST, PAM_SUCCESS, PAM_TTY, RawConversation, RawMessage, RawResponse};

/// One message of a conversation. Text that is no UTF-8 has replacement characters; nothing else in it is changed: escape before printing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PamMessage {
    /// PAM_PROMPT_ECHO_OFF.
    PromptEchoOff(String),
    /// PAM_PROMPT_ECHO_ON.
    PromptEchoOn(String),
    /// PAM_TEXT_INFO.
    Info(String),
    /// PAM_ERROR_MSG.
    Error(String),
}

impl PamMessage {
    fn is_prompt(&self) -> bool {
        match self {
            PamMessage::PromptEchoOff(_) | PamMessage::PromptEchoOn(_) => true,
            PamMessage::Info(_) | PamMessage::Error(_) => false,
        }
    }
}

/// Answers messages. Called with all messages of one conv() call; gives one answer per *prompt*, in order.
pub trait Conversation {
    /// `None`: the conversation is over (the user went away): PAM gets PAM_CONV_ERR. So it does for a wrong number of answers, and for an answer that holds NUL
    /// or is longer than 511 bytes (PAM_MAX_RESP_SIZE): modules would take a part of it for the whole.
    fn converse(&mut self, messages: &[PamMessage]) -> Option<Vec<Zeroizing<String>>>;
}

/// A PAM error code with pam_strerror's text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text} ({code})")]
pub struct PamError {
    /// PAM_AUTH_ERR, …
    pub code: i32,
    /// pam_strerror.
    pub text: String,
}

/// PAM_NEW_AUTHTOK_REQD: account management wants a new password first.
pub const NEW_AUTHTOK_REQD: i32 = 12;

// security/_pam_types.h
const PAM_SYSTEM_ERR: c_int = 4;
const PAM_CONV_ERR: c_int = 19;
const PAM_USER: c_int = 2;
const PAM_FAIL_DELAY: c_int = 10;
const PAM_PROMPT_ECHO_OFF: c_int = 1;
const PAM_PROMPT_ECHO_ON: c_int = 2;
const PAM_TEXT_INFO: c_int = 4;
const PAM_DISALLOW_NULL_AUTHTOK: c_int = 1;
const PAM_CHANGE_EXPIRED_AUTHTOK: c_int = 0x20;
const PAM_MAX_NUM_MSG: usize = 32;
const PAM_MAX_RESP_SIZE: usize = 512;

type FailDelayFn = unsafe extern "C" fn(c_int, c_uint, *mut c_void);

/// `pam_handle_t`
type RawHandle = c_void;

#[link(name = "pam")]
unsafe extern "C" {
    fn pam_start(
        service: *const c_char,
        user: *const c_char,
        conversation: *const RawConversation,
        handle: *mut *mut RawHandle,
    ) -> c_int;
    fn pam_start_confdir(
        service: *const c_char,
        user: *const c_char,
        conversation: *const RawConversation,
        folder: *const c_char,
        handle: *mut *mut RawHandle,
    ) -> c_int;
    fn pam_end(handle: *mut RawHandle, status: c_int) -> c_int;
    fn pam_set_item(handle: *mut RawHandle, item: c_int, value: *const c_void) -> c_int;
    fn pam_get_item(handle: *const RawHandle, item: c_int, value: *mut *const c_void) -> c_int;
    fn pam_authenticate(handle: *mut RawHandle, flags: c_int) -> c_int;
    fn pam_acct_mgmt(handle: *mut RawHandle, flags: c_int) -> c_int;
    fn pam_chauthtok(handle: *mut RawHandle, flags: c_int) -> c_int;
    fn pam_strerror(handle: *mut RawHandle, code: c_int) -> *const c_char;
}

/// What the callbacks work on: `appdata_ptr`.
struct Shared<C> {
    conversation: C,
    delay_microseconds: Cell<c_uint>,
}

/// An open handle. pam_end on drop.
pub struct PamApplication<C: Conversation> {
    handle: *mut RawHandle,
    /// From Box::into_raw. Only the callbacks look into it while libpam runs, and only we while it does not.
    shared: *mut Shared<C>,
    last_status: c_int,
    _owns: PhantomData<Shared<C>>,
}

impl<C: Conversation> std::fmt::Debug for PamApplication<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PamApplication")
    }
}

impl<C: Conversation> PamApplication<C> {
    /// pam_start.
    /// # Errors
    /// [`PamError`]
    pub fn start(service: &str, user: &str, conversation: C) -> Result<Self, PamError> {
        Self::start_with(service, user, None, conversation)
    }

    /// pam_start_confdir (since Linux-PAM 1.4): with the stacks of this folder instead of /etc/pam.d. What they include by a relative name Debian still looks for there.
    /// # Errors
    /// [`PamError`]
    pub fn start_in(folder: &str, service: &str, user: &str, conversation: C) -> Result<Self, PamError> {
        Self::start_with(service, user, Some(folder), conversation)
    }

    fn start_with(service: &str, user: &str, folder: Option<&str>, conversation: C) -> Result<Self, PamError> {
        let (service, user) = (c_string(service)?, c_string(user)?);
        let folder = folder.map(c_string).transpose()?;
        let shared = Box::into_raw(Box::new(Shared { conversation, delay_microseconds: Cell::new(0) }));
        let raw = RawConversation { converse: Some(converse::<C>), appdata: shared.cast() };
        let mut handle = ptr::null_mut();
        // SAFETY: all pointers are valid during the call; libpam copies the strings and the struct (pam_start(3)). `appdata` lives until Drop, after pam_end.
        let code = unsafe {
            match &folder {
                None => pam_start(service.as_ptr(), user.as_ptr(), &raw const raw, &raw mut handle),
                Some(folder) => {
                    pam_start_confdir(service.as_ptr(), user.as_ptr(), &raw const raw, folder.as_ptr(), &raw mut handle)
                }
            }
        };
        if code != PAM_SUCCESS || handle.is_null() {
            // SAFETY: no handle was made, so nobody else holds this pointer, which came from Box::into_raw.
            drop(unsafe { Box::from_raw(shared) });
            return Err(error_of(ptr::null_mut(), if code == PAM_SUCCESS { PAM_SYSTEM_ERR } else { code }));
        }
        let mut application = PamApplication { handle, shared, last_status: PAM_SUCCESS, _owns: PhantomData };
        let hook: FailDelayFn = keep_delay::<C>;
        // SAFETY: PAM_FAIL_DELAY takes a function pointer of this type for its value (pam_set_item(3)).
        let code = unsafe { pam_set_item(application.handle, PAM_FAIL_DELAY, hook as *const c_void) };
        application.outcome(code)?;
        Ok(application)
    }

    /// PAM_RHOST.
    /// # Errors
    /// [`PamError`]
    pub fn set_rhost(&mut self, rhost: &str) -> Result<(), PamError> {
        self.set_text(PAM_RHOST, rhost)
    }

    /// PAM_TTY.
    /// # Errors
    /// [`PamError`]
    pub fn set_tty(&mut self, tty: &str) -> Result<(), PamError> {
        self.set_text(PAM_TTY, tty)
    }

    /// pam_authenticate; empty passwords are refused (PAM_DISALLOW_NULL_AUTHTOK).
    /// PAM_FAIL_DELAY is taken over by us: the delay that modules asked for is kept ([`PamApplication::fail_delay`]), not slept by libpam.
    /// # Errors
    /// [`PamError`]
    pub fn authenticate(&mut self) -> Result<(), PamError> {
        self.forget_delay();
        // SAFETY: the handle is open, and its conversation alive (pam_authenticate(3)).
        let code = unsafe { pam_authenticate(self.handle, PAM_DISALLOW_NULL_AUTHTOK) };
        self.outcome(code)
    }

    /// pam_acct_mgmt.
    /// # Errors
    /// [`PamError`]
    pub fn acct_mgmt(&mut self) -> Result<(), PamError> {
        self.forget_delay();
        // SAFETY: the handle is open, and its conversation alive (pam_acct_mgmt(3)).
        let code = unsafe { pam_acct_mgmt(self.handle, PAM_DISALLOW_NULL_AUTHTOK) };
        self.outcome(code)
    }

    /// pam_chauthtok with PAM_CHANGE_EXPIRED_AUTHTOK.
    /// # Errors
    /// [`PamError`]
    pub fn change_expired_password(&mut self) -> Result<(), PamError> {
        self.forget_delay();
        // SAFETY: the handle is open, and its conversation alive (pam_chauthtok(3)).
        let code = unsafe { pam_chauthtok(self.handle, PAM_CHANGE_EXPIRED_AUTHTOK) };
        self.outcome(code)
    }

    /// The delay that modules asked for (pam_fail_delay(3), the longest of them with libpam's jitter) in the last call, if that failed; the caller keeps it before it
    /// tells anybody. `None`: none asked for.
    pub fn fail_delay(&self) -> Option<Duration> {
        // SAFETY: `shared` lives as long as we do, and no callback runs while libpam does not.
        let delay = unsafe { (*self.shared).delay_microseconds.get() };
        (self.last_status != PAM_SUCCESS && delay > 0).then(|| Duration::from_micros(delay.into()))
    }

    /// PAM_USER as the modules left it.
    /// # Errors
    /// [`PamError`]; PAM_SYSTEM_ERR if there is none, or if it is no UTF-8.
    pub fn user(&self) -> Result<String, PamError> {
        let mut value = ptr::null();
        // SAFETY: the handle is open and `value` writable (pam_get_item(3)).
        let code = unsafe { pam_get_item(self.handle, PAM_USER, &raw mut value) };
        if code != PAM_SUCCESS {
            return Err(error_of(self.handle, code));
        }
        // SAFETY: PAM_USER is null or a terminated string that stays until the item is set again (pam_get_item(3)); it is copied at once.
        let user = unsafe { text_of(value.cast()) };
        match user.map(CStr::to_str) {
            Some(Ok(user)) if !user.is_empty() => Ok(user.to_owned()),
            _ => Err(error_of(self.handle, PAM_SYSTEM_ERR)),
        }
    }

    fn set_text(&mut self, item: c_int, value: &str) -> Result<(), PamError> {
        let value = c_string(value)?;
        // SAFETY: the handle is open; these items take a terminated string, which libpam copies (pam_set_item(3)).
        let code = unsafe { pam_set_item(self.handle, item, value.as_ptr().cast()) };
        self.outcome(code)
    }

    fn forget_delay(&mut self) {
        // SAFETY: `shared` lives as long as we do, and no callback runs while libpam does not.
        unsafe { (*self.shared).delay_microseconds.set(0) };
    }

    fn outcome(&mut self, code: c_int) -> Result<(), PamError> {
        self.last_status = code;
        if code == PAM_SUCCESS { Ok(()) } else { Err(error_of(self.handle, code)) }
    }
}

impl<C: Conversation> Drop for PamApplication<C> {
    fn drop(&mut self) {
        // SAFETY: the handle is open and not used again (pam_end(3)).
        unsafe { pam_end(self.handle, self.last_status) };
        // SAFETY: from Box::into_raw; with the handle gone nobody else holds it.
        drop(unsafe { Box::from_raw(self.shared) });
    }
}

/// A C string, or the error that PAM itself has for unusable arguments.
fn c_string(text: &str) -> Result<CString, PamError> {
    CString::new(text).map_err(|_| error_of(ptr::null_mut(), PAM_SYSTEM_ERR))
}

fn error_of(handle: *mut RawHandle, code: c_int) -> PamError {
    // SAFETY: pam_strerror takes any code, does not look at the handle, and gives null or a terminated string that stays (pam_strerror(3)).
    let text = unsafe { text_of(pam_strerror(handle, code)) };
    PamError { code, text: text.map(|text| text.to_string_lossy().into_owned()).unwrap_or_default() }
}

/// # Safety
/// `text` is null or a terminated string that stays unchanged as long as the result is used.
unsafe fn text_of<'a>(text: *const c_char) -> Option<&'a CStr> {
    if text.is_null() {
        return None;
    }
    // SAFETY: the caller's contract.
    Some(unsafe { CStr::from_ptr(text) })
}

/// The delay function (security/_pam_types.h at PAM_FAIL_DELAY): notes instead of sleeping.
unsafe extern "C" fn keep_delay<C>(_status: c_int, microseconds: c_uint, appdata: *mut c_void) {
    // SAFETY: libpam passes back the appdata of pam_start, a live Shared<C>.
    if let Some(shared) = unsafe { appdata.cast::<Shared<C>>().as_ref() } {
        shared.delay_microseconds.set(microseconds);
    }
}

/// The conversation function (pam_conv(3)). No panic leaves it: unwinding through C would be undefined.
unsafe extern "C" fn converse<C: Conversation>(
    count: c_int,
    messages: *const *const RawMessage,
    responses: *mut *mut RawResponse,
    appdata: *mut c_void,
) -> c_int {
    let run = || {
        // SAFETY: libpam's contract for conv(): `count` message pointers, a place for the responses, the appdata of pam_start (pam_conv(3)). Linux-PAM's `messages` is
        // an array of pointers. libpam does not call us from within our own callback, so the &mut is the only one.
        let (messages, shared) = unsafe { (copy_messages(count, messages)?, appdata.cast::<Shared<C>>().as_mut()?) };
        if responses.is_null() {
            return None;
        }
        let answers = shared.conversation.converse(&messages)?;
        let array = Responses::build(&messages, &answers)?;
        // SAFETY: not null, and a place for one pointer (pam_conv(3)); the caller frees what it gets.
        unsafe { responses.write(array.release()) };
        Some(())
    };
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Some(())) => PAM_SUCCESS,
        Ok(None) | Err(_) => PAM_CONV_ERR,
    }
}

/// `None` for what no text conversation can carry: no or more than 32 messages, binary prompts, unknown styles.
/// # Safety
/// `messages` is null or holds `count` pointers to messages whose texts are null or terminated.
unsafe fn copy_messages(count: c_int, messages: *const *const RawMessage) -> Option<Vec<PamMessage>> {
    let count = usize::try_from(count).ok().filter(|count| (1..=PAM_MAX_NUM_MSG).contains(count))?;
    if messages.is_null() {
        return None;
    }
    let mut copied = Vec::with_capacity(count);
    for index in 0..count {
        // SAFETY: the caller's contract.
        let message = unsafe { messages.add(index).read().as_ref() }?;
        // SAFETY: the caller's contract.
        let text = unsafe { text_of(message.text) }.map(|text| text.to_string_lossy().into_owned()).unwrap_or_default();
        copied.push(match message.style {
            PAM_PROMPT_ECHO_OFF => PamMessage::PromptEchoOff(text),
            PAM_PROMPT_ECHO_ON => PamMessage::PromptEchoOn(text),
            PAM_TEXT_INFO => PamMessage::Info(text),
            PAM_ERROR_MSG => PamMessage::Error(text),
            _ => return None,
        });
    }
    Some(copied)
}

/// An array of responses on malloc's heap, since modules free it. Ours until released: then wiped and freed on drop.
struct Responses {
    array: *mut RawResponse,
    count: usize,
}

impl Responses {
    fn build(messages: &[PamMessage], answers: &[Zeroizing<String>]) -> Option<Self> {
        if messages.iter().filter(|message| message.is_prompt()).count() != answers.len() {
            return None;
        }
        // SAFETY: calloc takes any sizes (calloc(3)). All zeroes is a valid RawResponse: no text.
        let array: *mut RawResponse = unsafe { libc::calloc(messages.len(), size_of::<RawResponse>()) }.cast();
        if array.is_null() {
            return None;
        }
        let responses = Responses { array, count: messages.len() };
        let mut answers = answers.iter();
        for (index, message) in messages.iter().enumerate() {
            if message.is_prompt() {
                let text = duplicate(answers.next()?)?;
                // SAFETY: `index` is below the number of elements that calloc was asked for.
                unsafe { (*array.add(index)).text = text };
            }
        }
        Some(responses)
    }

    fn release(self) -> *mut RawResponse {
        let array = self.array;
        std::mem::forget(self);
        array
    }
}

impl Drop for Responses {
    fn drop(&mut self) {
        for index in 0..self.count {
            // SAFETY: `index` is below the number of elements; the text is null or from `duplicate`, so writable up to its NUL and malloc's.
            unsafe {
                let text = (*self.array.add(index)).text;
                if !text.is_null() {
                    std::slice::from_raw_parts_mut(text.cast::<u8>(), libc::strlen(text)).zeroize();
                    libc::free(text.cast());
                }
            }
        }
        // SAFETY: from calloc, and not used again.
        unsafe { libc::free(self.array.cast()) };
    }
}

/// strdup with the limits of an answer.
fn duplicate(answer: &str) -> Option<*mut c_char> {
    if answer.len() >= PAM_MAX_RESP_SIZE || answer.as_bytes().contains(&0) {
        return None;
    }
    // SAFETY: calloc takes any sizes; one byte more than the text, so it stays terminated (calloc(3)).
    let text: *mut c_char = unsafe { libc::calloc(answer.len() + 1, 1) }.cast();
    if text.is_null() {
        return None;
    }
    // SAFETY: the new block is longer than the text, and they cannot overlap.
    unsafe { ptr::copy_nonoverlapping(answer.as_ptr(), text.cast(), answer.len()) };
    Some(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    struct Script<F>(F);
    impl<F: FnMut(&[PamMessage]) -> Option<Vec<Zeroizing<String>>>> Conversation for Script<F> {
        fn converse(&mut self, messages: &[PamMessage]) -> Option<Vec<Zeroizing<String>>> {
            self.0(messages)
        }
    }

    fn answers(texts: &[&str]) -> Option<Vec<Zeroizing<String>>> {
        Some(texts.iter().map(|text| Zeroizing::new((*text).to_owned())).collect())
    }

    /// Calls the callback as a module does. Gives its code and the responses as strings.
    fn call<C: Conversation>(conversation: C, messages: &[(c_int, &str)]) -> (c_int, Vec<Option<String>>) {
        let texts: Vec<CString> = messages.iter().map(|(_, text)| CString::new(*text).unwrap()).collect();
        let raw: Vec<RawMessage> = messages
            .iter()
            .zip(&texts)
            .map(|((style, _), text)| RawMessage { style: *style, text: text.as_ptr() })
            .collect();
        let pointers: Vec<*const RawMessage> = raw.iter().map(ptr::from_ref).collect();
        let mut shared = Shared { conversation, delay_microseconds: Cell::new(0) };
        let mut responses = ptr::null_mut();
        // SAFETY: the contract of conv(), kept as libpam would.
        let code = unsafe {
            converse::<C>(
                messages.len() as c_int,
                pointers.as_ptr(),
                &raw mut responses,
                ptr::from_mut(&mut shared).cast(),
            )
        };
        if responses.is_null() {
            return (code, Vec::new());
        }
        let responses = Responses { array: responses, count: messages.len() };
        // SAFETY: as many responses as messages, each null or terminated.
        let texts = (0..messages.len())
            .map(|i| unsafe { text_of((*responses.array.add(i)).text) }.map(|t| t.to_str().unwrap().to_owned()))
            .collect();
        (code, texts)
    }

    #[test]
    fn one_answer_per_prompt_in_order() {
        let script = Script(|messages: &[PamMessage]| {
            assert_eq!(
                messages,
                [
                    PamMessage::Info("hello".into()),
                    PamMessage::PromptEchoOff("Password: ".into()),
                    PamMessage::Error("soon".into()),
                    PamMessage::PromptEchoOn("Code: ".into())
                ]
            );
            answers(&["secret", "123"])
        });
        let messages = [
            (PAM_TEXT_INFO, "hello"),
            (PAM_PROMPT_ECHO_OFF, "Password: "),
            (PAM_ERROR_MSG, "soon"),
            (PAM_PROMPT_ECHO_ON, "Code: "),
        ];
        assert_eq!(call(script, &messages), (PAM_SUCCESS, vec![None, Some("secret".into()), None, Some("123".into())]));
    }

    #[test]
    fn text_alone_needs_no_answer() {
        assert_eq!(
            call(Script(|_: &[PamMessage]| answers(&[])), &[(PAM_TEXT_INFO, "hello")]),
            (PAM_SUCCESS, vec![None])
        );
        assert_eq!(call(Script(|_: &[PamMessage]| answers(&["x"])), &[(PAM_TEXT_INFO, "hello")]).0, PAM_CONV_ERR);
    }

    #[test]
    fn wrong_answers_are_a_conversation_error() {
        let long = "x".repeat(PAM_MAX_RESP_SIZE);
        let fits = "x".repeat(PAM_MAX_RESP_SIZE - 1);
        let prompt = [(PAM_PROMPT_ECHO_OFF, "Password: ")];
        for wrong in [vec![], vec!["a", "b"], vec!["sec\0ret"], vec![long.as_str()]] {
            assert_eq!(call(Script(|_: &[PamMessage]| answers(&wrong)), &prompt), (PAM_CONV_ERR, vec![]), "{wrong:?}");
        }
        assert_eq!(call(Script(|_: &[PamMessage]| answers(&[&fits])), &prompt).0, PAM_SUCCESS);
        assert_eq!(call(Script(|_: &[PamMessage]| None), &prompt).0, PAM_CONV_ERR);
        // The second of two is bad: the first is given up as well.
        let two = [(PAM_PROMPT_ECHO_OFF, "1"), (PAM_PROMPT_ECHO_OFF, "2")];
        assert_eq!(call(Script(|_: &[PamMessage]| answers(&["good", "b\0d"])), &two), (PAM_CONV_ERR, vec![]));
    }

    #[test]
    fn a_panic_is_a_conversation_error() {
        assert_eq!(
            call(Script(|_: &[PamMessage]| panic!("on purpose")), &[(PAM_PROMPT_ECHO_OFF, "Password: ")]).0,
            PAM_CONV_ERR
        );
    }

    #[test]
    fn what_is_no_text_is_a_conversation_error() {
        let never = || Script(|_: &[PamMessage]| -> Option<Vec<Zeroizing<String>>> { panic!("must not be asked") });
        assert_eq!(call(never(), &[(7, "binary")]).0, PAM_CONV_ERR);
        assert_eq!(call(never(), &[(PAM_TEXT_INFO, "fine"), (5, "radio")]).0, PAM_CONV_ERR);
        assert_eq!(call(never(), &[]).0, PAM_CONV_ERR);
        assert_eq!(call(never(), &vec![(PAM_TEXT_INFO, "x"); PAM_MAX_NUM_MSG + 1]).0, PAM_CONV_ERR);
    }

    #[test]
    fn a_handle_keeps_its_items() {
        let mut pam = PamApplication::start("ussh-os-test", "alice", Script(|_: &[PamMessage]| None)).unwrap();
        pam.set_rhost("192.0.2.1").unwrap();
        pam.set_tty("ssh").unwrap();
        assert_eq!(pam.user().unwrap(), "alice");
        assert_eq!(pam.fail_delay(), None);
        assert_eq!(pam.set_rhost("a\0b").unwrap_err().code, PAM_SYSTEM_ERR);
        assert!(PamApplication::start("a\0b", "alice", Script(|_: &[PamMessage]| None)).is_err());
    }

    #[test]
    fn errors_carry_pam_s_words() {
        let error = error_of(ptr::null_mut(), 7);
        assert_eq!((error.code, error.text.as_str()), (7, "Authentication failure"));
    }
}
