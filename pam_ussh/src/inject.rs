//! Panics on demand, for tests: what a panic does is shown under every control flag, through real hosts. The package pam_ussh has no such feature. tests/panics has, which is built of
//! these sources under another name; even that has no panics in a release build.

/// Panics if the line says `inject_panic=` with this hook's name. Gives the other arguments.
#[cfg(all(feature = "inject-panic", debug_assertions))]
pub fn panic_if_told(hook: &str, arguments: Option<Vec<String>>) -> Option<Vec<String>> {
    let (ours, others): (Vec<String>, Vec<String>) =
        arguments?.into_iter().partition(|argument| argument.starts_with("inject_panic="));
    #[allow(clippy::panic)]
    if ours.iter().any(|argument| argument.strip_prefix("inject_panic=") == Some(hook)) {
        panic!("told to");
    }
    Some(others)
}

/// There is no such option.
#[cfg(not(all(feature = "inject-panic", debug_assertions)))]
pub fn panic_if_told(_hook: &str, arguments: Option<Vec<String>>) -> Option<Vec<String>> {
    arguments
}
