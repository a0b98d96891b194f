//! A second factor, and programs that PAM calls.

use super::{PASSWORD, UNIX};
use crate::row::{End, Row, login, row};

/// The secret of everybody's device, in hexadecimal, as `oathtool` takes it.
const SECRET: &str = "3132333435363738393031323334353637383930";

/// Password, then a code.
const OATH: &str = "\
auth requisite pam_unix.so nodelay
auth required pam_oath.so usersfile=/etc/oath-$WHO window=20 digits=6
account required pam_unix.so
";

/// The account's device.
const DEVICE: &str = "install -m 600 /dev/null /etc/oath-$WHO; \
    echo \"HOTP/T30/6 $WHO - 3132333435363738393031323334353637383930\" > /etc/oath-$WHO; \
    sed -i \"s/[$]WHO/$WHO/\" /etc/pam.d/row-${STAND##*-}";

const CODE: &str = "One-time password (OATH) for ";

/// What the device shows now, as oathtool says.
fn code_of_now() -> String {
    let output = std::process::Command::new("oathtool").args(["--totp", "--digits=6", SECRET]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A program that says whether the password is one that it likes.
const CHECK: &str = "cat > /usr/local/bin/check <<'EOF'\n#!/bin/bash\n\
    IFS= read -r -d '' password\necho \"$PAM_USER from $PAM_RHOST by $PAM_SERVICE ($PAM_TYPE)\"\n\
    [ \"$password\" = 'open sesame' ]\nEOF\nchmod 755 /usr/local/bin/check";

const EXEC: &str =
    "auth required pam_exec.so expose_authtok stdout /usr/local/bin/check\naccount required pam_permit.so\n";

pub fn rows() -> Vec<Row> {
    let now = code_of_now();
    // Within the window, and never of this half-minute's.
    let wrong = format!("{:06}", (now.parse::<u32>().unwrap() + 1) % 1_000_000);
    let slow = format!("auth required pam_exec.so quiet /bin/sleep 5\n{UNIX}");
    vec![
        row("pam_exec: slow, 5 s", slow)
            .login(login(End::Certificate).asked(PASSWORD, "secret"))
            .login(login(End::Denied(super::FAILED)).asked(PASSWORD, "wrong")),
        row(
            "pam_exec: hangs up on nobody although it takes 5 s after the password",
            format!("{UNIX}auth required pam_exec.so quiet /bin/sleep 5\n"),
        )
        .login(login(End::Certificate).asked(PASSWORD, "secret").took(5_000, 12_000)),
        row("pam_unix + pam_oath: right code; the same code again is refused", OATH)
            .prepare(DEVICE)
            .login(login(End::Certificate).asked(PASSWORD, "secret").asked(CODE, &now))
            .login(login(End::Denied(super::FAILED)).asked(PASSWORD, "secret").asked(CODE, &now))
            .logged(&["Accepted keyboard-interactive/pam", "Failed keyboard-interactive/pam"]),
        row("pam_unix + pam_oath: a wrong code", OATH)
            .prepare(DEVICE)
            .login(login(End::Denied(super::FAILED)).asked(PASSWORD, "secret").asked(CODE, wrong)),
        row("pam_unix + pam_oath: a wrong password, and the code is not asked for", OATH)
            .prepare(DEVICE)
            .login(login(End::Denied(super::FAILED)).asked(PASSWORD, "wrong").hidden(&[CODE])),
        row("pam_exec: gets the password, and what it prints reaches the user", EXEC)
            .prepare(CHECK)
            .login(login(End::Certificate).asked(PASSWORD, "open sesame").shown("(auth)").hidden(&["open sesame"]))
            .login(
                login(End::Denied(super::FAILED))
                    .asked(PASSWORD, "secret")
                    .shown("(auth)")
                    .shown("/usr/local/bin/check failed: exit code 1"),
            ),
    ]
}
