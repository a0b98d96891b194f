//! `ussh-demo shell`, played by a person: every command of the card does what the card says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::io::Write;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Longest wait for anything that is shown; the hosts have to be set up first.
const PATIENCE: Duration = Duration::from_secs(60);

/// Somebody at a terminal, which script(1) is.
struct Person {
    program: Child,
    keys: ChildStdin,
    screen: Receiver<Vec<u8>>,
    shown: String,
    /// How much of it has been looked for already.
    seen: usize,
}

impl Person {
    fn starts(command: &str) -> Self {
        let mut program = Command::new("script")
            .args(["-q", "-E", "never", "-c", &format!("stty rows 50 cols 200; {command}; echo code $?"), "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let keys = program.stdin.take().unwrap();
        let mut output = program.stdout.take().unwrap();
        let (send, screen) = channel();
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(length @ 1..) = std::io::Read::read(&mut output, &mut chunk) {
                if send.send(chunk[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        Person { program, keys, screen, shown: String::new(), seen: 0 }
    }

    /// Waits for one of these; what was shown up to it, and which it is.
    fn sees_one_of(&mut self, texts: &[&str]) -> (String, usize) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let new = &self.shown[self.seen..];
            let first =
                texts.iter().enumerate().filter_map(|(which, text)| Some((new.find(text)? + text.len(), which)));
            if let Some((end, which)) = first.min() {
                let upto = new[..end].to_owned();
                self.seen += end;
                return (upto, which);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.screen.recv_timeout(left) {
                Ok(chunk) => self.shown += &String::from_utf8_lossy(&chunk),
                Err(_) => panic!("{texts:?} was not shown: {}", self.shown),
            }
        }
    }

    fn sees(&mut self, text: &str) -> String {
        self.sees_one_of(&[text]).0
    }

    fn types(&mut self, line: &str) {
        self.hits(line);
        self.hits("\n");
    }

    /// Keys, as they are.
    fn hits(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Types a command at a prompt and, should it ask, the password; what it shows, up to the next prompt.
    fn runs(&mut self, command: &str, password: &str, prompt: &str) -> String {
        self.types(command);
        match self.sees_one_of(&["assword:", prompt]) {
            (_, 0) => {
                self.types(password);
                self.sees(prompt)
            }
            (shown, _) => shown,
        }
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

/// The password of the card for this account.
fn password(card: &str, who: &str) -> String {
    let (_, rest) = card.split_once(&format!("{who} `")).unwrap_or_else(|| panic!("no password of {who}: {card}"));
    rest.split('`').next().unwrap().to_owned()
}

/// The card's line that begins with this, up to what is said of it.
fn command<'card>(card: &'card str, begin: &str) -> &'card str {
    let line = card.lines().map(str::trim).find(|line| line.starts_with(begin));
    let line = line.unwrap_or_else(|| panic!("no {begin:?} on the card: {card}"));
    line.split("  ").next().unwrap()
}

#[test]
fn every_command_of_the_card_does_what_the_card_says() {
    const LAPTOP: &str = "alice@laptop:~$ ";
    const CA: &str = "root@ca:~# ";
    const WEB1: &str = "root@web1:~# ";
    let mut person = Person::starts(&format!("{} shell", env!("CARGO_BIN_EXE_ussh-demo")));
    let card = person.sees(LAPTOP);
    let alices = password(&card, "alice");
    let roots = password(&card, "root on ca");

    // The user's side.
    for (begin, shown) in [
        ("ssh-add -l", "The agent has no identities."),
        ("ussh web1 sudo id", "uid=0(root)"),
        ("ssh-add -L", "Key ID: \"alice\""),
        ("ssh -a web1 sudo id", "There is no SSH agent in this session"),
        ("ussh --status", "good, "),
        ("ssh -A ca whoami", "\nalice\r\n"),
        ("ussh --login", "is in your agent."),
        ("ussh web1 doas id", "uid=0(root)"),
        ("ussh web1 su -c id", "su: Authentication failure"),
        ("ussh web1 pam-ussh-check", "for alice: accepted"),
        ("ussh --log ", "signed   web1: doas as alice"),
        ("ussh --why rogue", "Do:"),
        ("ussh --write-config", "/.ssh/config"),
    ] {
        let seen = person.runs(command(&card, begin), &alices, LAPTOP);
        assert!(seen.contains(shown), "{begin}: {seen}");
    }
    let seen = person.runs("ssh web1 sudo id", "never asked", LAPTOP);
    assert!(seen.contains("uid=0(root)"), "{seen}");
    let rogue = person.runs(command(&card, "ssh rogue"), "never asked", LAPTOP);
    assert!(rogue.contains("Host key verification failed.") && !rogue.contains("assword"), "{rogue}");

    // tmux keeps the socket of a connection that goes; it needs a terminal that can do more than none.
    let tmux = command(&card, "ussh -t web1 tmux");
    person.types(&format!("TERM=xterm {tmux}"));
    person.sees("alice@web1");
    person.hits("\u{2}d");
    person.sees(LAPTOP);
    person.types(&format!("TERM=xterm {tmux} attach"));
    person.sees("alice@web1");
    person.types("sudo id");
    person.sees("uid=0(root)");
    person.types("exit");
    person.sees(LAPTOP);

    // What alice holds is revoked on the CA …
    let listed = person.runs("ssh-add -L | ssh-keygen -Lf - | grep Serial", "", LAPTOP);
    let serial: String = listed.split("Serial: ").last().unwrap().chars().take_while(char::is_ascii_digit).collect();
    let seen = person.runs(command(&card, "ssh -p 2222 root@ca"), &roots, CA);
    assert!(!seen.contains("authenticity of host"), "{seen}");
    let list = command(&card, "usshca --dir ");
    let seen = person.runs(list, "", CA);
    assert!(seen.contains(&serial), "{seen}");
    let said = person.runs(&list.replace(" list", &format!(" revoke {serial}")), "", CA);
    let advice = said.lines().map(str::trim).find(|line| line.starts_with("usshca --dir ") && line.contains(" krl "));
    let advice = advice.unwrap_or_else(|| panic!("{said}")).to_owned();
    person.runs(&advice, "", CA);
    let log = person.runs("grep -c usshca /var/log/auth.log", "", CA);
    assert!(!log.contains("No such file"), "{log}");
    person.runs("exit", "", LAPTOP);

    // … and brought to web1, whose session it ends.
    person.runs(command(&card, "ussh -t web1 sudo"), "", WEB1);
    let seen = person.runs(command(&card, "ussh-hostd sessions"), "", WEB1);
    assert!(seen.contains(&format!("alice (serial {serial})")), "{seen}");
    let seen = person.runs(command(&card, "ussh-hostd status"), "", WEB1);
    assert!(seen.contains("daemon     runs"), "{seen}");
    let seen = person.runs(command(&card, "pam-ussh-check --stack"), "", WEB1);
    assert!(seen.contains("/etc/pam.d/sudo (sudo): good") && seen.contains("/etc/pam.d/doas (doas): good"), "{seen}");
    let log = person.runs("tail -n 50 /var/log/auth.log", "", WEB1);
    assert!(log.contains("pam_ussh"), "{log}");
    person.types(command(&card, "scp -P 2222"));
    person.sees("assword:");
    person.types(&roots);
    let seen = person.sees(LAPTOP);
    assert!(seen.contains("your certificate is no longer accepted here") && !seen.contains("authenticity"), "{seen}");

    person.types("exit");
    person.sees("code 0");
}
