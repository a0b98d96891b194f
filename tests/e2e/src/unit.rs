//! The confinement of ussh-hostd's systemd unit, as far as there can be one without systemd.

const UNIT: &str = include_str!("../../../packaging/systemd/ussh-hostd.service");

/// The capabilities that the unit leaves: `CAP_KILL` and so on, in its order; none, if it does not say.
pub fn capabilities_of_hostd() -> Vec<&'static str> {
    let line = UNIT.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet="));
    line.map(|names| names.split(' ').collect()).unwrap_or_default()
}

/// A program with these arguments under the unit's capabilities, and without a way to more.
pub fn confined(argv: &[&str]) -> Vec<String> {
    let names = capabilities_of_hostd().into_iter().map(|name| name.replace("CAP_", "+").to_ascii_lowercase());
    let set = std::iter::once("-all".to_owned()).chain(names).collect::<Vec<String>>().join(",");
    let setpriv = ["setpriv".to_owned(), "--no-new-privs".to_owned(), format!("--bounding-set={set}"), "--".to_owned()];
    setpriv.into_iter().chain(argv.iter().map(|&word| word.to_owned())).collect()
}
