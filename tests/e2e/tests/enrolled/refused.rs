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
    let in_match = format!("{SSHD_CONFIG}Match User nobody\n{INCLUDE}");
    let cases: Vec<(&str, String, &str, String, i32, &str)> = vec![
        ("no token", good(""), "", "hunter2".into(), 64, "this is no token"),
        ("an empty one", good(""), "", String::new(), 64, "this is no token"),
        ("one that the CA does not know", good(""), "", unknown, 1, "The CA does not know this token."),
        ("a used one", good(""), "", used, 1, "This token was used before"),
        ("another CA's", good(""), "", of_another_ca, 1, "no way to the CA: "),
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
    // Those that came so far stand in the inventory as what they are.
    let outcomes = outcomes("new3");
    assert!(!outcomes.is_empty() && outcomes.iter().all(|o| o.starts_with("undelivered: ")), "{outcomes:?}");
    // sshd itself was never touched: it is the one that was started.
    assert!(hostd(&host, "status").stdout.contains("sessions   0\n"));
    host.write_file("/etc/ssh/sshd_config", 0o644, good("")).unwrap();
    enroll(&host, "", &token("new3")).ok().unwrap();
}

fn host_ca() -> ussh_core::keys::PublicKey {
    let line = WORLD.host("ca").read_file(&format!("{}/public/host_ca.pub", ussh_e2e::CA_DIR)).unwrap();
    ussh_core::keys::PublicKey::from_openssh(&line).unwrap()
}
