//! Panics on demand, in builds for tests only: what a panic does is shown under every control flag, through real hosts.

#[cfg(all(feature = "inject-panic", not(debug_assertions)))]
compile_error!("inject-panic is for tests: no release build may have it");

/// Panics if the line says `inject_panic=` with this hook's name. Gives the other arguments.
#[cfg(feature = "inject-panic")]
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
#[cfg(not(feature = "inject-panic"))]
pub fn panic_if_told(_hook: &str, arguments: Option<Vec<String>>) -> Option<Vec<String>> {
    arguments
}
