//! What a process did to its files, from strace's log: enough of it to know what a disk holds at any moment if the power fails.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// One call that succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Bytes at an offset of a file.
    Write { path: String, offset: usize, data: Vec<u8> },
    /// A file has another length.
    Truncate { path: String, length: usize },
    /// A file was made, or emptied, when it was opened.
    Create { path: String, empties: bool },
    /// A file has another name.
    Rename { from: String, to: String },
    /// A name is gone.
    Remove { path: String },
    /// A file or folder is on disk.
    Sync { path: String },
    /// Something left the process.
    Send { data: Vec<u8> },
}

/// Arguments for strace that write the log for [`read`].
pub fn argv<'a>(log: &'a str, program: &'a str) -> Vec<&'a str> {
    let calls = "trace=openat,pwrite64,write,ftruncate,rename,unlink,fsync,fdatasync,sendto";
    vec!["/usr/bin/strace", "-y", "-xx", "-s", "1000000", "-o", log, "-e", calls, program]
}

/// Reads the log. `write` goes to the end of a file, which holds for those that are written so here.
pub fn read(log: &Path, folder: &str) -> Vec<Call> {
    let text = fs::read_to_string(log).unwrap();
    let mut lengths: BTreeMap<String, usize> = BTreeMap::new();
    let mut calls = Vec::new();
    for line in text.lines() {
        let Some((call, result)) = line.rsplit_once(" = ") else { continue };
        if result.starts_with('-') || result.starts_with('?') {
            continue;
        }
        let (name, arguments) = call.split_once('(').unwrap();
        let arguments = arguments.trim_end().strip_suffix(')').unwrap_or(arguments);
        // `5<\x2f…>`: the path of a descriptor.
        let described = || {
            let (_, path) = arguments.split_once('<')?;
            let (path, _) = path.split_once('>')?;
            Some(unescape(path)).filter(|path| path.starts_with(folder.as_bytes())).map(text_of)
        };
        let strings: Vec<Vec<u8>> = arguments.split('"').skip(1).step_by(2).map(unescape).collect();
        let call = match name {
            "openat" => {
                let path = text_of(strings[0].clone());
                if !path.starts_with(folder) || !arguments.contains("O_CREAT") {
                    continue;
                }
                let empties = arguments.contains("O_TRUNC");
                if empties {
                    lengths.insert(path.clone(), 0);
                }
                Call::Create { path, empties }
            }
            "pwrite64" | "write" => {
                let Some(path) = described() else { continue };
                let data = strings[0].clone();
                let offset = if name == "write" {
                    lengths.get(&path).copied().unwrap_or(0)
                } else {
                    arguments.rsplit_once(", ").unwrap().1.parse().unwrap()
                };
                let length = lengths.entry(path.clone()).or_default();
                *length = (*length).max(offset + data.len());
                Call::Write { path, offset, data }
            }
            "ftruncate" => {
                let Some(path) = described() else { continue };
                let length = arguments.rsplit_once(", ").unwrap().1.parse().unwrap();
                Call::Truncate { path, length }
            }
            "rename" => Call::Rename { from: text_of(strings[0].clone()), to: text_of(strings[1].clone()) },
            "unlink" => Call::Remove { path: text_of(strings[0].clone()) },
            "fsync" | "fdatasync" => {
                let Some(path) = described() else { continue };
                Call::Sync { path }
            }
            "sendto" => Call::Send { data: strings.first().cloned().unwrap_or_default() },
            _ => continue,
        };
        calls.push(call);
    }
    calls
}

fn unescape(text: &str) -> Vec<u8> {
    let bytes = text.split("\\x").skip(1).map(|hex| u8::from_str_radix(&hex[..2], 16).unwrap());
    if text.contains("\\x") { bytes.collect() } else { text.as_bytes().to_vec() }
}

fn text_of(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

/// What of that which was not waited for has reached the disk when the power fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsynced {
    /// Nothing.
    Lost,
    /// The later half of it, the earlier not.
    LaterHalf,
    /// The earlier half, and of the call in the middle the first half.
    EarlierHalf,
}

/// A disk's files by name.
pub type Files = BTreeMap<String, Vec<u8>>;

/// What the disk holds after some calls. Of names: a file that was made or renamed has its name for sure once its folder, or (made) the file itself, is synced.
pub fn disk_after(start: &Files, calls: &[Call], unsynced: Unsynced) -> Files {
    let mut disk = start.clone();
    let mut pending: Vec<&Call> = Vec::new();
    for call in calls {
        match call {
            Call::Send { .. } => {}
            Call::Sync { path } => {
                let is_folder = !disk.contains_key(path) && !pending.iter().any(|call| is_of(call, path));
                let (done, rest): (Vec<&Call>, Vec<&Call>) = pending.into_iter().partition(|call| match call {
                    Call::Rename { .. } | Call::Remove { .. } if is_folder => true,
                    other => is_of(other, path),
                });
                done.into_iter().for_each(|call| apply(&mut disk, call, false));
                pending = rest;
            }
            other => pending.push(other),
        }
    }
    let half = pending.len() / 2;
    match unsynced {
        Unsynced::Lost => {}
        Unsynced::LaterHalf => pending[half..].iter().for_each(|call| apply(&mut disk, call, false)),
        Unsynced::EarlierHalf => {
            pending[..half].iter().for_each(|call| apply(&mut disk, call, false));
            if let Some(torn) = pending.get(half) {
                apply(&mut disk, torn, true);
            }
        }
    }
    disk
}

fn is_of(call: &Call, name: &str) -> bool {
    match call {
        // A name that was removed and made again is the new file's when that is synced.
        Call::Write { path, .. } | Call::Truncate { path, .. } | Call::Create { path, .. } | Call::Remove { path } => {
            path == name
        }
        Call::Rename { .. } | Call::Sync { .. } | Call::Send { .. } => false,
    }
}

fn apply(disk: &mut Files, call: &Call, torn: bool) {
    match call {
        Call::Write { path, offset, data } => {
            let data = if torn { &data[..data.len() / 2] } else { &data[..] };
            let file = disk.entry(path.clone()).or_default();
            let end = offset + data.len();
            file.resize(file.len().max(end), 0);
            file[*offset..end].copy_from_slice(data);
        }
        Call::Truncate { path, length } => disk.entry(path.clone()).or_default().resize(*length, 0),
        Call::Create { path, empties } => {
            let file = disk.entry(path.clone()).or_default();
            if *empties {
                file.clear();
            }
        }
        Call::Rename { from, to } => {
            if let Some(file) = disk.remove(from) {
                disk.insert(to.clone(), file);
            }
        }
        Call::Remove { path } => {
            disk.remove(path);
        }
        Call::Sync { .. } | Call::Send { .. } => {}
    }
}
