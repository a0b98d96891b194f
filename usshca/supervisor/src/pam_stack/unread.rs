//! Lines that libpam cannot read (pam_handlers.c, `_pam_parse_config_file`; pam_misc.c, `_pam_parse_control`): it takes each for a module that refuses.

use ussh_os::pam_names::RETURN_NAMES;

/// What is done upon them, besides a jump over some lines.
const ACTIONS: [&str; 6] = ["ignore", "ok", "done", "bad", "die", "reset"];
const KEYWORDS: [&str; 6] = ["required", "requisite", "sufficient", "optional", "include", "substack"];

/// What is wrong with the words of a line; `None`: nothing that has to do with who is let in.
pub fn complaint(words: &[String]) -> Option<String> {
    let (first, rest) = words.split_first()?;
    if first.eq_ignore_ascii_case("@include") {
        return rest.is_empty().then(|| "it includes no file".to_owned());
    }
    match first.trim_start_matches('-').to_ascii_lowercase().as_str() {
        "auth" | "account" => {}
        "session" | "password" => return None,
        _ => return Some(format!("{first} is none of auth, account, password and session")),
    }
    let Some((control, rest)) = rest.split_first() else {
        return Some("it ends behind its first word".to_owned());
    };
    if !KEYWORDS.contains(&control.to_ascii_lowercase().as_str()) {
        let Some(list) = control.strip_prefix('[') else {
            return Some(format!("there is no control {control}"));
        };
        let Some(list) = list.strip_suffix(']') else {
            return Some("there is no ] to its [".to_owned());
        };
        if let Some(what) = wrong_pair(list) {
            return Some(what);
        }
    }
    rest.is_empty().then(|| "it names no module".to_owned())
}

/// Blanks may stand around the `=`.
fn wrong_pair(list: &str) -> Option<String> {
    let parted = list.replace('=', " = ");
    let words: Vec<&str> = parted.split_whitespace().collect();
    words.chunks(3).find_map(|pair| match pair {
        [code, "=", action] => {
            let jumps = action.parse::<i32>().is_ok_and(|lines| lines > 0);
            let is_good = (*code == "default" || RETURN_NAMES.contains(code)) && (ACTIONS.contains(action) || jumps);
            (!is_good).then(|| format!("there is no {code}={action}"))
        }
        other => Some(format!("{} is no value and action", other.join(" "))),
    })
}

#[cfg(test)]
mod tests {
    use super::super::words;
    use super::*;

    #[test]
    fn what_libpam_reads_is_not_complained_of() {
        for line in [
            "auth required pam_unix.so nullok",
            "-AUTH Sufficient pam_unix.so",
            "account [success=ok new_authtok_reqd=done default=ignore] pam_unix.so",
            "auth [success = 2 default = die] pam_unix.so [a b]",
            "auth [default=1 ignore=reset] pam_unix.so",
            "@include common-auth",
            "auth include common-auth",
            "auth substack common-auth",
            "session whatever",
            "-session optional",
            "password [x",
            "",
        ] {
            assert_eq!(complaint(&words(line)), None, "{line}");
        }
    }

    #[test]
    fn what_libpam_takes_for_a_refusal_is_named() {
        for (line, what) in [
            ("garbage", "garbage is none of auth, account, password and session"),
            ("auth", "it ends behind its first word"),
            ("auth required", "it names no module"),
            ("account include", "it names no module"),
            ("auth requierd pam_unix.so", "there is no control requierd"),
            ("auth [success=ok", "there is no ] to its ["),
            ("auth [success=ok pam_unix.so", "there is no ] to its ["),
            ("auth [sucess=1 default=ignore] pam_unix.so", "there is no sucess=1"),
            ("auth [success=0] pam_unix.so", "there is no success=0"),
            ("auth [success=okay] pam_unix.so", "there is no success=okay"),
            ("auth [success] pam_unix.so", "success is no value and action"),
            ("auth [SUCCESS=1] pam_unix.so", "there is no SUCCESS=1"),
            ("@include", "it includes no file"),
        ] {
            assert_eq!(complaint(&words(line)).as_deref(), Some(what), "{line}");
        }
    }
}
