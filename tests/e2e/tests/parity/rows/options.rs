//! Critical options and extensions.

use crate::certificate::option;
use crate::deviations::{FORCE_COMMAND, LOGIN_TIME, NUL, ODD_SPELLING, SOURCE_ADDRESS};
use crate::row::{Draft, Row, changed, keygen, row};
use crate::wire::string;

const FORMAT: &str = "parse key: invalid format";
const TRUNCATED: &str = "malformed certificate: truncated";

pub fn critical() -> Vec<Row> {
    vec![
        keygen("force-command", "-I alice -n alice -V -5m:+1h -O force-command=/bin/true")
            .stricter_in_sudo(FORCE_COMMAND, "force-command cannot be honoured here"),
        changed("force-command of nothing", |c| c.critical_string("force-command", ""))
            .stricter_in_sudo(FORCE_COMMAND, "force-command cannot be honoured here"),
        changed("force-command twice", |c| {
            c.critical_string("force-command", "a").critical_string("force-command", "a")
        })
        .refused("Certificate has multiple force-command options", "force-command cannot be honoured here"),
        changed("force-command whose data is no string", |c| c.critical(b"force-command", b"/bin/true")).refused(
            "Unable to parse \"force-command\" section: string is too large",
            "malformed option force-command",
        ),
        changed("force-command without data", |c| c.critical(b"force-command", b""))
            .refused("Unable to parse \"force-command\" section: incomplete message", "malformed option force-command"),
        changed("force-command with bytes behind its string", |c| {
            c.critical(b"force-command", &[string(b"true"), vec![0]].concat())
        })
        .refused("Certificate option \"force-command\" corrupt (extra data)", "malformed option force-command"),
        changed("force-command with a NUL inside", |c| c.critical_string("force-command", "a\0b"))
            .refused("Unable to parse \"force-command\" section: invalid format", "malformed option force-command"),
        changed("force-command with a NUL at its end", |c| c.critical_string("force-command", "a\0"))
            .stricter(NUL, "malformed option force-command"),
        changed("Force-Command", |c| c.critical_string("Force-Command", "a")).refused(
            "Certificate critical option \"Force-Command\" is not supported",
            "unknown critical option Force-Command",
        ),
        keygen("verify-required on a key that is no FIDO key", "-I alice -n alice -V -5m:+1h -O verify-required")
            .accepted(),
        changed("verify-required twice", |c| c.critical(b"verify-required", b"").critical(b"verify-required", b""))
            .accepted(),
        changed("verify-required with data", |c| c.critical(b"verify-required", b"x"))
            .refused("Certificate option \"verify-required\" corrupt (extra data)", "malformed option verify-required"),
        keygen("one that nobody knows", "-I alice -n alice -V -5m:+1h -O critical:frobnicate@example.com=1").refused(
            "Certificate critical option \"frobnicate@example.com\" is not supported",
            "unknown critical option frobnicate@example.com",
        ),
        changed("one that nobody knows, without data", |c| c.critical(b"frobnicate@example.com", b"")).refused(
            "Certificate critical option \"frobnicate@example.com\" is not supported",
            "unknown critical option frobnicate@example.com",
        ),
        changed("one without a name", |c| c.critical(b"", b""))
            .refused("Certificate critical option \"\" is not supported", "unknown critical option "),
        changed("an extension's name among them", |c| c.critical(b"permit-pty", b"")).refused(
            "Certificate critical option \"permit-pty\" is not supported",
            "unknown critical option permit-pty",
        ),
        changed("login-time@ussh among them", |c| c.critical(b"login-time@ussh", &[0; 8])).refused(
            "Certificate critical option \"login-time@ussh\" is not supported",
            "unknown critical option login-time@ussh",
        ),
        changed("one with a NUL behind its name", |c| c.critical(b"verify-required\0", b""))
            .stricter(NUL, "unknown critical option verify-required\\x00"),
        changed("one with a NUL in its name", |c| c.critical(b"verify-required\0x", b"")).refused(
            "Unable to parse certificate options: invalid format",
            "unknown critical option verify-required\\x00x",
        ),
        changed("a torn list", |mut c| {
            c.critical_options = string(b"verify-required");
            c
        })
        .refused(FORMAT, TRUNCATED),
        changed("a list that ends within a length", |mut c| {
            c.critical_options = [option(b"verify-required", b""), vec![0, 0]].concat();
            c
        })
        .refused(FORMAT, TRUNCATED),
    ]
}

pub fn source_address() -> Vec<Row> {
    let from = |list: &'static str| changed(list, move |c| c.critical_string("source-address", list));
    let over_ipv6 = |list: &'static str| -> Draft {
        row(format!("{list}, over IPv6"), move |f| {
            let mut case = f.issue(&f.certificate().critical_string("source-address", list));
            case.ipv6 = true;
            case
        })
    };
    let proven = "source-address cannot be compared, no origin: …";
    let malformed = "malformed option source-address";
    let elsewhere = "not from a permitted source address";
    let invalid = "Certificate source-address contents invalid";
    vec![
        keygen("by ssh-keygen, another network", "-I alice -n alice -V -5m:+1h -O source-address=192.0.2.0/24")
            .refused(elsewhere, proven),
        keygen("by ssh-keygen, this network", "-I alice -n alice -V -5m:+1h -O source-address=127.0.0.0/8")
            .stricter_in_sudo(SOURCE_ADDRESS, proven),
        from("127.0.0.1").stricter_in_sudo(SOURCE_ADDRESS, proven),
        from("127.0.0.1/32").stricter_in_sudo(SOURCE_ADDRESS, proven),
        from("0.0.0.0/0").stricter_in_sudo(SOURCE_ADDRESS, proven),
        from("192.0.2.1,127.0.0.1").stricter_in_sudo(SOURCE_ADDRESS, proven),
        from("::1").refused(elsewhere, proven),
        over_ipv6("::1").stricter_in_sudo(SOURCE_ADDRESS, proven),
        over_ipv6("::/0").stricter_in_sudo(SOURCE_ADDRESS, proven),
        over_ipv6("127.0.0.1").refused(elsewhere, proven),
        over_ipv6("0:0:0:0:0:0:0:1/128").stricter_in_sudo(SOURCE_ADDRESS, proven),
        from("::ffff:127.0.0.1").refused(elsewhere, proven),
        from("127.0.0.2").refused(elsewhere, proven),
        from("!127.0.0.1").refused(invalid, malformed),
        from("127.1").stricter(ODD_SPELLING, malformed),
        from("0127.0.0.1").refused(elsewhere, malformed),
        from("0x7f000001").refused(invalid, malformed),
        from("127.0.0.1/8").refused(invalid, malformed),
        from("127.0.0.1/33").refused(invalid, malformed),
        from("127.0.0.1/").refused(invalid, malformed),
        from("127.0.0.1/ 8").refused(invalid, malformed),
        from("127.0.0.0/08").stricter_in_sudo(SOURCE_ADDRESS, proven),
        from("127.0.0.0/+8").refused(invalid, malformed),
        changed("a blank before it", |c| c.critical_string("source-address", " 127.0.0.1")).refused(invalid, malformed),
        from("127.0.0.1,").refused(invalid, malformed),
        from(",127.0.0.1").refused(invalid, malformed),
        from("127.0.0.1,nonsense").refused(invalid, malformed),
        from("192.0.2.1,10.0.0.1/8,127.0.0.1").refused(invalid, malformed),
        from("localhost").refused(invalid, malformed),
        from("127.0.0.*").refused(invalid, malformed),
        over_ipv6("fe80::1%lo,::1").refused(invalid, malformed),
        over_ipv6("[::1]").refused(invalid, malformed),
        changed("(nothing)", |c| c.critical_string("source-address", "")).refused(invalid, malformed),
        changed("twice", |c| {
            c.critical_string("source-address", "127.0.0.1").critical_string("source-address", "127.0.0.1")
        })
        .refused("Certificate has multiple source-address options", proven),
        changed("data that is no string", |c| c.critical(b"source-address", b"127.0.0.1"))
            .refused("Unable to parse \"source-address\" section: string is too large", malformed),
        changed("a NUL at the end", |c| c.critical_string("source-address", "127.0.0.1\0")).stricter(NUL, malformed),
        changed("bytes behind the string", |c| {
            c.critical(b"source-address", &[string(b"127.0.0.1"), vec![1]].concat())
        })
        .refused("Certificate option \"source-address\" corrupt (extra data)", malformed),
    ]
}

pub fn extensions() -> Vec<Row> {
    let flags = [
        "permit-X11-forwarding",
        "permit-agent-forwarding",
        "permit-port-forwarding",
        "permit-pty",
        "permit-user-rc",
        "no-touch-required",
    ];
    let mut rows = vec![
        keygen("all that ssh-keygen gives", "-I alice -n alice -V -5m:+1h").accepted(),
        keygen("none", "-I alice -n alice -V -5m:+1h -O clear").accepted(),
        keygen("one that nobody knows", "-I alice -n alice -V -5m:+1h -O extension:frobnicate@example.com=1")
            .accepted(),
        changed("unsorted", |c| c.extension(b"permit-X11-forwarding", b"").extension(b"a", b"")).accepted(),
        changed("one twice", |c| c.extension(b"permit-pty", b"")).accepted(),
        changed("one that nobody knows, twice", |c| {
            c.extension(b"x@example.com", b"1").extension(b"x@example.com", b"2")
        })
        .accepted(),
        changed("binary names and data", |c| c.extension(b"\x01\xff\n", &[0xff, 0, 7])).accepted(),
        changed("one without a name", |c| c.extension(b"", b"")).accepted(),
        changed("a NUL in a name", |c| c.extension(b"a\0b", b""))
            .refused("Unable to parse certificate options: invalid format", "malformed option a\\x00b"),
        changed("a NUL behind a name", |c| c.extension(b"permit-user-rc\0", b""))
            .stricter(NUL, "malformed option permit-user-rc\\x00"),
        changed("a NUL behind a name nobody knows", |c| c.extension(b"x@example.com\0", b""))
            .stricter(NUL, "malformed option x@example.com\\x00"),
        changed("a critical option's name among them", |c| c.extension(b"force-command", &string(b"/bin/false")))
            .accepted(),
        changed("40 kB of data", |c| c.extension(b"x@example.com", &[0; 40_000])).accepted(),
        changed("login-time@ussh", |c| c.extension(b"login-time@ussh", &crate::certificate::now().to_be_bytes()))
            .accepted(),
        changed("login-time@ussh of 4 bytes", |c| c.extension(b"login-time@ussh", &[0; 4]))
            .stricter(LOGIN_TIME, "malformed option login-time@ussh"),
        changed("login-time@ussh twice", |c| {
            c.extension(b"login-time@ussh", &[0; 8]).extension(b"login-time@ussh", &[0; 8])
        })
        .stricter(LOGIN_TIME, "malformed option login-time@ussh"),
        changed("a torn list", |mut c| {
            c.extensions = string(b"permit-pty");
            c
        })
        .refused(FORMAT, TRUNCATED),
        changed("a list with a byte behind it", |mut c| {
            c.extensions.push(0);
            c
        })
        .refused(FORMAT, TRUNCATED),
    ];
    for flag in flags {
        rows.push(
            changed(format!("{flag} with data"), move |c| c.extension(flag.as_bytes(), b"x"))
                .refused("corrupt (extra data)", "malformed option …"),
        );
    }
    rows
}
