//! PAM from the application's side (pam_start … pam_end): the CA's worker and tests use it.

use zeroize::Zeroizing;

/// One message of a conversation.
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

/// Answers messages. Called with all messages of one conv() call; gives one answer per *prompt*, in order.
pub trait Conversation {
    /// `None`: the conversation is over (the user went away): PAM gets PAM_CONV_ERR.
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

/// An open handle. pam_end on drop.
pub struct PamApplication<C: Conversation> {
    _conversation: std::marker::PhantomData<C>,
}

impl<C: Conversation> PamApplication<C> {
    /// pam_start.
    /// # Errors
    /// [`PamError`]
    pub fn start(service: &str, user: &str, conversation: C) -> Result<Self, PamError> {
        let _ = (service, user, conversation);
        todo!()
    }
    /// PAM_RHOST.
    /// # Errors
    /// [`PamError`]
    pub fn set_rhost(&mut self, rhost: &str) -> Result<(), PamError> {
        let _ = rhost;
        todo!()
    }
    /// PAM_TTY.
    /// # Errors
    /// [`PamError`]
    pub fn set_tty(&mut self, tty: &str) -> Result<(), PamError> {
        let _ = tty;
        todo!()
    }
    /// PAM_FAIL_DELAY is taken over by us: the delay that modules asked for is kept, not slept by libpam.
    /// # Errors
    /// [`PamError`]
    pub fn authenticate(&mut self) -> Result<(), PamError> {
        todo!()
    }
    /// pam_acct_mgmt.
    /// # Errors
    /// [`PamError`]
    pub fn acct_mgmt(&mut self) -> Result<(), PamError> {
        todo!()
    }
    /// pam_chauthtok with PAM_CHANGE_EXPIRED_AUTHTOK.
    /// # Errors
    /// [`PamError`]
    pub fn change_expired_password(&mut self) -> Result<(), PamError> {
        todo!()
    }
    /// The longest delay that modules asked for (pam_fail_delay) in the last call that failed; the caller keeps it before it tells anybody. `None`: none asked for.
    pub fn fail_delay(&self) -> Option<std::time::Duration> {
        todo!()
    }
    /// PAM_USER as the modules left it.
    /// # Errors
    /// [`PamError`]
    pub fn user(&self) -> Result<String, PamError> {
        todo!()
    }
}
