//! The hosts: one of Debian 12 with sshd 9.2 and pam_ussh, one of Debian 13 with sshd 10.0. All rows go through each judge at once.

use std::time::Duration;

use ussh_e2e::build_folder;
use ussh_e2e::lab::{Host, HostPlan, Lab, trixie_root, wait_until};

use crate::certificate::now;
use crate::forge::Forge;
use crate::job::{Job, Jobs, Judge, Judged, Presented, USER, folder, service};
use crate::judge::PAMTESTER;
use crate::row::Row;

/// What this program is told in a host.
pub const JUDGE: &str = "judge";
const PROGRAM: &str = "/usr/libexec/parity";
const MODULE: &str = "/usr/lib/x86_64-linux-gnu/security/pam_ussh.so";
/// Longest time for the whole table in one host.
const PATIENCE: Duration = Duration::from_secs(300);
const SOON: Duration = Duration::from_secs(20);
/// Longest certificate that fits into one argument of a command, bytes (MAX_ARG_STRLEN, in base64).
const MAX_ARGUMENT: usize = 128 * 1024 - 100;

/// One judge's word on one row.
#[derive(Clone, Debug)]
pub struct Word {
    pub accepted: bool,
    /// sshd: all of its log. pam_ussh: its line.
    pub log: String,
    /// In the line, what its reason stands behind.
    pub mark: String,
    /// Where the row's files are.
    pub folder: String,
    pub real_agent: bool,
}

/// All words on one row.
#[derive(Debug)]
pub struct Words {
    pub theirs_9: Word,
    pub theirs_10: Word,
    pub ours: Word,
    /// Where sshd 9.2 said yes.
    pub within_sshd: Option<Word>,
}

/// All words on all rows, in their order, and who spoke.
pub struct Table {
    pub words: Vec<Words>,
    pub versions: [String; 2],
}

/// Makes what each row is about, and has it judged.
pub fn judge(rows: &[(&str, Row)]) -> Table {
    let forge = Forge::new();
    let cases: Vec<_> = rows.iter().map(|(_, row)| (row.make)(&forge)).collect();
    let jobs: Vec<Job> = cases.iter().enumerate().map(|(number, case)| case.job(number)).collect();

    let program = std::env::current_exe().unwrap();
    let nine = HostPlan::new("nine").bind(build_folder().join("libpam_ussh.so"), MODULE);
    let ten = HostPlan::new("ten").base(trixie_root().unwrap());
    let lab = Lab::new("parity").plan(nine).plan(ten).bind_all(&program, PROGRAM).user(USER, "secret", &[]);
    let lab = lab.start().unwrap();
    let hosts = [lab.host("nine"), lab.host("ten")];
    for host in &hosts {
        host.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/etc/ssh/ssh_host_ed25519_key"])
            .unwrap()
            .ok()
            .unwrap();
        for (number, case) in cases.iter().enumerate() {
            for (path, mode, content) in case.files(number) {
                host.write_file(&path, mode, content).unwrap();
            }
        }
    }
    let [nine, ten] = &hosts;
    nine.run(["install", "-m", "4755", "/usr/bin/pamtester", PAMTESTER]).unwrap().ok().unwrap();
    let (theirs_9, theirs_10, agents) = std::thread::scope(|scope| {
        let theirs_9 = scope.spawn(|| ask(nine, "root", Judge::Sshd, &jobs));
        let theirs_10 = scope.spawn(|| ask(ten, "root", Judge::Sshd, &jobs));
        let agents = scope.spawn(|| ask(nine, USER, Judge::Agent, &jobs));
        (theirs_9.join().unwrap(), theirs_10.join().unwrap(), agents.join().unwrap())
    });
    let taken: Vec<Job> = jobs
        .iter()
        .zip(&theirs_9)
        .filter(|(job, word)| word.accepted && fits(job))
        .map(|(job, _)| job.clone())
        .collect();
    let within = ask(nine, "root", Judge::WithinSshd, &taken);
    let log = whole_log(nine);

    let words = theirs_9.into_iter().zip(theirs_10).zip(agents).map(|((theirs_9, theirs_10), ours)| {
        let number = ours.number;
        let within = within.iter().find(|judged| judged.number == number).cloned();
        Words {
            theirs_9: theirs(theirs_9),
            theirs_10: theirs(theirs_10),
            ours: with_line(ours, &log, &format!(" via {} ruser {USER}", service(number))),
            within_sshd: within.map(|judged| with_line(judged, &log, &format!(" via sshd tty {}", service(number)))),
        }
    });
    let versions = [nine, ten].map(|host| host.run(["sshd", "-V"]).unwrap().stderr.trim().to_owned());
    Table { words: words.collect(), versions }
}

fn ask(host: &Host, user: &str, judge: Judge, jobs: &[Job]) -> Vec<Judged> {
    let jobs = serde_json::to_vec(&Jobs { judge, jobs: jobs.to_vec() }).unwrap();
    let asked = host.command([PROGRAM, JUDGE]).user(user).stdin(jobs).timeout(PATIENCE).run().unwrap().ok().unwrap();
    serde_json::from_slice(&asked.stdout_bytes).unwrap()
}

fn fits(job: &Job) -> bool {
    match &job.certificate {
        Presented::Always(certificate) => certificate.len() < MAX_ARGUMENT,
        // The seconds are over sooner or later; what they show has been shown.
        Presented::BySecond(certificates) => certificates.keys().next_back().is_some_and(|last| *last > now() + 60),
    }
}

/// All that the host's programs have said until now.
fn whole_log(host: &Host) -> String {
    host.run(["logger", "-t", "mark", "end-of-the-table"]).unwrap().ok().unwrap();
    wait_until(SOON, "syslog", || host.log().contains("end-of-the-table")).unwrap();
    host.log()
}

fn theirs(judged: Judged) -> Word {
    Word { accepted: judged.accepted, log: judged.log, mark: String::new(), folder: String::new(), real_agent: false }
}

/// The last line of ours that holds `mark`.
fn with_line(judged: Judged, log: &str, mark: &str) -> Word {
    let holds =
        |line: &str| line.split_once(mark).is_some_and(|(_, rest)| !rest.starts_with(|c: char| c.is_ascii_digit()));
    let line = log.lines().rfind(|line| line.contains("pam_ussh[") && holds(line));
    Word {
        accepted: judged.accepted,
        log: line.unwrap_or("no line").to_owned(),
        mark: mark.to_owned(),
        folder: folder(judged.number),
        real_agent: judged.real_agent,
    }
}
