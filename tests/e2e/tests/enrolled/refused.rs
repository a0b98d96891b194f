//! What an enrolment is refused, and that it leaves the host as it was.

use ussh_e2e::lab::{Host, SSHD_CONFIG};

use super::{DROP_IN, ED25519, INCLUDE, WORLD, enroll, hostd, outcomes, prepare, token};

/// Every file that an enrolment could have to do with, with its contents, its mode and its own times, and every folder; but for our folder in /run, which a package makes.
pub fn tree(host: &Host) -> String {
    let script = "cd /; mkdir -p var/lib/ussh-hostd; { find etc root run var/lib/ussh-hostd -xdev -path run/ussh-hostd -prune -o -type d -printf '%p %M %U %G\\n' -o -printf '%p %M %U %G %s %i %T@ %l\\n'; \
                  find etc root var/lib/ussh-hostd -xdev -type f -print0 | xargs -0 sha256sum; } | sort";
    host.script(script).unwrap().stdout
}

#[test]
fn what_is_refused_changes_nothing_on_the_host() {
    let _watch = WORLD.lab().watch();
    let host = prepare("new3");
    let used = token("new4");
    let newer = prepare("new16");
    // Used by another host than this one.
    let other = prepare("new4");
    enroll(&other, "", &used).ok().unwrap();
    let unknown = {
        let known = ussh_core::enroll::HostToken::generate(&host_ca()).unwrap();
        known.to_text().to_string()
    };
    let other_ca = ussh_core::keys::PrivateKey::generate_ed25519().unwrap().public_key();
    let of_another_ca = ussh_core::enroll::HostToken::generate(&other_ca).unwrap().to_text().to_string();
    let good = |with: &str| format!("{with}{INCLUDE}{SSHD_CONFIG}PasswordAuthentication no\n");
    let by_hand = "TrustedUserCAKeys /etc/ssh/trusted_user_ca\nRevokedKeys /etc/ssh/revoked_keys\nHostCertificate /etc/ssh/ssh_host_ed25519_key-cert.pub\nHostCertificate /etc/ssh/ssh_host_ecdsa_key-cert.pub\n";
    start_plain_sshds();
    let in_match = format!("{SSHD_CONFIG}Match User nobody\n{INCLUDE}");
    let cases: Vec<(&str, String, &str, String, i32, &str)> = vec![
        ("no token", good(""), "", "hunter2".into(), 64, "this is no token"),
        ("an empty one", good(""), "", String::new(), 64, "this is no token"),
        ("one that the CA does not know", good(""), "", unknown, 1, "The CA does not know this token."),
        ("a used one", good(""), "", used, 1, "This token was used before"),
        (
            "another CA's",
            good(""),
            "",
            of_another_ca.clone(),
            1,
            "the server at ca is not the CA that made this token (its host CA is another: SHA256:",
        ),
        (
            "a plain sshd in its place",
            good(""),
            "--port 2222",
            token("new3"),
            1,
            "the server at ca port 2222 shows no host certificate",
        ),
        (
            "one that the CA has certified",
            good(""),
            "--port 2223",
            token("new3"),
            1,
            "what answers at ca port 2223 is a plain sshd, not usshca",
        ),
        ("for another name", good(""), "--name db1", token("web9"), 1, "This token is for other names: web9."),
        ("another's key", good(""), "--key /etc/ssh/copied", token("new3"), 1, "belongs to the host new4"),
        ("an RSA key", good(""), "--key /etc/ssh/rsa", token("new3"), 1, "an RSA key gets no certificate here"),
        ("no key", good(""), "--key /etc/ssh/sshd_config", token("new3"), 1, "/etc/ssh/sshd_config: "),
        (
            "sshd is broken before",
            good("Nonsense yes\n"),
            "",
            token("new3"),
            1,
            "Nothing was asked of the CA, and nothing was changed",
        ),
        (
            "sshd -t fails with it",
            in_match,
            "",
            token("new3"),
            1,
            "Everything is as it was before; the token is used up",
        ),
        (
            "sshd does not read it",
            SSHD_CONFIG.into(),
            "",
            token("new3"),
            1,
            "needs the line `Include /etc/ssh/sshd_config.d/*.conf`",
        ),
        (
            "its lines stand elsewhere",
            format!("{SSHD_CONFIG}{by_hand}"),
            "",
            token("new3"),
            1,
            "needs the line `Include /etc/ssh/sshd_config.d/*.conf`, at the top of /etc/ssh/sshd_config. Nothing was asked of the CA",
        ),
        (
            "another line is before it",
            good("TrustedUserCAKeys /etc/ssh/mine\n"),
            "",
            token("new3"),
            1,
            "says trustedusercakeys /etc/ssh/mine, not /etc/ssh/trusted_user_ca",
        ),
    ];
    let copied = other.read_bytes(ED25519.replace("ed25519", "ecdsa").as_str()).unwrap();
    host.write_file("/etc/ssh/copied", 0o600, copied).unwrap();
    host.script("ssh-keygen -q -t rsa -N '' -f /etc/ssh/rsa; echo old >/etc/ssh/trusted_user_ca; touch -d '2020-01-01' /etc/ssh/trusted_user_ca").unwrap();
    println!("{:<34}said", "case");
    for (what, config, arguments, token, code, reason) in cases {
        host.write_file("/etc/ssh/sshd_config", 0o644, config).unwrap();
        let before = tree(&host);
        let said = enroll(&host, arguments, &token);
        assert_eq!(said.status.code(), code, "{what}: {said:?}");
        assert!(said.stderr.contains(reason), "{what}: {said:?}");
        let after = tree(&host);
        let changed: Vec<&str> = after.lines().filter(|line| !before.lines().any(|l| l == *line)).collect();
        assert_eq!((changed, before == after), (vec![], true), "{what}");
        println!("{what:<34}{}", said.stderr.trim());
    }
    assert!(!host.exists(DROP_IN));
    // OpenSSH 10.0 passes on what is said of the server, as 9.2 does.
    for (arguments, token, reason) in [
        ("", &of_another_ca, "is not the CA that made this token (its host CA is another: SHA256:"),
        ("--port 2222", &token("new16"), "the server at ca port 2222 shows no host certificate"),
        ("--port 2223", &token("new16"), "what answers at ca port 2223 is a plain sshd, not usshca"),
    ] {
        let said = enroll(&newer, arguments, token);
        assert!(said.status.code() == 1 && said.stderr.contains(reason), "{reason}: {said:?}");
    }
    // Those that came so far stand in the inventory as what they are.
    let outcomes = outcomes("new3");
    assert!(!outcomes.is_empty() && outcomes.iter().all(|o| o.starts_with("undelivered: ")), "{outcomes:?}");
    // sshd itself was never touched: it is the one that was started.
    assert!(hostd(&host, "status").stdout.contains("sessions   0\n"));
    host.write_file("/etc/ssh/sshd_config", 0o644, good("")).unwrap();
    enroll(&host, "", &token("new3")).ok().unwrap();
}

/// On the CA's machine: one with a plain host key, and one whose key the CA has certified for its own name.
fn start_plain_sshds() {
    let ca = WORLD.host("ca");
    let plain = "HostKey /etc/ssh/plain\nPasswordAuthentication yes\n";
    ca.script("ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/plain").unwrap();
    ca.start_sshd_as("plain", "/etc/ssh/plain_config", &format!("Port 2222\n{SSHD_CONFIG}{plain}")).unwrap();
    WORLD.usshca("host sign /etc/ssh/plain.pub --name ca").unwrap().ok().unwrap();
    let config = format!("Port 2223\n{SSHD_CONFIG}{plain}HostCertificate /etc/ssh/plain-cert.pub\n");
    ca.start_sshd_as("certified", "/etc/ssh/certified_config", &config).unwrap();
}

#[test]
fn an_sshd_that_goes_by_another_file_is_told_before_anything_is_changed() {
    let _watch = WORLD.lab().watch();
    let host = prepare("elsewhere");
    host.stop_service("sshd").unwrap();
    let own = "/etc/ssh/own_config";
    let config = host.read_file("/etc/ssh/sshd_config").unwrap();
    host.start_sshd_as("own", own, &config).unwrap();
    let before = tree(&host);
    let said = enroll(&host, "", &token("elsewhere"));
    assert_eq!(said.status.code(), 1, "{said:?}");
    for wanted in ["goes by /etc/ssh/own_config (`-f`)", "start it without `-f`", "Nothing was asked of the CA"] {
        assert!(said.stderr.contains(wanted), "{wanted}: {said:?}");
    }
    assert_eq!(tree(&host), before);
    assert_eq!(outcomes("elsewhere"), Vec::<String>::new());
    // A name for the same file is no other file.
    host.script(&format!("ln -sf sshd_config {own}")).unwrap();
    enroll(&host, "", &token("elsewhere")).ok().unwrap();
}

fn host_ca() -> ussh_core::keys::PublicKey {
    let line = WORLD.host("ca").read_file(&format!("{}/public/host_ca.pub", ussh_e2e::CA_DIR)).unwrap();
    ussh_core::keys::PublicKey::from_openssh(&line).unwrap()
}
