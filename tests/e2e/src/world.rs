//! A lab with USSH set up on it, as the README says: `laptop`, `ca`, `web1`, `web2`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use ussh_lab::{Bind, Command, Host, HostPlan, Lab, LabBuilder, LabError, Output, Pty, SSHD_CONFIG, wait_until};

use crate::build::{Role, panicking_module, programs};
use crate::certificate::{Shown, shown_certificates};
use crate::unattended::{ASKPASS, ASKPASS_PATH};

/// The CA's folder on `ca`.
pub const CA_DIR: &str = "/var/lib/ca";
/// Where `ussh-hostd sync` finds the feed on a server.
pub const FEED: &str = "/srv/ussh-feed";
/// A person's ssh-agent on the laptop, below the home folder.
pub const AGENT: &str = ".agent.sock";

/// The CA's policy: two groups, and nobody else.
pub const POLICY: &str = r#"# Rules in order; the first that matches decides.

[[rule]]
name = "admins"
groups = ["admins"]
validity_seconds = 28800
principals = ["%u"]

[[rule]]
name = "contractors"
groups = ["contractors"]
validity_seconds = 20
principals = ["%u"]
"#;

/// sshd_config of a server that takes our certificates and nothing else.
pub const SSHD_WITH_CERTIFICATES: &str = "\
TrustedUserCAKeys /etc/ssh/trusted_user_ca
RevokedKeys /etc/ssh/revoked_keys
HostKey /etc/ssh/ssh_host_ed25519_key
HostCertificate /etc/ssh/ssh_host_ed25519_key-cert.pub
PasswordAuthentication no
LogLevel VERBOSE
";

const SUDO: &str = "\
auth     required  pam_ussh.so ca_file=/etc/ssh/trusted_user_ca revoked_keys=/etc/ssh/revoked_keys
@include common-account
@include common-session-noninteractive
";

const SSHD_PAM: &str = "\
@include common-auth
account  required  pam_nologin.so
@include common-account
session  requisite pam_ussh.so
session  required  pam_loginuid.so
@include common-session
session  required  pam_limits.so
session  required  pam_env.so user_readenv=1 envfile=/etc/default/locale
@include common-password
";

const HOSTD: &str = "\
warn_before_seconds = [8]
look_before_seconds = 6
grace_seconds = 2

[sync]
source = \"file:/srv/ussh-feed\"
# Tests sync when they mean to.
every_seconds = 86400
";

/// As packaged: what laptops hold by default.
const USSH: &str = include_str!("../../../packaging/ussh/ussh.toml");
const SSH: &str = include_str!("../../../packaging/ssh/ssh_config.d/ussh.conf");

/// A login shell on the laptop finds its agent.
const PROFILE: &str = "[ ! -S \"$HOME/.agent.sock\" ] || export SSH_AUTH_SOCK=\"$HOME/.agent.sock\"\n";

/// How long anything of the set-up may take.
const SOON: Duration = Duration::from_secs(20);

/// Errors as sentences: a set-up that fails is a failed test, and the lab's report says the rest.
type Result<T> = std::result::Result<T, LabError>;

/// What a world is to hold.
#[derive(Clone, Debug)]
pub struct WorldPlan {
    name: String,
    people: Vec<(String, String, Vec<String>)>,
    servers: Vec<String>,
    /// Of hosts that stand on another root than the machine's.
    roots: BTreeMap<String, PathBuf>,
    bare: Vec<String>,
    /// Of bare hosts that have a server's programs.
    installed: Vec<String>,
    policy: String,
    ca_config: String,
    penalties: bool,
    binds: Vec<Bind>,
    panics: bool,
}

impl WorldPlan {
    /// alice (admins), bob and carol (contractors, 20 s); web1 and web2.
    pub fn new(name: &str) -> Self {
        WorldPlan {
            name: name.to_owned(),
            people: Vec::new(),
            servers: Vec::new(),
            roots: BTreeMap::new(),
            bare: Vec::new(),
            installed: Vec::new(),
            policy: POLICY.to_owned(),
            ca_config: String::new(),
            penalties: false,
            binds: Vec::new(),
            panics: false,
        }
        .person("alice", "correct horse", &["admins"])
        .person("bob", "battery staple", &["contractors"])
        .person("carol", "trombone", &["contractors"])
        .server("web1")
        .server("web2")
    }

    /// One more person, on every host.
    #[must_use]
    pub fn person(mut self, name: &str, password: &str, groups: &[&str]) -> Self {
        self.people.push((name.to_owned(), password.to_owned(), groups.iter().map(|&g| g.to_owned()).collect()));
        self
    }

    /// `count` more people of no particular name, each in the group, for [`World::somebody`].
    #[must_use]
    pub fn people(self, count: usize, group: &str) -> Self {
        (0..count).fold(self, |plan, number| plan.person(&person_name(number), "secret", &[group]))
    }

    /// No servers but those that are named after this: what is tried concerns the CA alone.
    #[must_use]
    pub fn without_servers(mut self) -> Self {
        self.servers.clear();
        self
    }

    /// One more server.
    #[must_use]
    pub fn server(mut self, name: &str) -> Self {
        self.servers.push(name.to_owned());
        self
    }

    /// One more server, on another root than the machine's.
    #[must_use]
    pub fn server_on(mut self, name: &str, root: impl Into<PathBuf>) -> Self {
        self.roots.insert(name.to_owned(), root.into());
        self.server(name)
    }

    /// The laptop stands on another root than the machine's.
    #[must_use]
    pub fn laptop_on(mut self, root: impl Into<PathBuf>) -> Self {
        self.roots.insert("laptop".to_owned(), root.into());
        self
    }

    /// One more host with nothing of ours on it.
    #[must_use]
    pub fn bare(mut self, name: &str) -> Self {
        self.bare.push(name.to_owned());
        self
    }

    /// One more host with nothing of ours on it, on another root than the machine's.
    #[must_use]
    pub fn bare_on(mut self, name: &str, root: impl Into<PathBuf>) -> Self {
        self.roots.insert(name.to_owned(), root.into());
        self.bare(name)
    }

    /// One more host with a server's programs and nothing set up.
    #[must_use]
    pub fn installed(mut self, name: &str) -> Self {
        self.installed.push(name.to_owned());
        self.bare(name)
    }

    /// One more host with a server's programs and nothing set up, on another root than the machine's.
    #[must_use]
    pub fn installed_on(mut self, name: &str, root: impl Into<PathBuf>) -> Self {
        self.roots.insert(name.to_owned(), root.into());
        self.installed(name)
    }

    /// Another policy than [`POLICY`].
    #[must_use]
    pub fn policy(mut self, policy: &str) -> Self {
        policy.clone_into(&mut self.policy);
        self
    }

    /// More lines of the CA's usshca.toml; none of a table, unless it is one of [`Self::with_penalties`].
    #[must_use]
    pub fn ca_config(mut self, lines: &str) -> Self {
        lines.clone_into(&mut self.ca_config);
        self
    }

    /// The CA gives penalties, as it does without a word in its configuration. (Else whoever tries wrong passwords in one test would be shut out in the next.)
    #[must_use]
    pub fn with_penalties(mut self) -> Self {
        self.penalties = true;
        self
    }

    /// Shows a file or folder of the machine on every host, read only.
    #[must_use]
    pub fn bind_all(mut self, source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        self.binds.push(Bind { source: source.into(), target: target.into() });
        self
    }

    /// `pam_ussh_panics.so` on every server beside the module: it panics in the hook that its line names (`inject_panic=auth`).
    #[must_use]
    pub fn with_panics(mut self) -> Self {
        self.panics = true;
        self
    }

    /// Sets all of it up.
    ///
    /// # Errors
    /// What could not be set up.
    pub fn start(self) -> Result<World> {
        let lab = self.lab()?.start()?;
        let world = World { lab, plan: self, taken: AtomicUsize::new(0) };
        world.set_up_ca()?;
        for name in &world.plan.servers {
            world.set_up_server(name)?;
        }
        world.set_up_laptop()?;
        Ok(world)
    }

    fn lab(&self) -> Result<LabBuilder> {
        let not_built = |reason| LabError::Setup { what: reason, log: String::new() };
        let plan = |name: &str, role: Role| -> Result<HostPlan> {
            let mut binds = programs(role).map_err(not_built)?;
            if self.panics && role == Role::Server {
                binds.push(panicking_module().map_err(not_built)?);
            }
            Ok(HostPlan::new(name).binds(binds))
        };
        let laptop = plan("laptop", Role::Laptop)?;
        let laptop = match self.roots.get("laptop") {
            Some(root) => laptop.base(root),
            None => laptop,
        };
        let mut lab = Lab::new(&self.name).plan(laptop).plan(plan("ca", Role::Ca)?);
        for name in &self.servers {
            let server = plan(name, Role::Server)?;
            lab = lab.plan(match self.roots.get(name) {
                Some(root) => server.base(root),
                None => server,
            });
        }
        for name in &self.bare {
            let bare = if self.installed.contains(name) { plan(name, Role::Server)? } else { HostPlan::new(name) };
            lab = lab.plan(match self.roots.get(name) {
                Some(root) => bare.base(root),
                None => bare,
            });
        }
        for bind in &self.binds {
            lab = lab.bind_all(&bind.source, &bind.target);
        }
        for (name, password, groups) in &self.people {
            let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
            lab = lab.user(name, password, &groups);
        }
        Ok(lab)
    }
}

/// The hosts, running.
#[derive(Debug)]
pub struct World {
    lab: Lab,
    plan: WorldPlan,
    /// How many of [`WorldPlan::people`] are taken.
    taken: AtomicUsize,
}

fn person_name(number: usize) -> String {
    format!("person{number:02}")
}

impl World {
    /// The next of [`WorldPlan::people`]: everybody is somebody else, so that tests do not read each other's logs.
    ///
    /// # Errors
    /// Nobody is left: the plan wants more people.
    pub fn somebody(&self) -> Result<String> {
        let name = person_name(self.taken.fetch_add(1, Ordering::Relaxed));
        if self.plan.people.iter().any(|person| person.0 == name) {
            return Ok(name);
        }
        Err(LabError::Setup { what: format!("there is no {name}"), log: String::new() })
    }

    /// The lab below.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// A host by name.
    pub fn host(&self, name: &str) -> Host {
        self.lab.host(name)
    }

    /// A person's password.
    pub fn password(&self, name: &str) -> &str {
        self.plan.people.iter().find(|p| p.0 == name).map_or("", |p| p.1.as_str())
    }

    /// A shell command on a host as a person, with their agent in SSH_AUTH_SOCK (which is there on the laptop only).
    ///
    /// # Errors
    /// It could not be run; an exit code is not an error.
    pub fn sh(&self, host: &str, user: &str, script: &str) -> Result<Output> {
        let host = self.host(host);
        person_command(&host, user, script).run()
    }

    /// The same on a terminal.
    ///
    /// # Errors
    /// It could not be started.
    pub fn terminal(&self, host: &str, user: &str, script: &str) -> Result<Pty> {
        let host = self.host(host);
        person_command(&host, user, script).terminal()
    }

    /// `usshca` on the CA's folder.
    ///
    /// # Errors
    /// It could not be run; an exit code is not an error.
    pub fn usshca(&self, arguments: &str) -> Result<Output> {
        self.host("ca").run(["sh", "-c", &format!("exec usshca --dir {CA_DIR} {arguments}")])
    }

    /// `ussh` on the laptop with these arguments, the password typed in when it is asked for. Gives what was shown and the exit code.
    ///
    /// # Errors
    /// No prompt came, or no end.
    pub fn log_in(&self, user: &str, arguments: &str) -> Result<(i32, String)> {
        let terminal = self.terminal("laptop", user, &format!("ussh {arguments}"))?;
        terminal.expect("assword:", SOON)?;
        terminal.send(&format!("{}\n", self.password(user)))?;
        let status = terminal.expect_exit(SOON)?;
        terminal.expect_close(SOON)?;
        Ok((status.code(), terminal.transcript()))
    }

    /// The certificates in a person's agent on the laptop, as ssh-keygen shows them.
    ///
    /// # Errors
    /// It could not be run.
    pub fn certificates(&self, user: &str) -> Result<Vec<Shown>> {
        Ok(shown_certificates(&self.sh("laptop", user, "ssh-add -L | ssh-keygen -Lf -")?.stdout))
    }

    /// A person's ssh-agent on the laptop, with nothing in it.
    ///
    /// # Errors
    /// It does not come up.
    pub fn start_agent(&self, host: &str, user: &str) -> Result<()> {
        let host = self.host(host);
        let socket = format!("/home/{user}/{AGENT}");
        host.command(["ssh-agent", "-D", "-a", &socket]).user(user).service(&format!("ssh-agent of {user}"))?;
        wait_until(SOON, "the agent's socket", || host.exists(&socket))
    }

    /// Starts the CA's daemon.
    ///
    /// # Errors
    /// It does not listen.
    pub fn start_ca(&self) -> Result<()> {
        let ca = self.host("ca");
        let serve = ca.command(["usshca", "--dir", CA_DIR, "serve"]).service("usshca")?;
        serve.wait_for_output("listening on", SOON)
    }

    /// Brings the CA's KRL to a server's feed folder, as a web server or configuration management would.
    ///
    /// # Errors
    /// What could not be copied.
    pub fn carry_feed(&self, server: &str) -> Result<()> {
        let ca = self.host("ca");
        let krl = format!("{CA_DIR}/public/krl");
        self.usshca(&format!("krl --out {krl}"))?.ok()?;
        let to = self.host(server);
        to.run(["mkdir", "-p", FEED])?.ok()?;
        to.write_file(&format!("{FEED}/user_ca.pub"), 0o644, ca.read_bytes(&format!("{CA_DIR}/public/user_ca.pub"))?)?;
        to.write_file(&format!("{FEED}/krl"), 0o644, ca.read_bytes(&krl)?)
    }

    /// A host certificate for the key that lies on `server` now.
    ///
    /// # Errors
    /// The CA refused, or a file could not be copied.
    pub fn sign_host(&self, server: &str) -> Result<()> {
        const KEY: &str = "/etc/ssh/ssh_host_ed25519_key";
        let host = self.host(server);
        if !host.exists(KEY) {
            host.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", KEY])?.ok()?;
        }
        let public = host.read_bytes(&format!("{KEY}.pub"))?;
        let argv = ["usshca", "--dir", CA_DIR, "host", "sign", "--name", server, "-"];
        let signed = self.host("ca").command(argv).stdin(public).run()?.ok()?;
        host.write_file(&format!("{KEY}-cert.pub"), 0o644, signed.stdout_bytes)
    }

    /// How much a host has logged.
    pub fn log_position(&self, host: &str) -> usize {
        self.host(host).log().len()
    }

    /// What a host has logged since that position. All that was sent to its syslog before this call is in it.
    ///
    /// # Errors
    /// Its syslog takes nothing any more.
    pub fn logged_since(&self, host: &str, position: usize) -> Result<String> {
        static MARKS: AtomicU32 = AtomicU32::new(0);
        let host = self.host(host);
        let mark = format!("mark-{}-of-the-test", MARKS.fetch_add(1, Ordering::Relaxed));
        // Datagrams of one socket keep their order.
        host.run(["logger", "-t", "mark", &mark])?.ok()?;
        let mut log = String::new();
        wait_until(SOON, "syslog", || {
            log = host.log();
            log.contains(&mark)
        })?;
        Ok(log
            .get(position..)
            .unwrap_or_default()
            .lines()
            .filter(|line| !line.contains("mark-"))
            .fold(String::new(), |all, line| all + line + "\n"))
    }

    /// Writes a server's PAM line for sudo.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn sudo_pam(&self, server: &str, line: &str) -> Result<()> {
        let rest = SUDO.lines().skip(1).fold(String::new(), |all, l| all + l + "\n");
        self.host(server).write_file("/etc/pam.d/sudo", 0o644, format!("{line}\n{rest}"))
    }

    fn set_up_ca(&self) -> Result<()> {
        let ca = self.host("ca");
        ca.script("mkdir -p /srv")?;
        ca.run(["usshca", "--dir", CA_DIR, "init", "--name", "ca", "--listen", "0.0.0.0:22"])?.ok()?;
        ca.write_file(&format!("{CA_DIR}/policy.toml"), 0o644, &self.plan.policy)?;
        let config = format!("{CA_DIR}/usshca.toml");
        let penalties = if self.plan.penalties { "" } else { "[penalties]\nexempt = [\"0.0.0.0/0\"]\n" };
        let text = format!("{}{}\n{penalties}", ca.read_file(&config)?, self.plan.ca_config);
        ca.write_file(&config, 0o644, text)?;
        self.start_ca()
    }

    fn set_up_server(&self, name: &str) -> Result<()> {
        let host = self.host(name);
        self.sign_host(name)?;
        self.carry_feed(name)?;
        host.write_file("/etc/ussh/hostd.toml", 0o644, HOSTD)?;
        host.run(["ussh-hostd", "sync"])?.ok()?;
        host.write_file("/etc/pam.d/sudo", 0o644, SUDO)?;
        // Debian's sudo asks another service for a login shell.
        host.write_file("/etc/pam.d/sudo-i", 0o644, SUDO)?;
        host.write_file("/etc/pam.d/su", 0o644, format!("auth sufficient pam_rootok.so\n{SUDO}"))?;
        host.write_file("/etc/pam.d/sshd", 0o644, SSHD_PAM)?;
        host.write_file(
            "/etc/sudoers.d/ussh",
            0o440,
            "Defaults timestamp_timeout=0, passwd_tries=1, noninteractive_auth\n%admins ALL=(ALL) ALL\n%contractors ALL=(ALL) ALL\n",
        )?;
        host.start_sshd(&format!("{SSHD_CONFIG}{SSHD_WITH_CERTIFICATES}"))?;
        let hostd = host.command(["ussh-hostd", "run"]).service("ussh-hostd")?;
        hostd.wait_for_output("Watching", SOON)
    }

    /// The laptop as README sets it up: these hosts get the guarded agent, by a `[[host]]` table, and nothing lends them the whole one.
    ///
    /// # Errors
    /// If the laptop's files cannot be read or written.
    pub fn guard_agents(&self, pattern: &str) -> Result<()> {
        let laptop = self.host("laptop");
        let config = laptop.read_file("/etc/ussh/ussh.toml")?;
        laptop.write_file("/etc/ussh/ussh.toml", 0o644, format!("{config}\n[[host]]\nmatch = [\"{pattern}\"]\n"))?;
        laptop.run(["sed", "-i", "/ForwardAgent/d", "/etc/ssh/ssh_config.d/ussh.conf"])?.ok().map(drop)
    }

    fn set_up_laptop(&self) -> Result<()> {
        let (ca, laptop) = (self.host("ca"), self.host("laptop"));
        let public = |name: &str| ca.read_bytes(&format!("{CA_DIR}/public/{name}"));
        laptop.write_file(ASKPASS_PATH, 0o755, ASKPASS)?;
        // Whole agents, by plain `ssh` too: the module is to be seen with all that an agent can do. Tests of the guarded one add its [[host]] table.
        let (ussh, _hosts) = USSH.split_once("\n[[host]]\n").unwrap_or((USSH, ""));
        let ssh = SSH.replace("web1 *.example.com", "web* rogue").replace("  # ForwardAgent", "  ForwardAgent");
        laptop.write_file("/etc/ussh/ussh.toml", 0o644, format!("{}\n", ussh.replace("ca.example.com", "ca")))?;
        laptop.write_file("/etc/ussh/user_ca.pub", 0o644, public("user_ca.pub")?)?;
        laptop.write_file("/etc/ussh/known_hosts", 0o644, public("known_hosts")?)?;
        laptop.write_file("/etc/profile.d/agent.sh", 0o644, PROFILE)?;
        laptop.write_file("/etc/ssh/ssh_known_hosts", 0o644, public("known_hosts")?)?;
        // `rogue` is how worlds call a server that has no certificate.
        laptop.write_file("/etc/ssh/ssh_config.d/ussh.conf", 0o644, ssh)?;
        self.plan.people.iter().try_for_each(|(name, ..)| self.start_agent("laptop", name))
    }
}

fn person_command<'a>(host: &'a Host, user: &str, script: &str) -> Command<'a> {
    let command = host.command(["bash", "-c", script]).user(user);
    if user == "root" { command } else { command.env("SSH_AUTH_SOCK", &format!("/home/{user}/{AGENT}")) }
}
