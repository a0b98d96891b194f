//! Which of the questions on a terminal a typed line answers: the rules of `ussh --confirm`, without the terminal.
//!
//! A host may ask and hang up as it likes, and so choose when the questions change under an answer that is half typed. So an answer names its question, always, and counts as the whole line
//! that it is. Nothing is thrown away of a line that is half typed: what would be left of "10 y" or "13 y" might be one to another question. All numbers have two digits, so that an answer
//! that is typed behind the forgotten half of another names none.

use std::time::{Duration, Instant};

/// Most questions that are shown at a time. More wait.
pub const MAX_OPEN: usize = 16;
/// Numbers that questions have: the least and the greatest. One comes again after ninety questions.
const NUMBERS: (u32, u32) = (10, 99);
/// What is answered sooner has not been read: it was typed before, by habit.
const READ_IN: Duration = Duration::from_millis(500);
/// Longest line that is looked at, bytes: as long as the kernel lets one be (N_TTY_BUF_SIZE).
const MAX_LINE: usize = 4096;

/// A question that is shown.
#[derive(Debug)]
pub struct Shown<T> {
    /// What is typed to answer it.
    pub number: u32,
    /// Who asked.
    pub by: T,
    /// Since when.
    pub since: Instant,
}

/// All that are shown. One that nobody answers holds up no other.
#[derive(Debug)]
pub struct Board<T> {
    shown: Vec<Shown<T>>,
    last: u32,
}

/// What a line says.
#[derive(Debug)]
pub enum Said<T> {
    /// Yes to this one, which is off the board now.
    Yes(Shown<T>),
    /// No to it.
    No(Shown<T>),
    /// It is about this one, and came before anybody can have read it.
    TooSoon(u32),
    /// It answers none.
    Nothing,
}

impl<T> Board<T> {
    /// An empty one.
    pub fn new() -> Self {
        Board { shown: Vec::new(), last: NUMBERS.0 - 1 }
    }

    /// Those that are shown, in the order in which they came.
    pub fn shown(&self) -> &[Shown<T>] {
        &self.shown
    }

    /// Whether there is room for one more.
    pub fn has_room(&self) -> bool {
        self.shown.len() < MAX_OPEN
    }

    /// The number of the next one: no other's, and that of none lately.
    pub fn next_number(&self) -> u32 {
        let (least, greatest) = NUMBERS;
        let behind = (self.last + 1)..=greatest;
        behind.chain(least..=greatest).find(|number| self.place(*number).is_none()).unwrap_or(least)
    }

    /// Notes that this one can be read under [`Board::next_number`], from now on.
    pub fn put(&mut self, by: T, now: Instant) {
        self.last = self.next_number();
        self.shown.push(Shown { number: self.last, by, since: now });
    }

    /// Takes one off.
    pub fn take(&mut self, number: u32) -> Option<Shown<T>> {
        self.place(number).map(|at| self.shown.remove(at))
    }

    /// What a whole line says that came now.
    pub fn hear(&mut self, line: &str, now: Instant) -> Said<T> {
        let Some((number, is_yes)) = answer(line) else { return Said::Nothing };
        let Some(at) = self.place(number) else { return Said::Nothing };
        let is_read = |shown: &Shown<T>| now.saturating_duration_since(shown.since) >= READ_IN;
        if !self.shown.get(at).is_some_and(is_read) {
            return Said::TooSoon(number);
        }
        let shown = self.shown.remove(at);
        if is_yes { Said::Yes(shown) } else { Said::No(shown) }
    }

    fn place(&self, number: u32) -> Option<usize> {
        self.shown.iter().position(|shown| shown.number == number)
    }
}

/// `10 y`: a number and a word, nothing else.
fn answer(line: &str) -> Option<(u32, bool)> {
    let (number, word) = line.trim().split_once(char::is_whitespace)?;
    let number = number.trim_end_matches([':', '.']);
    if number.len() != 2 || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let is_yes = match word.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => true,
        "n" | "no" => false,
        _ => return None,
    };
    Some((number.parse().ok()?, is_yes))
}

/// Puts lines together from what is read: a terminal gives half a line at Ctrl-D, and single bytes where it was set to.
#[derive(Debug, Default)]
pub struct Lines {
    begun: Vec<u8>,
}

impl Lines {
    /// The lines that end in what came. Of one that is too long all is kept that shows it to be no answer.
    pub fn add(&mut self, came: &[u8]) -> Vec<String> {
        let mut whole = Vec::new();
        for byte in came {
            if *byte == b'\n' {
                whole.push(String::from_utf8_lossy(&std::mem::take(&mut self.begun)).into_owned());
            } else if self.begun.len() < MAX_LINE {
                self.begun.push(*byte);
            } else {
                // What is cut off could have made it none.
                self.begun.fill(b'x');
            }
        }
        whole
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    /// The board, and the moment.
    struct Desk(Board<&'static str>, Instant);

    impl Desk {
        fn new() -> Self {
            Desk(Board::new(), Instant::now())
        }
        fn later(&mut self, millis: u64) {
            self.1 += Duration::from_millis(millis);
        }
        /// Its number.
        fn put(&mut self, by: &'static str) -> u32 {
            let number = self.0.next_number();
            self.0.put(by, self.1);
            assert_eq!(self.0.shown().last().unwrap().number, number);
            number
        }
        fn hear(&mut self, line: &str) -> String {
            match self.0.hear(line, self.1) {
                Said::Yes(shown) => format!("yes to {}", shown.by),
                Said::No(shown) => format!("no to {}", shown.by),
                Said::TooSoon(number) => format!("{number} too soon"),
                Said::Nothing => "nothing".to_owned(),
            }
        }
    }

    #[test]
    fn an_answer_is_a_number_and_a_word_and_nothing_else() {
        for (line, wanted) in [
            ("10 y", Some((10, true))),
            ("10 Yes", Some((10, true))),
            ("  10:  y ", Some((10, true))),
            ("10 n", Some((10, false))),
            ("10 no", Some((10, false))),
            ("y", None),
            ("yes", None),
            ("n", None),
            ("", None),
            ("10", None),
            ("10y", None),
            ("10 yep", None),
            ("10 11 y", None),
            ("0 y", None),
            ("010 y", None),
            ("+1 y", None),
            ("-1 y", None),
            ("110 y", None),
            ("y 10", None),
            ("10 y n", None),
            ("x10 y", None),
        ] {
            assert_eq!(answer(line), wanted, "{line:?}");
        }
    }

    #[test]
    fn no_part_of_an_answer_to_a_question_that_has_gone_is_one_to_another() {
        // Wherever the line was when the questions changed: what was typed is judged whole.
        let mut desk = Desk::new();
        let gone = desk.put("gone");
        let left = desk.put("left");
        desk.later(5000);
        desk.0.take(gone).unwrap();
        desk.later(5000);
        assert_eq!(desk.hear(&format!("{gone} y")), "nothing");
        // The only one, and still.
        for line in ["y", "yes", "", "n", " y"] {
            assert_eq!(desk.hear(line), "nothing", "{line:?}");
        }
        // Begun for the one that has gone, forgotten, and begun anew.
        for begun in ["1", "10", "10 ", "10 y"] {
            assert_eq!(desk.hear(&format!("{begun}{left} y")), "nothing", "{begun:?}");
        }
        assert_eq!(desk.hear(&format!("{left} y")), "yes to left");
        assert_eq!(desk.hear(&format!("{left} y")), "nothing", "once");
    }

    #[test]
    fn no_end_of_one_number_is_another_and_a_number_comes_again_late() {
        let mut desk = Desk::new();
        let left = desk.put("left");
        let mut seen = vec![left];
        for _ in 0..89 {
            let number = desk.put("passing");
            assert!((10..=99).contains(&number) && !seen.contains(&number), "{number}");
            seen.push(number);
            desk.0.take(number).unwrap();
        }
        assert_eq!(desk.put("again"), 11, "10 is still open");
    }

    #[test]
    fn what_comes_before_a_question_can_have_been_read_answers_it_not() {
        let mut desk = Desk::new();
        let first = desk.put("first");
        assert_eq!(desk.hear(&format!("{first} y")), "10 too soon");
        desk.later(499);
        assert_eq!(desk.hear(&format!("{first} n")), "10 too soon");
        desk.later(1);
        // It takes the place of one that was there.
        desk.0.take(first).unwrap();
        let second = desk.put("second");
        assert_eq!(desk.hear(&format!("{second} y")), "11 too soon");
        desk.later(500);
        assert_eq!(desk.hear(&format!("{second} n")), "no to second");
    }

    #[test]
    fn lines_are_put_together_and_of_a_long_one_no_part_is_an_answer() {
        let mut lines = Lines::default();
        assert!(lines.add(b"1").is_empty() && lines.add(b"0 ").is_empty());
        assert_eq!(lines.add(b"y\n11 n\n1"), ["10 y", "11 n"]);
        assert_eq!(lines.add(b"2 y\n"), ["12 y"]);
        let long = [&b"10 y"[..], &[b' '; 5000], b"n\n10 n\n"].concat();
        let heard = lines.add(&long);
        assert_eq!((heard.len(), answer(&heard[0]), answer(&heard[1])), (2, None, Some((10, false))));
    }
}
