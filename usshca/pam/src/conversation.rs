//! PAM's conversation, held with the front.

use std::cell::Cell;
use std::rc::Rc;

use ussh_os::pam_application::{Conversation, PamMessage};
use usshca_ipc::channel::Channel;
use usshca_ipc::worker::{FromWorker, Message, ToWorker};
use zeroize::Zeroizing;

/// Longest answer, in bytes (PAM_MAX_RESP_SIZE, _pam_types.h; its terminating NUL included there).
const MAX_ANSWER: usize = 511;

/// Passes messages on to the front and answers back.
pub struct ByFront {
    front: Rc<Channel<FromWorker, ToWorker>>,
    /// Set once a question found nobody to answer it.
    left: Rc<Cell<bool>>,
}

impl ByFront {
    /// Over this channel; `left` is set once a question found nobody to answer it.
    pub fn new(front: Rc<Channel<FromWorker, ToWorker>>, left: Rc<Cell<bool>>) -> Self {
        ByFront { front, left }
    }
}

impl Conversation for ByFront {
    fn converse(&mut self, messages: &[PamMessage]) -> Option<Vec<Zeroizing<String>>> {
        let prompts = messages.iter().filter(|m| is_prompt(m)).count();
        let sent = self.front.send(&FromWorker::Converse(messages.iter().map(message).collect()));
        if prompts == 0 {
            return sent.ok().map(|()| Vec::new());
        }
        let reply = sent.and_then(|()| self.front.receive(None));
        self.left.set(reply.is_err());
        let mut reply = reply.ok()?.message;
        let answers: Vec<_> = std::mem::take(&mut reply.answers).into_iter().map(Zeroizing::new).collect();
        let fit = answers.iter().all(|a| a.len() <= MAX_ANSWER && !a.contains('\0'));
        (answers.len() == prompts && fit).then_some(answers)
    }
}

fn is_prompt(message: &PamMessage) -> bool {
    match message {
        PamMessage::PromptEchoOff(_) | PamMessage::PromptEchoOn(_) => true,
        PamMessage::Info(_) | PamMessage::Error(_) => false,
    }
}

fn message(message: &PamMessage) -> Message {
    match message {
        PamMessage::PromptEchoOff(text) => Message::PromptEchoOff(text.clone()),
        PamMessage::PromptEchoOn(text) => Message::PromptEchoOn(text.clone()),
        PamMessage::Info(text) => Message::Info(text.clone()),
        PamMessage::Error(text) => Message::Error(text.clone()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use ussh_os::seqpacket::SeqPacket;

    use super::*;

    type Front = Channel<ToWorker, FromWorker>;

    fn pair() -> (ByFront, Front) {
        let (a, b) = SeqPacket::pair().unwrap();
        (ByFront::new(Rc::new(Channel::new(a)), Rc::default()), Channel::new(b))
    }

    fn ask(messages: &[PamMessage], answers: &[&str]) -> Option<Vec<String>> {
        let (mut conversation, front) = pair();
        front.send(&ToWorker { answers: answers.iter().map(|a| (*a).to_owned()).collect() }).unwrap();
        let out = conversation.converse(messages)?;
        assert!(matches!(front.receive(None).unwrap().message, FromWorker::Converse(m) if m.len() == messages.len()));
        Some(out.into_iter().map(|a| a.as_str().to_owned()).collect())
    }

    fn password() -> PamMessage {
        PamMessage::PromptEchoOff("Password: ".into())
    }

    #[test]
    fn each_prompt_gets_its_answer_in_order() {
        let batch = [PamMessage::Info("hello".into()), password(), PamMessage::PromptEchoOn("Code: ".into())];
        assert_eq!(ask(&batch, &["secret", "123"]).unwrap(), ["secret", "123"]);
    }

    #[test]
    fn a_question_that_finds_nobody_is_told_from_a_wrong_answer() {
        let (a, b) = SeqPacket::pair().unwrap();
        let left = Rc::new(Cell::new(false));
        let mut conversation = ByFront::new(Rc::new(Channel::new(a)), Rc::clone(&left));
        let front: Front = Channel::new(b);
        front.send(&ToWorker { answers: vec![] }).unwrap();
        assert!(conversation.converse(&[password()]).is_none() && !left.get());
        drop(front);
        assert!(conversation.converse(&[password()]).is_none() && left.get());
    }

    #[test]
    fn refuses_too_few_and_too_many_answers() {
        assert_eq!(ask(&[password()], &[]), None);
        assert_eq!(ask(&[password()], &["a", "b"]), None);
        assert!(ask(&[password()], &["a"]).is_some());
    }

    #[test]
    fn refuses_an_answer_that_pam_would_cut() {
        assert!(ask(&[password()], &[&"x".repeat(511)]).is_some());
        assert_eq!(ask(&[password()], &[&"x".repeat(512)]), None);
        assert_eq!(ask(&[password()], &["a\0b"]), None);
    }

    #[test]
    fn text_alone_waits_for_no_answer() {
        let (mut conversation, front) = pair();
        assert!(conversation.converse(&[PamMessage::Info("touch your key".into())]).unwrap().is_empty());
        assert!(matches!(front.receive(None).unwrap().message, FromWorker::Converse(_)));
    }

    #[test]
    fn a_front_that_went_away_ends_the_conversation() {
        let (mut conversation, front) = pair();
        drop(front);
        assert!(conversation.converse(&[password()]).is_none());
    }
}
