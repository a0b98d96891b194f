//! The host, on which every agent is tried by a user of its own.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use ussh_e2e::build_folder;
use ussh_e2e::lab::{Host, HostPlan, Lab, wait_until};

use crate::broker;
use crate::cases::{Case, Pace, Place};
use crate::keys::{Key, line};
use crate::kit::{self, CA, SLOW_CA};
use crate::serve::READY;
use crate::user::Seat;

/// What this program is told in the host.
pub const USER: &str = "user";
pub const SERVE: &str = "serve";
pub const BROKER: &str = "broker";

const PROGRAM: &str = "/usr/libexec/hostile-agents";
const MODULE: &str = "/usr/lib/x86_64-linux-gnu/security/pam_ussh.so";
/// The set-uid program that calls PAM, and looks at itself.
pub const HOST: &str = "/usr/libexec/hostile-host";
const HOST_SOURCE: &str = include_str!("../../../../pam_ussh/tests/stack/host.c");
const SUDOERS: &str = "Defaults timestamp_timeout=0, passwd_tries=1, lecture=never\nALL ALL=(ALL) ALL\n";

/// How many users are at it at once. Most of their time they wait.
const AT_ONCE: usize = 8;
/// Longest time for one of them.
const PATIENCE: Duration = Duration::from_secs(300);
const SOON: Duration = Duration::from_secs(20);

/// What came of a case.
pub struct Tried {
    pub case: Case,
    pub user: String,
    pub seat: Seat,
    /// The lines of ours about that user, without what syslog puts in front.
    pub log: Vec<String>,
}

/// Tries all of them. The first is the one that the others are compared with.
pub fn try_all(cases: Vec<Case>) -> Vec<Tried> {
    let program = std::env::current_exe().unwrap();
    let plan = HostPlan::new("web1").bind(build_folder().join("libpam_ussh.so"), MODULE).bind(&program, PROGRAM);
    let users: Vec<String> = (0..cases.len()).map(|number| format!("user{number:03}")).collect();
    let lab = users.iter().fold(Lab::new("hostile-agents").plan(plan), |lab, user| lab.user(user, "secret", &[]));
    let lab = lab.user(broker::OWNER, "secret", &[]).start().unwrap();
    let host = lab.host("web1");
    let anothers = cases.iter().position(|case| case.place == Place::Anothers).unwrap_or(0);
    set_up(&host, &kit::make(), &users[anothers]);

    let queue = Mutex::new(cases.iter().zip(&users));
    let next = || queue.lock().unwrap().next();
    let mut seats = BTreeMap::new();
    std::thread::scope(|scope| {
        let one_after_the_other = || {
            let mut seats = Vec::new();
            while let Some((case, user)) = next() {
                let command = host.command([PROGRAM, USER, case.name, user]).user(user).timeout(PATIENCE);
                let tried = command.run().unwrap().ok().unwrap();
                seats.push((user.clone(), serde_json::from_slice(&tried.stdout_bytes).unwrap()));
            }
            seats
        };
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(one_after_the_other)).collect();
        seats.extend(workers.into_iter().flat_map(|worker| worker.join().unwrap()));
    });

    let log = whole_log(&host);
    let ours: Vec<&str> = log
        .lines()
        .filter_map(|line| line.split_once("pam_ussh[")?.1.split_once("]: ").map(|(_, text)| text))
        .collect();
    let tried = cases.into_iter().zip(users).map(|(case, user)| {
        let about =
            |line: &&&str| line.split_once(" for ").is_some_and(|(_, rest)| rest.split(' ').next() == Some(&user));
        let log = ours.iter().filter(about).map(|line| (*line).to_owned()).collect();
        Tried { seat: seats.remove(&user).unwrap(), case, user, log }
    });
    tried.collect()
}

fn set_up(host: &Host, keys: &BTreeMap<String, Key>, brokers_user: &str) {
    host.write_file(kit::FILE, 0o644, serde_json::to_vec(keys).unwrap()).unwrap();
    let cas = [CA, SLOW_CA].map(|ca| line(&keys[ca].type_name(), &keys[ca].blob()) + "\n");
    host.write_file("/etc/ssh/trusted_user_ca", 0o644, cas.concat()).unwrap();
    for pace in Pace::ALL {
        let (timeout, touch) = (pace.timeout().as_secs(), pace.touch_timeout().as_secs());
        let lines = format!(
            "auth required pam_ussh.so timeout={timeout} touch_timeout={touch}\n\
             account required pam_permit.so\nsession required pam_permit.so\n"
        );
        for service in [pace.service(), pace.sudo_service()] {
            host.write_file(&format!("/etc/pam.d/{service}"), 0o644, &lines).unwrap();
        }
    }
    host.write_file("/etc/sudoers.d/hostile", 0o440, SUDOERS).unwrap();
    host.write_file("/srv/host.c", 0o644, HOST_SOURCE).unwrap();
    host.script(&format!("cc -O1 -o {HOST} /srv/host.c -lpam && chmod 4755 {HOST}")).unwrap();
    host.make_folder_as(broker::OWNER, broker::FOLDER, 0o755).unwrap();
    let broker = host.command([PROGRAM, BROKER, brokers_user]).user(broker::OWNER).service(BROKER).unwrap();
    broker.wait_for_output(READY, SOON).unwrap();
}

/// All that the host's programs have said until now.
fn whole_log(host: &Host) -> String {
    host.run(["logger", "-t", "mark", "end-of-the-agents"]).unwrap().ok().unwrap();
    wait_until(SOON, "syslog", || host.log().contains("end-of-the-agents")).unwrap();
    host.log()
}
