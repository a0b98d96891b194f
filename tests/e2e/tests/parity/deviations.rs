//! The table "From sshd" of docs/deviations.md: which differences are written down.

// Its rows, by their first cells.
pub const EMPTY_LIST: &str = "`RevokedKeys` file of zero bytes";
pub const OWNER: &str = "owner and mode of `TrustedUserCAKeys`, `RevokedKeys`";
pub const FORCE_COMMAND: &str = "force-command in a certificate, in sudo and su";
pub const SOURCE_ADDRESS: &str = "source-address in a certificate, in sudo and su";
pub const PRINCIPALS_OPTIONS: &str = "`AuthorizedPrincipalsFile` lines with options";
pub const PRINCIPALS: &str = "principals";
pub const NO_PRINCIPALS: &str = "empty list of principals under `cert-authority` in authorized_keys";
pub const NUL: &str =
    "a NUL at the very end of a name or value: type, principal, key ID, option, line of the principals file";
pub const RSA_SHORT: &str = "RSA keys of 1024 to 2047 bits, as user key or as CA";
pub const RSA_ODD: &str = "RSA keys above 8192 bits, or with a public exponent of 1 or above 2^33-1";
pub const RSA_ZEROS: &str = "RSA numbers with needless zeros in front";
pub const DSS: &str = "ssh-dss in the CA file or the revocation list";
pub const TOUCH: &str = "a CA key on a FIDO token: its signature without the touch flag; `no-touch-required`";
pub const WEBAUTHN: &str = "webauthn-sk-ecdsa signatures";
pub const ODD_SPELLING: &str = "source-address with odd spellings (`10.1`, `010.0.0.1`)";
pub const LOGIN_TIME: &str = "`login-time@ussh` malformed or repeated";
pub const KRL: &str = "KRL with a signature section, non-zero flags, or a certificate as its CA key";
pub const WEAK_LINE: &str = "a certificate line in the CA file or the plain revocation list that its CA has signed with SHA-1, or on a FIDO token without a touch";
pub const NUL_LINE: &str = "a line that starts with a NUL in these files";
pub const SIZE: &str = "size of the CA file and the principals file, of the revocation list";
pub const PLAIN_LIST: &str = "plain revocation list with a bad line; one of blank lines only";

/// First cells of its rows.
pub fn documented() -> Vec<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/deviations.md");
    let text = std::fs::read_to_string(path).unwrap();
    let table = text.split("\n## ").find(|section| section.starts_with("From sshd")).unwrap();
    let cells = table.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    cells.filter(|cell| *cell != "case").map(str::to_owned).collect()
}
