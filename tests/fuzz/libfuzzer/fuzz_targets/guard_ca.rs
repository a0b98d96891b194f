#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| ussh_fuzz::run("guard_ca", data));
