//! Nothing of a lab outlives its maker, whenever that is killed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use ussh_lab::{HostPlan, Lab, MARK, SSHD_CONFIG, rounds, wait_for, wait_until};

const SOON: Duration = Duration::from_secs(30);

/// Environment variable that names the lab of `maker`.
const NAME: &str = "LAB_OF_THE_MAKER";

#[test]
#[ignore = "never ends: started, and killed, by the tests below"]
fn maker() {
    let lab =
        Lab::new(&std::env::var(NAME).unwrap()).laptop("laptop").host("web1").user("alice", "secret", &["admins"]);
    let lab = lab.start().unwrap();
    let web1 = lab.host("web1");
    web1.start_sshd(SSHD_CONFIG).unwrap();
    // What likes to stay: a daemon, a stopped process, one that ignores signals, one in a cgroup of its own.
    web1.script(
        "setsid sleep 100000 >/dev/null 2>&1 </dev/null & \
         (kill -STOP $BASHPID) & \
         (trap '' TERM INT HUP; exec sleep 100000) & \
         mkdir -p /sys/fs/cgroup/deep/er; sleep 100000 & echo $! > /sys/fs/cgroup/deep/er/cgroup.procs",
    )
    .unwrap();
    let _shell = web1.pty_as("alice", ["bash"]).unwrap();
    eprintln!("lab is up");
    loop {
        lab.add_host(HostPlan::new("web2")).unwrap().start_sshd(SSHD_CONFIG).unwrap();
        lab.remove_host("web2").unwrap();
    }
}

#[test]
fn nothing_is_left_when_the_maker_is_killed_at_any_moment() {
    let name = format!("killed-{}", std::process::id());
    let machine = RecordedMachine::new();
    let before = Traces::of(&name);
    assert!(before.is_clean(), "{before:?}");
    // From the first steps of the keeper to a lab whose hosts come and go: how long set-up takes is measured first.
    let set_up = {
        let start = Instant::now();
        let mut maker = machine.start_maker(&name);
        wait_for_lab(&mut maker);
        kill(maker);
        start.elapsed()
    };
    wait_until_gone(&name, &before);
    for round in 0..rounds(10, 200) {
        let maker = machine.start_maker(&name);
        std::thread::sleep(set_up * 2 * random(1000) / 1000);
        kill(maker);
        wait_until_gone(&name, &before);
        println!("round {round}: clean");
    }
    assert_eq!(machine.written(), BTreeSet::new(), "files written to the machine");
}

#[test]
fn nothing_is_left_when_the_maker_ends_in_order() {
    let name = format!("dropped-{}", std::process::id());
    let before = Traces::of(&name);
    let lab = Lab::new(&name).host("web1").start().unwrap();
    lab.host("web1").start_sshd(SSHD_CONFIG).unwrap();
    let during = Traces::of(&name);
    assert!(!during.processes.is_empty() && !during.cgroups.is_empty(), "{during:?}");
    assert_eq!((&during.mounts, &during.links), (&before.mounts, &before.links), "seen from outside");
    drop(lab);
    // At once: the drop has waited for it.
    assert!(Traces::of(&name).is_clean(), "{:?}", Traces::of(&name));
}

#[test]
fn hosts_go_with_a_killed_keeper_and_the_next_lab_cleans_up() {
    let name = format!("orphan-{}", std::process::id());
    let lab = Lab::new(&name).host("web1").start().unwrap();
    let mark = format!("{MARK}={}", lab.id());
    let keeper = processes(&mark, "no cgroup").into_iter().find(|pid| command_line(*pid).contains("keeper")).unwrap();
    assert!(Command::new("kill").args(["-9", &keeper.to_string()]).status().unwrap().success());
    wait_until(SOON, "processes to go", || Traces::of(&name).processes.is_empty()).unwrap();
    assert!(lab.host("web1").run(["true"]).is_err());
    drop(lab);
    drop(Lab::new(&name).start().unwrap());
    wait_until_gone(&name, &Traces::of(&name));
}

#[test]
fn a_signal_to_the_keeper_ends_the_lab_in_order() {
    let name = format!("ended-{}", std::process::id());
    let lab = Lab::new(&name).host("web1").start().unwrap();
    let mark = format!("{MARK}={}", lab.id());
    let keeper = processes(&mark, "no cgroup").into_iter().find(|pid| command_line(*pid).contains("keeper")).unwrap();
    assert!(Command::new("kill").args(["-TERM", &keeper.to_string()]).status().unwrap().success());
    wait_until(SOON, "all to go", || {
        let traces = Traces::of(&name);
        traces.cgroups.is_empty() && traces.processes.iter().all(|pid| command_line(*pid).is_empty())
    })
    .unwrap();
}

/// The machine as its maker sees it: an overlay that records what is written, in a mount namespace that is held open.
struct RecordedMachine {
    holder: Child,
    _open: ChildStdin,
}

impl RecordedMachine {
    fn new() -> Self {
        let script = "
            mount -t tmpfs none /mnt
            mkdir /mnt/upper /mnt/work /mnt/root
            mount -t overlay none -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work /mnt/root
            for folder in proc sys dev; do mount --rbind /$folder /mnt/root/$folder; done
            mount -t tmpfs none /mnt/root/dev/shm
            echo ready
            exec cat";
        let mut holder = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-ec", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let open = holder.stdin.take().unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        RecordedMachine { holder, _open: open }
    }

    /// Each of these programs becomes the next: the child is the maker itself.
    fn start_maker(&self, name: &str) -> Child {
        Command::new("nsenter")
            .arg(format!("--mount=/proc/{}/ns/mnt", self.holder.id()))
            .args(["chroot", "/mnt/root"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "maker", "--ignored", "--nocapture"])
            .env(NAME, name)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    fn written(&self) -> BTreeSet<PathBuf> {
        let root = PathBuf::from(format!("/proc/{}/root/mnt", self.holder.id()));
        let mut found = BTreeSet::new();
        for folder in [root.join("upper"), root.join("root/dev/shm")] {
            collect_files(&folder, &mut found);
        }
        found
    }
}

impl Drop for RecordedMachine {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

fn collect_files(folder: &Path, found: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            collect_files(&entry.path(), found);
        }
        found.insert(entry.path());
    }
}

fn wait_for_lab(maker: &mut Child) {
    let lines = BufReader::new(maker.stderr.take().unwrap()).lines();
    let mut said = Vec::new();
    for line in lines.map_while(Result::ok) {
        if line.contains("lab is up") {
            return;
        }
        said.push(line);
    }
    panic!("the maker ended: {said:?}");
}

fn kill(mut maker: Child) {
    maker.kill().unwrap();
    maker.wait().unwrap();
}

/// 0 to `below` - 1, from the kernel.
fn random(below: u32) -> u32 {
    let mut bytes = [0; 4];
    std::io::Read::read_exact(&mut fs::File::open("/dev/urandom").unwrap(), &mut bytes).unwrap();
    u32::from_ne_bytes(bytes) % below
}

/// Everything by which a lab could be noticed from outside.
#[derive(Debug)]
struct Traces {
    processes: Vec<u32>,
    cgroups: Vec<PathBuf>,
    mounts: String,
    links: BTreeSet<String>,
}

impl Traces {
    fn of(name: &str) -> Self {
        let folder = format!("ussh-lab.{name}.");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let cgroups = mounts.lines().find(|line| line.contains(" - cgroup2 ")).unwrap();
        let cgroups = fs::read_dir(cgroups.split(' ').nth(4).unwrap()).unwrap().flatten();
        let links = fs::read_to_string("/proc/net/dev").unwrap();
        Traces {
            processes: processes(&format!("{MARK}={name}."), &folder),
            cgroups: cgroups
                .filter(|entry| entry.file_name().to_string_lossy().starts_with(&folder))
                .map(|entry| entry.path())
                .collect(),
            links: links
                .lines()
                .filter_map(|line| line.split_once(':'))
                .map(|(link, _)| link.trim().to_owned())
                .collect(),
            mounts,
        }
    }

    fn is_clean(&self) -> bool {
        self.processes.is_empty() && self.cgroups.is_empty()
    }
}

/// Processes that carry the mark of the lab, or are in its cgroup. No process: no namespace, no mount, no link.
fn processes(mark: &str, folder: &str) -> Vec<u32> {
    let all = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    all.filter(|pid: &u32| {
        let marked = fs::read(format!("/proc/{pid}/environ"))
            .is_ok_and(|all| all.split(|&byte| byte == 0).any(|variable| variable.starts_with(mark.as_bytes())));
        marked || fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|all| all.contains(folder))
    })
    .collect()
}

fn command_line(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default()
}

fn wait_until_gone(name: &str, before: &Traces) {
    let mut last = String::new();
    let gone = wait_for(SOON, "all traces to go", || {
        let now = Traces::of(name);
        last = format!("{now:?}");
        (now.is_clean() && now.mounts == before.mounts && now.links == before.links).then_some(())
    });
    gone.unwrap_or_else(|error| panic!("{error}: {last}"));
}
