//! The corpus, read once more: seeds, and all that the fuzzer ever found.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;

#[test]
fn every_target_takes_all_of_its_corpus() {
    for (name, target) in ussh_fuzz::TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
        let mut read = 0;
        for entry in std::fs::read_dir(&folder).unwrap() {
            let file = entry.unwrap().path();
            let data = std::fs::read(&file).unwrap();
            // A panic names the input.
            std::panic::catch_unwind(|| target(&data)).unwrap_or_else(|_| panic!("{}", file.display()));
            read += 1;
        }
        assert!(read >= 2, "{name}: the corpus is lost");
    }
}

#[test]
fn every_target_takes_each_seed_cut_short_anywhere_and_with_any_byte_changed() {
    for (name, target) in ussh_fuzz::TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
        for entry in std::fs::read_dir(&folder).unwrap() {
            let data = std::fs::read(entry.unwrap().path()).unwrap();
            for at in (0..data.len()).step_by(7) {
                target(&data[..at]);
                let mut changed = data.clone();
                changed[at] ^= 0x81;
                target(&changed);
            }
        }
    }
}
