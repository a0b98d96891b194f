//! By what the CA proves itself to `ussh`: a host certificate of the host CA for the name that was asked for. No password is typed anywhere else.

use std::sync::LazyLock;

use ussh_e2e::CA_DIR;
use ussh_e2e::lab::SSHD_CONFIG;

use super::{CONFIG, UNAVAILABLE, WORLD, end, log_in, terminal};

const KEY: &str = "/etc/ssh/ssh_host_ed25519_key";

/// What ends a session that a host without a good certificate has taken: it would ask for a password first.
fn assert_no_password_asked(ca: &str, words: &str) {
    let ussh = terminal("karl", &format!("USSH_CA={ca} ussh --login"));
    let (code, seen) = end(&ussh);
    assert_eq!(code, UNAVAILABLE, "{ca}: {seen}");
    assert!(seen.contains(words), "{ca}: {seen}");
    assert!(!seen.to_lowercase().contains("password"), "{ca} got to ask for one: {seen}");
}

/// `rogue` takes passwords over keyboard-interactive, as the CA does: on port 22 with a plain host key, on 2222 with a certificate of a CA of its own.
static ROGUE: LazyLock<()> = LazyLock::new(|| {
    let rogue = WORLD.host("rogue");
    let asks = SSHD_CONFIG.replace("KbdInteractiveAuthentication no", "KbdInteractiveAuthentication yes");
    rogue.start_sshd(&asks).unwrap();
    let sign = "ssh-keygen -q -t ed25519 -N '' -f /srv/other_ca; ssh-keygen -q -s /srv/other_ca -h -I rogue -n rogue";
    rogue.script(&format!("mkdir -p /srv; {sign} {KEY}.pub")).unwrap();
    let certified = format!("{asks}Port 2222\nHostCertificate {KEY}-cert.pub\n");
    rogue.start_sshd_as("certified", "/etc/ssh/certified_config", &certified).unwrap();
});

#[test]
fn a_plain_host_key_does_not_pass_for_the_ca() {
    let _watch = WORLD.lab().watch();
    LazyLock::force(&ROGUE);
    assert_no_password_asked("rogue", "no matching host key type found");
}

#[test]
fn a_host_certificate_of_another_ca_does_not_pass_for_the_ca() {
    let _watch = WORLD.lab().watch();
    LazyLock::force(&ROGUE);
    assert_no_password_asked("rogue:2222", "Host key verification failed");
}

#[test]
fn a_host_certificate_for_another_name_does_not_pass_for_the_ca() {
    let _watch = WORLD.lab().watch();
    let address = WORLD.host("web2").address().to_string();
    assert_no_password_asked(&address, "Host key verification failed");
}

#[test]
fn only_cert_authority_lines_make_the_ca_known() {
    let _watch = WORLD.lab().watch();
    let laptop = WORLD.host("laptop");
    let good = laptop.read_file("/etc/ussh/known_hosts").unwrap();
    assert!(good.lines().count() > 0 && good.lines().all(|l| l.starts_with("@cert-authority ")), "{good}");
    // The CA's own key, and right: still it is no line that may stand there.
    let plain = WORLD.host("ca").read_file(&format!("{CA_DIR}/ssh_host_ed25519_key.pub")).unwrap();
    for (text, words) in [
        (format!("{good}ca {plain}"), "only @cert-authority and @revoked lines may stand here"),
        ("# nobody\n".to_owned(), "holds no @cert-authority line"),
    ] {
        laptop.write_file_as("mona", "/home/mona/.config/ussh/known_hosts", 0o600, text).unwrap();
        let config = "known_hosts = \"~/.config/ussh/known_hosts\"\n";
        laptop.write_file_as("mona", "/home/mona/.config/ussh/ussh.toml", 0o600, config).unwrap();
        let refused = WORLD.sh("laptop", "mona", "ussh --login").unwrap();
        assert_eq!(refused.status.code(), CONFIG, "{refused}");
        assert!(refused.stderr.contains(words), "{refused}");
    }
    laptop.write_file_as("mona", "/home/mona/.config/ussh/known_hosts", 0o600, good).unwrap();
    log_in("mona");
    // And no key was learnt on the way.
    assert!(!laptop.exists("/home/mona/.ssh/known_hosts"));
}
