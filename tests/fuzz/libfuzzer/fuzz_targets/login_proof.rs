#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| ussh_fuzz::run("login_proof", data));
