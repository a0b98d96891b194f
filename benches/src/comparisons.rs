//! The hosts, and what is compared on them.

use std::error::Error;
use std::time::Duration;

use ussh_e2e::lab::{Command, Host, LabError, SSHD_CONFIG};
use ussh_e2e::{AGENT, Forgery, World, WorldPlan};

use crate::ca_load;
use crate::module::{self, MATCHES, SESSION, session_commands};
use crate::row::{Comparison, Fact, Goal, Row};
use crate::table::Machine;
use crate::timer::Series;

/// Where this very program lies in the hosts.
const TIMER: &str = "/usr/libexec/ussh-bench";
/// A host with nothing of ours on it, whose sshd asks for the password.
const STOCK: &str = "stock";
/// Whoever runs the commands.
const USER: &str = "alice";
/// Prints the password, as a person would type it. Below the home folder.
const ASKPASS: &str = ".askpass";
/// `true` once more: sudo takes it through the service [`PERMIT`].
const TRUE_BY_PERMIT: &str = "/usr/local/bin/true-by-permit";
/// The PAM service of sudo's baseline.
const PERMIT: &str = "sudo-permit";
/// How many times more often a pair is run whose two differ by less than each of them varies.
const CLOSE: u32 = 3;
/// And how many times more often the module alone: its runs take milliseconds, and its goals fractions of them.
const ALONE: u32 = 7;
/// Series of each pair whose goal is a fraction of what the machine varies by: the one that was disturbed least counts.
const SERIES: u32 = 3;
/// Most resident memory of the CA's supervisor and signer together, in KiB.
const IDLE: f64 = 12.0 * 1024.0;
/// Longest time for one run of A and one of B, on a machine that is busy.
const PAIR: Duration = Duration::from_secs(5);

/// sshd that asks the same PAM lines as the CA, by keyboard-interactive, and nothing else; so its clients try nothing else first.
const SSHD_WITH_PASSWORDS: &str = "\
PasswordAuthentication no
PubkeyAuthentication no
HostKey /etc/ssh/ssh_host_ed25519_key
HostCertificate /etc/ssh/ssh_host_ed25519_key-cert.pub
";

const LOGIN: Comparison = Comparison {
    title: "login at the CA",
    a: "ssh -A ca: stock ssh types the password (askpass) at the CA; a new key and certificate are in the agent at its end, the old ones removed",
    b: "ssh stock true: sshd's own keyboard-interactive login with the same auth and account lines of PAM, the same askpass, host certificate too",
    goals: &[Goal::RatioAtMost(0.5)],
};

const SUDO: Comparison = Comparison {
    title: "sudo, agent on the host",
    a: "sudo true through `auth required pam_ussh.so`: the agent, an ssh-agent on the same host, signs a challenge with the certificate's key",
    b: "sudo true through `auth required pam_permit.so`; all else is the same in both, and sudo's ticket cache is off",
    goals: &[],
};

const SUDO_FORWARDED: Comparison = Comparison {
    title: "sudo, agent forwarded",
    a: "as above, with the laptop's ssh-agent, forwarded by `ssh -A`; the clock runs on the server all the same",
    b: "as above",
    goals: &[],
};

const USSH: Comparison = Comparison {
    title: "ussh with a good certificate",
    a: "ussh web1 true, over a ControlMaster connection that stands: what ussh adds is the same, and a whole login varies by more than that",
    b: "ssh web1 true, over the same connection",
    goals: &[Goal::MillisecondsOverAtMost(2.0)],
};

const USSH_OURS: Comparison = Comparison {
    title: "ussh to a host of a [[host]] table",
    a: "ussh web1 true, which asks `ssh -G` for the host and forwards the guarded agent; the ControlMaster connection again",
    b: "ssh -G web1, and then ssh web1 true, with the same agent forwarded",
    goals: &[Goal::MillisecondsOverAtMost(2.0)],
};

const USSH_ALONE: Comparison = Comparison {
    title: "ussh, without the ssh",
    a: "ussh --check, which does what ussh does before it becomes ssh: configuration, the agent's certificates, the verdict on them",
    b: "true, a process that does nothing; the difference is ussh's share in the rows above, where ssh's own time varies by more",
    goals: &[Goal::MillisecondsOverAtMost(3.0)],
};

const SUDO_GUARDED: Comparison = Comparison {
    title: "sudo, guarded agent",
    a: "sudo true on the server with the guarded agent at the other end of the connection, which is told the challenge, checks, signs and logs it",
    b: "the same with the laptop's ssh-agent there, straight",
    goals: &[Goal::MillisecondsOverAtMost(0.3)],
};

const GUARDED_START: Comparison = Comparison {
    title: "guarded agent, start",
    a: "ussh --agent with no guarded agent there: it is started; and a listing by it",
    b: "the same with one that runs; the difference is the start, up to the first answer",
    goals: &[Goal::MillisecondsOverAtMost(5.0)],
};

/// The guarded agent signs 60 challenges a minute for one ssh; with the pair that is not counted this is below.
const A_MINUTE: u32 = 55;
/// Most resident memory of the guarded agent's process, KiB.
const GUARDED_MEMORY: f64 = 4.0 * 1024.0;
/// Most resident memory of ussh-hostd with so many sessions, KiB.
const HOSTD_MEMORY: f64 = 10.0 * 1024.0;
const HOSTD_SESSIONS: usize = 1000;
/// Most resident memory of `ussh --check`, KiB.
const CHECK_MEMORY: f64 = 5.0 * 1024.0;
/// Runs a command and prints its most resident memory.
const PEAK: &str = "/usr/local/bin/peak";

/// Anything may go wrong.
pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How one comparison is measured.
type Measure = fn(&Bench) -> Result<Row>;

/// The hosts, and how often each command is run.
#[derive(Debug)]
pub struct Bench {
    world: World,
    runs: u32,
}

impl Bench {
    /// Sets the hosts up.
    ///
    /// # Errors
    /// What could not be set up.
    pub fn start(runs: u32) -> Result<Self> {
        let world = WorldPlan::new("bench").without_servers().server("web1").bare(STOCK);
        let world = world.bind_all(std::env::current_exe()?, TIMER).start()?;
        let bench = Bench { world, runs };
        bench.set_up_laptop()?;
        bench.set_up_stock()?;
        bench.set_up_sudo()?;
        let login = bench.world.forge(&Forgery::of(USER).validity("-5m:+1d"))?;
        let module = module::set_up(&bench.world.host("web1"), USER, TIMER, login.certificate());
        module.inspect_err(|_| eprintln!("{}", bench.world.lab().report()))?;
        Ok(bench)
    }

    /// What it all runs on.
    ///
    /// # Errors
    /// The machine does not say.
    pub fn machine(&self) -> Result<Machine> {
        let version = |host: &str, command: &[&str]| -> Result<String> {
            let output = self.world.host(host).run(command)?.ok()?;
            let text = output.stdout + &output.stderr;
            Ok(text.lines().next().unwrap_or_default().split(',').next().unwrap_or_default().to_owned())
        };
        let load = std::fs::read_to_string("/proc/loadavg")?;
        Ok(Machine {
            ssh: version("laptop", &["ssh", "-V"])?,
            sudo: version("web1", &["sudo", "-V"])?,
            cores: std::thread::available_parallelism()?.get(),
            load_average: load.split(' ').next().unwrap_or_default().parse()?,
        })
    }

    /// All of them, or those whose title holds `only`, in this order: the login leaves the certificate with which the others work.
    ///
    /// # Errors
    /// A run failed, or did not do what it is there for.
    pub fn compare_all(&self, only: Option<&str>) -> Result<Vec<Row>> {
        let is_wanted = |comparison: &Comparison| only.is_none_or(|words| comparison.title.contains(words));
        let with_logins: [(Comparison, Measure); 8] = [
            (LOGIN, Self::login),
            (SUDO, Self::sudo),
            (SUDO_FORWARDED, Self::sudo_forwarded),
            (USSH, Self::ussh),
            (USSH_OURS, Self::ussh_ours),
            (USSH_ALONE, Self::ussh_alone),
            (SUDO_GUARDED, Self::sudo_guarded),
            (GUARDED_START, Self::guarded_start),
        ];
        let rows = || -> Result<_> {
            let mut rows = Vec::new();
            for (_, measure) in with_logins.iter().filter(|(comparison, _)| is_wanted(comparison)) {
                rows.push(measure(self)?);
            }
            let alone = MATCHES.iter().map(|one| (one.comparison, one.commands(USER)));
            let alone = alone.chain([(SESSION, session_commands(USER))]);
            for (comparison, (a, b)) in alone.filter(|(comparison, _)| is_wanted(comparison)) {
                let (host, runs) = (self.world.host("web1"), self.runs.saturating_mul(ALONE));
                rows.push(self.calmest(comparison, runs, || timed(&host, runs, &a, &b))?);
            }
            Ok(rows)
        };
        rows().inspect_err(|_| eprintln!("{}", self.world.lab().report()))
    }

    /// What is measured in other units than time.
    ///
    /// # Errors
    /// What could not be measured.
    pub fn facts(&self) -> Result<Vec<Fact>> {
        let mut facts = module::facts(&self.world.host("web1"), USER)?;
        facts.push(self.idle_memory()?);
        facts.push(self.guarded_memory()?);
        facts.push(self.hostd_memory()?);
        facts.push(self.check_memory()?);
        facts.extend(ca_load::facts()?);
        Ok(facts)
    }

    /// Of the CA's two standing processes, after all the logins.
    fn idle_memory(&self) -> Result<Fact> {
        let script = "for name in usshca usshca-signer; do ps -o rss= -C \"$name\" || exit 1; done";
        let said = self.world.host("ca").script(script)?.ok()?.stdout;
        let parts = said.split_ascii_whitespace().map(str::parse::<f64>).collect::<std::result::Result<Vec<_>, _>>()?;
        let [supervisor, signer] = parts[..] else {
            return Err(format!("not one supervisor and one signer: {said}").into());
        };
        let value = supervisor + signer;
        Ok(Fact { title: "CA idle, supervisor and signer", value, unit: "KiB", at_most: Some(IDLE), at_least: None })
    }

    fn login(&self) -> Result<Row> {
        let laptop = self.world.host("laptop");
        let before = self.delivered()?;
        let row =
            self.compare(LOGIN, self.runs, timed(&laptop, self.runs, "ssh -A ca", &format!("ssh {STOCK} true")))?;
        // Each login brought a certificate, and what all of them left is what a person has after one.
        let delivered = self.delivered()?.saturating_sub(before);
        let held = self.world.certificates(USER)?.len();
        if delivered == row.runs.saturating_add(1) && held == 1 {
            Ok(row)
        } else {
            Err(format!("{} logins and one: {delivered} certificates delivered, {held} in the agent", row.runs).into())
        }
    }

    /// How many certificates of the person's the CA has delivered.
    fn delivered(&self) -> Result<usize> {
        Ok(self.world.rows_of(USER)?.iter().filter(|row| row.outcome == "delivered").count())
    }

    fn sudo(&self) -> Result<Row> {
        let web1 = self.world.host("web1");
        self.check_sudo(&web1)?;
        let (ours, permit) = sudo_commands();
        self.compare(SUDO, self.runs, timed(&web1, self.runs, &ours, &permit))
    }

    fn sudo_forwarded(&self) -> Result<Row> {
        let (ours, permit) = sudo_commands();
        let laptop = self.world.host("laptop");
        let there = format!("ssh -A web1 {}", timer(self.runs, &ours, &permit));
        self.compare(SUDO_FORWARDED, self.runs, person(&laptop, &there).timeout(patience(self.runs)))
    }

    /// Both agents stand on the server at once, each behind a socket of its own on the same connection.
    fn sudo_guarded(&self) -> Result<Row> {
        let runs = self.runs.saturating_mul(CLOSE).min(A_MINUTE);
        let socket = |name: &str| format!("/home/{USER}/{name}.sock");
        let sudo = |name: &str| format!("env SSH_AUTH_SOCK={} sudo /usr/bin/true", socket(name));
        let timer = timer(runs, &sudo("guarded"), &sudo("straight"));
        let (guarded, straight) = (socket("guarded"), socket("straight"));
        let there =
            format!("ussh web1 true && ssh -R {guarded}:$(ussh --agent) -R {straight}:$SSH_AUTH_SOCK web1 {timer}");
        let laptop = self.world.host("laptop");
        self.calmest(SUDO_GUARDED, runs, || person(&laptop, &there).timeout(patience(runs)))
    }

    /// Without its socket the one that ran goes by itself, seconds later.
    fn guarded_start(&self) -> Result<Row> {
        let (laptop, runs) = (self.world.host("laptop"), self.runs.saturating_mul(CLOSE));
        let socket = person(&laptop, "ussh --agent").run()?.ok()?.stdout.trim().to_owned();
        let listing = |removed: &str| {
            format!("sh -c 'rm -f {removed} && ussh --agent && SSH_AUTH_SOCK={socket} exec ssh-add -l' ")
        };
        let (there, gone) = (listing(&format!("{socket}.none")), listing(&socket));
        self.calmest(GUARDED_START, runs, || timed(&laptop, runs, &gone, &there))
    }

    /// Of a daemon that has just found a thousand sessions; that it then sleeps is a test's business.
    fn hostd_memory(&self) -> Result<Fact> {
        let host = self.world.host("web1");
        let crowd = self.world.stand_in_sessions("web1", USER, HOSTD_SESSIONS)?;
        let daemon = host.command(["ussh-hostd", "run"]).service("ussh-hostd")?;
        daemon.wait_for_output(&format!("Watching {HOSTD_SESSIONS} sessions in "), PAIR)?;
        let value = host.run(["ps", "-o", "rss=", "-p", &daemon.pid().to_string()])?.ok()?.stdout.trim().parse()?;
        crowd.kill()?;
        let title = "ussh-hostd, 1,000 sessions";
        Ok(Fact { title, value, unit: "KiB", at_most: Some(HOSTD_MEMORY), at_least: None })
    }

    /// The largest of those that run, after all the sudo.
    fn guarded_memory(&self) -> Result<Fact> {
        let script = format!("ps -o rss= $(pgrep -u {USER} -f -- '^ussh --agent --serve' | sed 's/^/-p /')");
        let laptop = self.world.host("laptop");
        person(&laptop, "ussh --agent").run()?.ok()?;
        let said = laptop.script(&script)?.ok()?.stdout;
        let sizes = said.split_ascii_whitespace().map(str::parse::<f64>).collect::<std::result::Result<Vec<_>, _>>()?;
        let value = sizes.into_iter().fold(0.0, f64::max);
        if value == 0.0 {
            return Err("no guarded agent runs".into());
        }
        Ok(Fact { title: "guarded agent, resident", value, unit: "KiB", at_most: Some(GUARDED_MEMORY), at_least: None })
    }

    fn check_memory(&self) -> Result<Fact> {
        let laptop = self.world.host("laptop");
        laptop.write_file(PEAK, 0o755, module::compile("peak.c", &[])?)?;
        let value = person(&laptop, &format!("exec {PEAK} ussh --check")).run()?.ok()?.stdout.trim().parse()?;
        Ok(Fact { title: "ussh --check, peak memory", value, unit: "KiB", at_most: Some(CHECK_MEMORY), at_least: None })
    }

    fn ussh(&self) -> Result<Row> {
        let (laptop, runs) = (self.world.host("laptop"), self.runs.saturating_mul(CLOSE));
        let master = Master::start(&laptop)?;
        let row = self.calmest(USSH, runs, || timed(&laptop, runs, &master.over("ussh"), &master.over("ssh")));
        master.end()?;
        row
    }

    /// Both by a shell. The tables are there for this row alone.
    fn ussh_ours(&self) -> Result<Row> {
        const TABLES: &str = ".config/ussh/ussh.toml";
        let (laptop, runs) = (self.world.host("laptop"), self.runs.saturating_mul(CLOSE));
        let write =
            format!("mkdir -p .config/ussh && printf '[[host]]\nmatch = [\"web1\"]\n' > {TABLES} && ussh --agent");
        let agent = person(&laptop, &write).cwd(&format!("/home/{USER}")).run()?.ok()?.stdout;
        // The laptop's ssh_config lends the whole agent, which would be a choice.
        let config = "/etc/ssh/ssh_config.d/ussh.conf";
        let before = laptop.read_file(config)?;
        laptop.run(["sed", "-i", "/ForwardAgent/d", config])?.ok()?;
        let master = Master::start(&laptop)?;
        let ours = format!("sh -c 'exec {}'", master.over("ussh"));
        let stock = master.over(&format!("ssh -o ForwardAgent={}", agent.trim()));
        let stock = format!("sh -c 'ssh -G web1 > /dev/null; exec {stock}'");
        let row = self.calmest(USSH_OURS, runs, || timed(&laptop, runs, &ours, &stock));
        master.end()?;
        laptop.write_file(config, 0o644, before)?;
        person(&laptop, &format!("rm {TABLES}")).cwd(&format!("/home/{USER}")).run()?.ok()?;
        row
    }

    fn ussh_alone(&self) -> Result<Row> {
        let (laptop, runs) = (self.world.host("laptop"), self.runs.saturating_mul(CLOSE));
        self.calmest(USSH_ALONE, runs, || timed(&laptop, runs, "ussh --check", "true"))
    }

    /// Several series, of which the calmest counts.
    fn calmest<'a>(&self, comparison: Comparison, runs: u32, timer: impl Fn() -> Command<'a>) -> Result<Row> {
        let series = (0..SERIES).map(|_| self.compare(comparison, runs, timer())).collect::<Result<Vec<_>>>()?;
        Row::calmest(series).ok_or_else(|| "no series was run".into())
    }

    /// Runs the timer and judges what it says.
    fn compare(&self, comparison: Comparison, runs: u32, timer: Command<'_>) -> Result<Row> {
        eprintln!("ussh-bench: {}, {runs} runs of each …", comparison.title);
        let series: Series = serde_json::from_str(&timer.run()?.ok()?.stdout)?;
        let row = Row::new(comparison, &series).filter(|row| u32::try_from(row.runs) == Ok(runs));
        row.ok_or_else(|| format!("the timer did not do {runs} runs of each").into())
    }

    /// Each of the two is what the table says of it: one asks the agent, the other does not.
    fn check_sudo(&self, web1: &Host) -> Result<()> {
        let (ours, permit) = sudo_commands();
        person(web1, &format!("env -u SSH_AUTH_SOCK {ours}")).run()?.refused()?;
        person(web1, &format!("env -u SSH_AUTH_SOCK {permit}")).run()?.ok()?;
        Ok(())
    }

    fn set_up_laptop(&self) -> Result<()> {
        Ok(self.give_password(&self.world.host("laptop"))?)
    }

    fn set_up_stock(&self) -> Result<()> {
        let (ca, stock) = (self.world.host("ca"), self.world.host(STOCK));
        self.world.sign_host(STOCK)?;
        // The CA opens no PAM session, so this one is as short as can be.
        let pam = ca.read_file("/etc/pam.d/usshca")? + "session required pam_permit.so\n";
        stock.write_file("/etc/pam.d/sshd", 0o644, pam)?;
        let config = SSHD_CONFIG.replace("KbdInteractiveAuthentication no", "KbdInteractiveAuthentication yes");
        stock.start_sshd(&format!("{config}{SSHD_WITH_PASSWORDS}"))?;
        Ok(())
    }

    fn set_up_sudo(&self) -> Result<()> {
        let web1 = self.world.host("web1");
        web1.run(["cp", "/usr/bin/true", TRUE_BY_PERMIT])?.ok()?;
        let ours = web1.read_file("/etc/pam.d/sudo")?;
        let rest = ours.lines().filter(|line| !line.starts_with("auth")).fold(String::new(), |all, l| all + l + "\n");
        web1.write_file(&format!("/etc/pam.d/{PERMIT}"), 0o644, format!("auth required pam_permit.so\n{rest}"))?;
        let by_permit = format!("Defaults!{TRUE_BY_PERMIT} pam_service={PERMIT}\n");
        web1.write_file("/etc/sudoers.d/bench", 0o440, by_permit)?;

        // A certificate for an agent on the server itself: by a login at the CA from there.
        let known = self.world.host("laptop").read_bytes("/etc/ssh/ssh_known_hosts")?;
        web1.write_file("/etc/ssh/ssh_known_hosts", 0o644, known)?;
        self.give_password(&web1)?;
        self.world.start_agent("web1", USER)?;
        person(&web1, "ssh -A ca").run()?.ok()?;
        Ok(())
    }

    fn give_password(&self, host: &Host) -> std::result::Result<(), LabError> {
        let script = format!("#!/bin/sh\necho '{}'\n", self.world.password(USER));
        host.write_file_as(USER, &format!("/home/{USER}/{ASKPASS}"), 0o700, script)
    }
}

/// A connection of the person's to the server that stands, for others to go over (ssh_config(5) ControlMaster).
struct Master<'a> {
    laptop: &'a Host,
}

impl<'a> Master<'a> {
    /// Below the home folder.
    const SOCKET: &'static str = ".master";

    fn start(laptop: &'a Host) -> Result<Self> {
        // The one that stays must hold none of our pipes.
        let script = format!("ussh web1 true && exec ssh -f -N -M -S {} web1 > /dev/null 2>&1", Self::socket());
        person(laptop, &script).run()?.ok()?;
        Ok(Master { laptop })
    }

    fn socket() -> String {
        format!("/home/{USER}/{}", Self::SOCKET)
    }

    /// `ssh` and its like, over it.
    fn over(&self, ssh: &str) -> String {
        format!("{ssh} -S {} web1 true", Self::socket())
    }

    fn end(self) -> Result<()> {
        person(self.laptop, &format!("ssh -S {} -O exit web1", Self::socket())).run()?.ok()?;
        Ok(())
    }
}

/// The timer with two commands, on a host.
fn timed<'a>(host: &'a Host, runs: u32, a: &str, b: &str) -> Command<'a> {
    person(host, &format!("exec {}", timer(runs, a, b))).timeout(patience(runs))
}

fn timer(runs: u32, a: &str, b: &str) -> String {
    format!("{TIMER} time-in-turn -n {runs} -- {a} -- {b}")
}

/// One pair more: the first is not counted.
fn patience(runs: u32) -> Duration {
    PAIR.saturating_mul(runs.saturating_add(1))
}

/// Ours, and the baseline.
fn sudo_commands() -> (String, String) {
    ("sudo /usr/bin/true".to_owned(), format!("sudo {TRUE_BY_PERMIT}"))
}

/// A shell command as the person, with agent and password at hand.
fn person<'a>(host: &'a Host, script: &str) -> Command<'a> {
    host.command(["sh", "-c", script])
        .user(USER)
        .env("SSH_AUTH_SOCK", &format!("/home/{USER}/{AGENT}"))
        .env("SSH_ASKPASS", &format!("/home/{USER}/{ASKPASS}"))
        .env("SSH_ASKPASS_REQUIRE", "force")
}
