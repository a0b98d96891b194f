//! Stamps library and helper program with a digest of their common sources: a test must not drive a helper built from others.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::Path;
use std::{fs, io};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=src");
    let mut digest = DefaultHasher::new();
    add(Path::new("src"), &mut digest)?;
    println!("cargo::rustc-env=USSH_LAB_SOURCES={:016x}", digest.finish());
    Ok(())
}

fn add(folder: &Path, digest: &mut DefaultHasher) -> io::Result<()> {
    let mut paths =
        fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    for path in paths {
        if path.is_dir() {
            add(&path, digest)?;
        } else {
            path.hash(digest);
            fs::read(&path)?.hash(digest);
        }
    }
    Ok(())
}
