//! What runs inside of a host: this very program, as root beside sshd, or as the user whose agent pam_ussh asks.

mod agent;
mod client;
mod log;
mod packets;
mod pam;
mod sshd;

use base64ct::{Base64, Encoding};

pub use self::pam::PAMTESTER;
use crate::certificate::now;
use crate::job::{Job, Jobs, Judge, Judged, Presented};

/// Reads the jobs from standard input, writes what came of them to standard output.
pub fn run() {
    let jobs: Jobs = serde_json::from_reader(std::io::stdin().lock()).unwrap();
    let mut answers = Vec::new();
    match jobs.judge {
        Judge::Sshd => {
            let sshd = sshd::Sshd::new();
            answers.extend(jobs.jobs.iter().map(|job| in_its_second(job, |certificate| sshd.judge(job, certificate))));
        }
        Judge::Agent => {
            let agents = pam::Agents::new();
            answers
                .extend(jobs.jobs.iter().map(|job| in_its_second(job, |certificate| agents.judge(job, certificate))));
        }
        Judge::WithinSshd => {
            answers.extend(
                jobs.jobs.iter().map(|job| in_its_second(job, |certificate| pam::within_sshd(job, certificate))),
            );
        }
    }
    println!("{}", serde_json::to_string(&answers).unwrap());
}

/// A certificate that belongs to a second counts only if the second had not passed when it was judged.
fn in_its_second(job: &Job, judge: impl Fn(&[u8]) -> Judged) -> Judged {
    let by_second = match &job.certificate {
        Presented::Always(certificate) => return judge(&decode(certificate)),
        Presented::BySecond(certificates) => certificates,
    };
    loop {
        let second = now();
        let judged = judge(&decode(&by_second[&second]));
        if now() == second {
            return judged;
        }
    }
}

fn decode(text: &str) -> Vec<u8> {
    Base64::decode_vec(text).unwrap()
}
