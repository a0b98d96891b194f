//! Links the unwinder into the module. By default the Rust library asks for libgcc_s.so.1, and to load and relocate one more library in every sudo costs about 0.15 ms.
//! A file of that name on the linker's path, before the system's, names the static archives instead; GNU ld takes it for a linker script.

use std::path::PathBuf;

fn main() -> std::io::Result<()> {
    println!("cargo:rerun-if-changed=build.rs");
    // This package has no such feature: tests/panics has, which is built of the same sources.
    println!("cargo:rustc-check-cfg=cfg(feature, values(\"inject-panic\"))");
    let folder = std::env::var_os("OUT_DIR").map(PathBuf::from).ok_or(std::io::ErrorKind::NotFound)?;
    std::fs::write(folder.join("libgcc_s.so"), "INPUT(-lgcc_eh)\n")?;
    println!("cargo:rustc-cdylib-link-arg=-L{}", folder.display());
    Ok(())
}
