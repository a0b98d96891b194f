//! Links the unwinder into the module. By default the Rust library asks for libgcc_s.so.1, and to load and relocate one more library in every sudo costs about 0.15 ms.
//! A file of that name on the linker's path, before the system's, names the static archives instead; GNU ld takes it for a linker script.
//! `cold.ld` says what stands where.

use std::path::PathBuf;
use std::process::Command;

fn main() -> std::io::Result<()> {
    println!("cargo:rerun-if-changed=build.rs");
    let folder = std::env::var_os("OUT_DIR").map(PathBuf::from).ok_or(std::io::ErrorKind::NotFound)?;
    std::fs::write(folder.join("libgcc_s.so"), "INPUT(-lgcc_eh)\n")?;
    println!("cargo:rustc-cdylib-link-arg=-L{}", folder.display());
    // tests/panics is built by this too, from a folder of its own, and does without.
    let here = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).ok_or(std::io::ErrorKind::NotFound)?;
    let cold = here.join("../cold.ld");
    if cold.exists() {
        println!("cargo:rerun-if-changed={}", cold.display());
        println!("cargo:rustc-cdylib-link-arg=-T");
        println!("cargo:rustc-cdylib-link-arg={}", cold.display());
    }
    // Relative relocations in a few hundred bytes instead of 50 KB that each load reads. The loader must know the form: glibc does from 2.36 on, and runs nothing that was built for a newer one.
    if std::env::var_os("HOST") == std::env::var_os("TARGET") && glibc_is_at_least(2, 36) {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,pack-relative-relocs");
    }
    Ok(())
}

/// By what getconf(1) says: `glibc 2.36`.
fn glibc_is_at_least(major: u32, minor: u32) -> bool {
    let output = Command::new("getconf").arg("GNU_LIBC_VERSION").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let mut numbers = text.trim().trim_start_matches("glibc ").split('.').map(str::parse);
    matches!((numbers.next(), numbers.next()), (Some(Ok(a)), Some(Ok(b))) if (a, b) >= (major, minor))
}
