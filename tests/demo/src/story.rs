//! Telling the demo: steps, what proves them, and the table at the end.

use std::io::Write;
use std::time::{Duration, Instant};

/// What a step answers: nothing, or why it is not what it says.
pub type Told = Result<(), Box<dyn std::error::Error>>;

/// Prints a line. Whoever no longer listens (`| head`) ends the demo, without a word more.
#[macro_export]
macro_rules! tell {
    ($($text:tt)*) => { $crate::story::tell(format_args!($($text)*)) };
}

/// See the macro.
pub fn tell(text: std::fmt::Arguments<'_>) {
    if writeln!(std::io::stdout(), "{text}").is_err() {
        std::process::exit(141);
    }
}

/// One step that has been told.
struct Step {
    letter: &'static str,
    title: &'static str,
    took: Duration,
    failure: Option<String>,
}

/// The whole demo.
pub struct Story {
    steps: Vec<Step>,
    started: Instant,
    colour: bool,
}

impl Story {
    /// Begins; `colour` when standard output is a terminal.
    pub fn begin(colour: bool) -> Self {
        Story { steps: Vec::new(), started: Instant::now(), colour }
    }

    /// A heading with some words on what is about to happen.
    pub fn say(&self, text: &str) {
        tell!("{}", self.paint("2", text));
    }

    /// A command as a person would type it, and what it printed.
    pub fn show(&self, host: &str, command: &str, output: &str) {
        tell!("  {} {command}", self.paint("36", &format!("{host}$")));
        for line in output.lines().filter(|l| !l.trim().is_empty()) {
            tell!("    {line}");
        }
    }

    /// Runs one step and keeps how it went. The next step runs in any case.
    pub fn step(&mut self, letter: &'static str, title: &'static str, run: impl FnOnce(&Story) -> Told) {
        tell!("\n{} {title}", self.paint("1", &format!("[{letter}]")));
        let start = Instant::now();
        let failure = run(self).err().map(|error| error.to_string());
        match &failure {
            None => tell!("  {}", self.paint("32", "as it says")),
            Some(reason) => tell!("  {} {reason}", self.paint("31", "NOT what it says:")),
        }
        self.steps.push(Step { letter, title, took: start.elapsed(), failure });
    }

    /// The table; true if every step was what it says.
    pub fn end(&self) -> bool {
        tell!("\n{}", self.paint("1", "step  time      result  what"));
        for step in &self.steps {
            let result = if step.failure.is_none() { self.paint("32", "ok    ") } else { self.paint("31", "FAILED") };
            tell!("{:<4}  {:>6.2} s  {result}  {}", step.letter, step.took.as_secs_f64(), step.title);
        }
        let failed = self.steps.iter().filter(|s| s.failure.is_some()).count();
        tell!(
            "{:<4}  {:>6.2} s  {} of {} steps were what they say",
            "all",
            self.started.elapsed().as_secs_f64(),
            self.steps.len() - failed,
            self.steps.len()
        );
        failed == 0 && !self.steps.is_empty()
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Fails the step with `why` unless `fact` holds.
pub fn ensure(fact: bool, why: impl FnOnce() -> String) -> Told {
    if fact { Ok(()) } else { Err(why().into()) }
}
