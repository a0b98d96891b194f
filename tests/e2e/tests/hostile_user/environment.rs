//! All that stands beside SSH_AUTH_SOCK: other variables, what sudo itself does with them, and files of the user's that make some.

use ussh_e2e::Forgery;

use crate::street::{Street, certificate_of};
use crate::{AGENT_SILENT, NO_AGENT, NOT_GOOD, SOON, WORLD};

/// One sudo on a street's server.
struct Tried {
    shown: String,
    log: Vec<String>,
}

impl Street {
    /// Runs a script of the user's, with `asked` as SSH_AUTH_SOCK unless it is empty.
    fn try_script(&self, asked: &str, script: &str) -> Tried {
        let host = self.host();
        let position = WORLD.log_position(self.server);
        let mut command = host.command(["bash", "-c", script]).user(&self.user).cwd(&self.folder);
        if !asked.is_empty() {
            command = command.env("SSH_AUTH_SOCK", asked);
        }
        let output = command.timeout(SOON).run().unwrap();
        Tried { shown: output.stdout + &output.stderr, log: self.logged_since(position) }
    }
}

impl Tried {
    fn accepted(&self, serial: u64) {
        let line = self.log.last().map_or("", String::as_str);
        assert!(self.shown == "0\n" && self.log.len() == 1, "{} {:#?}", self.shown, self.log);
        assert!(line.contains("Accepted certificate ID ") && line.contains(&format!(" (serial {serial}) ")), "{line}");
    }

    fn refused(&self, sentence: &str, reason: &str) {
        let line = self.log.last().map_or("", String::as_str);
        assert!(self.shown.matches(sentence).count() == 1 && self.log.len() == 1, "{} {:#?}", self.shown, self.log);
        assert!(!self.shown.lines().any(|line| line == "0"), "{}", self.shown);
        assert!(line.contains("Refusing ") && line.ends_with(&format!(": {reason}")), "{reason}: {line}");
    }
}

/// What the C library, Rust's and programs around it would read, load or write, each naming a trap.
const LOADED: &str = "LD_PRELOAD LD_LIBRARY_PATH LD_AUDIT LD_ORIGIN_PATH LD_DEBUG_OUTPUT LD_PROFILE_OUTPUT GCONV_PATH GETCONF_DIR LOCPATH NLSPATH \
    MALLOC_TRACE HOSTALIASES LOCALDOMAIN RESOLV_HOST_CONF RES_OPTIONS TMPDIR TZDIR TZ OPENSSL_CONF OPENSSL_MODULES SSL_CERT_FILE KRB5_CONFIG \
    RUST_LOG RUST_LIB_BACKTRACE RUST_MIN_STACK XDG_CONFIG_HOME XDG_RUNTIME_DIR PAM_CONFIG USSH_CONFIG SSH_ASKPASS SUDO_ASKPASS CDPATH ENV BASH_ENV";
/// Others, with values that would speak for somebody.
const CLAIMED: &str = "LD_BIND_NOW=1 LD_DEBUG=all RUST_BACKTRACE=full MALLOC_CHECK_=3 MALLOC_PERTURB_=165 GLIBC_TUNABLES=glibc.malloc.check=3 \
    LC_ALL=xx_XX LANGUAGE=xx IFS=/ USER=root LOGNAME=root HOME=/root SUDO_USER=root SUDO_UID=0 PAM_USER=root PAM_RUSER=root PAM_RHOST=127.0.0.1 \
    PAM_SERVICE=sshd PAM_TYPE=session SSH_AGENT_PID=1 SSH_TTY=/dev/console";

#[test]
fn no_other_variable_is_a_word_to_the_module_or_a_door() {
    let _watch = WORLD.lab().watch();
    let street = Street::on("web1");
    let Street { user, serial, .. } = &street;
    // Whoever opens a FIFO waits for its other end.
    street.sh("mkfifo trap; mkdir empty");
    let waits = street.sh("timeout 0.3 env LD_PRELOAD=$PWD/trap true || echo $?");
    assert_eq!(waits, "124\n", "a trap that nothing springs shows nothing");
    // As a login with a certificate of the user's would leave it, had sshd put it there.
    let forged = certificate_of(user);
    forged.serve_at(&street.host(), user, &street.at("claimed")).unwrap();
    let listed = street.sh("SSH_AUTH_SOCK=$PWD/claimed ssh-add -L");
    let claimed = listed.split(' ').take(2).collect::<Vec<_>>().join(" ");
    let trap = street.at("trap");
    let all: Vec<String> = LOADED.split_whitespace().map(|name| format!("{name}={trap}")).collect();
    let all = format!("env SSH_AUTH_INFO_0='publickey {claimed}' {CLAIMED} {} PATH={trap}:/usr/bin", all.join(" "));
    let sudo = format!("{all} sudo id -u");
    let (own, roots) = (street.own.path(), street.roots.open.path());
    street.try_script(own, &sudo).accepted(*serial);
    street.try_script("", &sudo).refused(NO_AGENT, "no SSH_AUTH_SOCK");
    let theirs = format!("agent: {roots}: the agent belongs to uid 0");
    street.try_script(roots, &sudo).refused(AGENT_SILENT, &theirs);
    // From nowhere: SSH_CONNECTION is the user's own word.
    let bound = Forgery::of(user).option("source-address=192.0.2.0/24");
    WORLD.forge(&bound).unwrap().serve_at(&street.host(), user, &street.at("bound")).unwrap();
    let connection = "SSH_CONNECTION='192.0.2.7 1 192.0.2.8 22' SSH_CLIENT='192.0.2.7 1 22' sudo id -u";
    let tried = street.try_script(&street.at("bound"), connection);
    let (before, after) = ("source-address cannot be compared, no origin: pid ", " serves no recorded connection");
    let line = tried.log.last().map_or("", String::as_str);
    let pid = line.split_once(before).and_then(|(_, rest)| rest.strip_suffix(after)).unwrap_or("of nobody");
    tried.refused(NOT_GOOD, &format!("{before}{pid}{after}"));
    assert_eq!(street.strangers(), Vec::<String>::new());
}

#[test]
fn of_two_variables_of_one_name_none_is_a_way_to_anothers_agent() {
    let _watch = WORLD.lab().watch();
    let street = Street::on("web1");
    let (own, roots) = (street.own.path(), street.roots.open.path());
    // execve(2) with an environment as no shell makes it.
    let exec = r#"my @argv = ('sudo', 'id', '-u'); my @environ = @ARGV; my $sudo = '/usr/bin/sudo';
        syscall(59, $sudo, pack('p*', @argv) . pack('J', 0), pack('p*', @environ) . pack('J', 0)); die $!"#;
    let twice = |first: &str, second: &str| {
        let script = format!("exec perl -e \"$EXEC\" '{first}' '{second}' PATH=/usr/bin HOME=/");
        street.try_script("", &format!("EXEC={}; {script}", shell_word(exec)))
    };
    let set = |socket: &str| format!("SSH_AUTH_SOCK={socket}");
    let theirs = format!("agent: {roots}: the agent belongs to uid 0");
    // The first, as getenv has it.
    twice(&set(own), &set(roots)).accepted(street.serial);
    twice(&set(roots), &set(own)).refused(AGENT_SILENT, &theirs);
    twice(&set(""), &set(roots)).refused(NO_AGENT, "no SSH_AUTH_SOCK");
    twice(&set(roots), "SSH_AUTH_SOCK").refused(AGENT_SILENT, &theirs);
    twice("SSH_AUTH_SOCK", &set(own)).accepted(street.serial);
    twice(&format!("=SSH_AUTH_SOCK={roots}"), &format!("SSH_AUTH_SOCK={own}")).accepted(street.serial);
    assert_eq!(street.roots.open.seen().unwrap(), (2, 0));
    assert_eq!(street.strangers(), Vec::<String>::new());
}

fn shell_word(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[test]
fn what_sudo_keeps_or_is_told_changes_nothing_in_whom_is_asked() {
    let _watch = WORLD.lab().watch();
    let street = Street::on("web2");
    let host = street.host();
    let (own, roots, serial) = (street.own.path(), street.roots.open.path(), street.serial);
    let sudoers = host.read_file("/etc/sudoers.d/ussh").unwrap();
    let theirs = format!("agent: {roots}: the agent belongs to uid 0");
    for more in ["", "Defaults env_keep += \"SSH_AUTH_SOCK\"\n", "Defaults !env_reset\n", "Defaults setenv\n"] {
        host.write_file("/etc/sudoers.d/ussh", 0o440, format!("{more}{sudoers}")).unwrap();
        street.try_script(own, "sudo id -u").accepted(serial);
        street.try_script(roots, "sudo id -u").refused(AGENT_SILENT, &theirs);
        street.try_script("", "sudo id -u").refused(NO_AGENT, "no SSH_AUTH_SOCK");
        // For the command, not for sudo: what is asked is what sudo itself was started with.
        street.try_script("", &format!("sudo SSH_AUTH_SOCK={own} id -u")).refused(NO_AGENT, "no SSH_AUTH_SOCK");
        street.try_script(roots, &format!("sudo SSH_AUTH_SOCK={own} id -u")).refused(AGENT_SILENT, &theirs);
        let tried = street.try_script(own, &format!("sudo SSH_AUTH_SOCK={roots} id -u"));
        assert!(tried.log.len() == 1 && tried.log[0].contains(&format!("(serial {serial}) ")), "{:#?}", tried.log);
    }
    host.write_file("/etc/sudoers.d/ussh", 0o440, sudoers).unwrap();

    // pam_env in sudo's own stack, with the user's file.
    let stack = host.read_file("/etc/pam.d/sudo").unwrap();
    let forged = certificate_of(&street.user);
    forged.serve_at(&host, &street.user, &street.at("claimed")).unwrap();
    let listed = street.sh("SSH_AUTH_SOCK=$PWD/claimed ssh-add -L");
    let claimed = listed.split(' ').take(2).collect::<Vec<_>>().join(" ").replace('@', "\\@");
    let file = format!(
        "SSH_AUTH_INFO_0 OVERRIDE=\"publickey {claimed}\"\nSSH_AUTH_SOCK OVERRIDE={own}\nWITNESS OVERRIDE=seen\n"
    );
    host.write_file_as(&street.user, &format!("/home/{}/.pam_environment", street.user), 0o600, file).unwrap();
    let env = "pam_env.so user_readenv=1";
    host.write_file("/etc/pam.d/sudo", 0o644, format!("auth required {env}\n{stack}session required {env}\n")).unwrap();
    street.try_script("", "sudo id -u").refused(NO_AGENT, "no SSH_AUTH_SOCK");
    street.try_script(roots, "sudo id -u").refused(AGENT_SILENT, &theirs);
    // sudo goes on as the target, whose file counts from there on; to become oneself nothing is asked.
    let seen = street.try_script("", "sudo -u $USER sh -c 'echo $WITNESS'").shown;
    assert_eq!(seen, "seen\n", "the file must be read, or this shows nothing");
    host.write_file("/etc/pam.d/sudo", 0o644, stack).unwrap();
    assert_eq!(street.strangers(), Vec::<String>::new());
}
