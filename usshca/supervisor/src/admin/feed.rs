//! `usshca publish` and `usshca feed …`.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use serde_json::{Value, json};
use ussh_core::clock::{Clock, SystemClock};
use ussh_core::escape::escape;
use ussh_core::feed::{Bundle, FeedError, Manifest, Pinned, VerifiedFeed, seal, verify};
use ussh_core::keys::{KeyError, PrivateKey, PublicKey};
use ussh_os::process;
use usshca_admin::desk::{Desk as _, Link as _};
use usshca_admin::{json, own};
use usshca_ipc::admin::{Reply, Request};
use usshca_ipc::layout::Layout;
use zeroize::Zeroizing;

use super::files::Place;
use super::read_key;
use super::utc;
use super::{Here, Link, layout_flag, print, unexpected};
use crate::cli::{FeedCommand, FeedKeyCommand, FeedShowArgs, FeedSignArgs, FeedVerifyArgs, PublishArgs, RotateArgs};
use crate::failure::Failure;
use crate::feed_folder::{self, DRAFT, FeedFolder};
use crate::unlock;

/// Where the daemon's publisher writes.
const LOG: i32 = 3;
/// Longest private key file, in bytes.
const MAX_KEY_FILE: u64 = 16 * 1024;

/// Writes the feed to a folder.
pub fn publish(layout: &Layout, args: &PublishArgs) -> Result<(), Failure> {
    if args.by_daemon {
        publish_by_daemon(layout, args)
    } else {
        publish_said(layout, args).and_then(|said| print(&said))
    }
}

/// The daemon puts the line into its log, in its format.
fn publish_by_daemon(layout: &Layout, args: &PublishArgs) -> Result<(), Failure> {
    let log = process::inherited_descriptor(LOG)
        .map_err(|e| Failure::usage(format!("--by-daemon is for usshca serve: {e}")))?;
    let is_elsewhere = || {
        let reply = Link::open(layout)?.ask(&Request::FeedKey)?;
        Ok(matches!(reply, Reply::FeedKey { held, .. } if held == "elsewhere"))
    };
    let said = is_elsewhere().and_then(|unsigned| publish_said(layout, &PublishArgs { unsigned, ..args.clone() }));
    let (line, ended) = match said {
        Ok(said) => (said, Ok(())),
        Err(failure) => (format!("{}\n", failure.message), Err(Failure { message: String::new(), ..failure })),
    };
    // A daemon that is gone needs no word.
    let _ = File::from(log).write_all(line.as_bytes());
    ended
}

/// What there is to say of it.
fn publish_said(layout: &Layout, args: &PublishArgs) -> Result<String, Failure> {
    own::spare_folder(layout, &args.folder)?;
    // Before the feed is made, so that none is made in vain.
    let folder = FeedFolder::lock(&args.folder)?;
    let request = Request::Feed { valid_seconds: args.valid_for, signed: !args.unsigned };
    let feed = receive(&Link::open(layout)?, &request)?;
    let place = args.folder.display();
    if args.unsigned {
        let draft = Bundle::parse(&feed).and_then(|bundle| Manifest::parse(&bundle.manifest));
        let manifest = draft.map_err(|e| Failure::internal(format!("the signer's draft: {e}")))?;
        folder.put_draft(&feed)?;
        return Ok(match args.json {
            true => json::line(&manifest_json(&manifest)),
            false => format!(
                "{place}/{DRAFT}: version {}, for the feed key to sign: bring the folder to where that is, and there: usshca feed sign {place} --key FILE\n",
                manifest.version
            ),
        });
    }
    let put = folder.put(&feed)?;
    if args.quiet {
        return Ok(String::new());
    }
    Ok(match args.json {
        true => json::line(&feed_json(&put)),
        false => {
            let manifest = put.manifest();
            format!("{place}: version {}, valid until {}\n", manifest.version, utc(manifest.valid_until))
        }
    })
}

fn receive(link: &Link, request: &Request) -> Result<Vec<u8>, Failure> {
    let mut feed = Vec::new();
    let mut reply = link.ask(request)?;
    while let Reply::Feed { chunk, more } = reply {
        feed.extend_from_slice(&chunk);
        if !more {
            return Ok(feed);
        }
        reply = link.next()?;
    }
    Err(unexpected())
}

/// `usshca feed …`.
pub fn run(layout: &Layout, command: FeedCommand) -> Result<(), Failure> {
    match command {
        FeedCommand::Show(args) => show(&args),
        FeedCommand::Verify(args) => check(&args),
        FeedCommand::Sign(args) => sign(layout, &args),
        FeedCommand::Key(FeedKeyCommand::Show(args)) => {
            let reply = Link::open(layout)?.ask(&Request::FeedKey)?;
            if let (Reply::FeedKey { line: Some(line), .. }, true) = (&reply, args.public) {
                return print(&format!("{line}\n"));
            }
            key(&reply, args.json)
        }
        FeedCommand::Key(FeedKeyCommand::Rotate(args)) => rotate(layout, &args),
    }
}

fn show(args: &FeedShowArgs) -> Result<(), Failure> {
    let feed = feed_folder::read(&args.feed)?;
    if args.json {
        return print(&json::line(&feed_json(&feed)));
    }
    let manifest = feed.manifest();
    let now = SystemClock.now().0;
    let over = if now >= manifest.valid_until { " (expired)" } else { "" };
    let mut text = format!(
        "CA             {}\nversion        {}\ngenerated      {}\nvalid until    {}{over}\nsigned by      {} {}\n",
        escape(manifest.ca.as_bytes(), 64),
        manifest.version,
        utc(manifest.generated),
        utc(manifest.valid_until),
        feed.signed_by().short_type(),
        feed.signed_by().fingerprint(),
    );
    if feed.pin() != feed.signed_by() {
        text += &format!("successor      {} {}\n", feed.pin().short_type(), feed.pin().fingerprint());
    }
    text += &format!("handovers      {}\n", feed.bundle().handovers.len());
    for key in feed.cas().keys() {
        text += &format!("user CA        {} {}\n", key.short_type(), key.fingerprint());
    }
    let known_hosts = String::from_utf8_lossy(&feed.bundle().known_hosts).into_owned();
    for (patterns, key) in known_hosts.lines().filter_map(host_ca) {
        text += &format!("host CA        {} {} for {patterns}\n", key.short_type(), key.fingerprint());
    }
    text += &format!("KRL            {} bytes, version {}\n", feed.krl().len(), feed.revoked().version().unwrap_or(0));
    print(&text)
}

/// Of a line `@cert-authority PATTERN KEY` of known_hosts.
fn host_ca(line: &str) -> Option<(&str, PublicKey)> {
    let (patterns, key) = line.strip_prefix("@cert-authority ")?.split_once(' ')?;
    Some((patterns, PublicKey::from_openssh(key).ok()?))
}

/// By a key that is pinned, as a host does it.
fn check(args: &FeedVerifyArgs) -> Result<(), Failure> {
    let bytes = feed_folder::read_bytes(&args.feed)?;
    let pinned = Pinned { key: read_key(&args.key)?, taken: None };
    let refused = |e: FeedError| Failure::refused(format!("{}: {e}", args.feed.display()));
    let feed = verify(&bytes, &pinned, SystemClock.now()).map_err(refused)?;
    if let Some(least) = args.min_version.filter(|least| feed.manifest().version < *least) {
        return Err(refused(FeedError::GoesBack { offered: feed.manifest().version, taken: least }));
    }
    print(&match args.json {
        true => json::line(&feed_json(&feed)),
        false => format!("{}: good, version {}\n", args.feed.display(), feed.manifest().version),
    })
}

/// Where the feed key is: nothing of the CA's is there but the draft and the key.
fn sign(layout: &Layout, args: &FeedSignArgs) -> Result<(), Failure> {
    own::spare_folder(layout, &args.folder)?;
    process::harden_memory().map_err(|e| Failure::internal(format!("cannot protect this process's memory: {e}")))?;
    let folder = FeedFolder::lock(&args.folder)?;
    let mut draft = folder.draft()?;
    let key = load(&args.key)?;
    if let Some(path) = &args.successor {
        let mut manifest = Manifest::parse(&draft.manifest).map_err(|e| Failure::refused(e.to_string()))?;
        manifest.successor = Some(read_key(path)?.to_openssh(""));
        draft.manifest = manifest.to_bytes().map_err(|e| Failure::refused(e.to_string()))?;
    }
    let feed = seal(draft, &key).map_err(|e| {
        let place = args.folder.display();
        if let FeedError::OtherKey { named, .. } = &e {
            let file = args.key.display();
            return Failure::refused(format!("{place}: it is for the feed key {named} to sign; {file} is another one"));
        }
        Failure::refused(format!("{place}: {e}"))
    })?;
    let put = folder.put(&feed)?;
    print(&match args.json {
        true => json::line(&feed_json(&put)),
        false => format!("{}: signed, version {}\n", args.folder.display(), put.manifest().version),
    })
}

fn load(path: &Path) -> Result<PrivateKey, Failure> {
    use std::io::Read;
    let failed = |e: &dyn std::fmt::Display| Failure::usage(format!("{}: {e}", path.display()));
    let mut text = Zeroizing::new(String::with_capacity(MAX_KEY_FILE as usize + 1));
    let file = std::fs::File::open(path).map_err(|e| failed(&e))?;
    file.take(MAX_KEY_FILE).read_to_string(&mut text).map_err(|e| failed(&e))?;
    let mut key = PrivateKey::from_openssh(&text);
    let mut tried = 0;
    while matches!(key, Err(KeyError::Encrypted | KeyError::WrongPassphrase)) {
        let all = unlock::passphrases();
        match all.get(tried) {
            Some(passphrase) => {
                key = PrivateKey::from_openssh_encrypted(&text, &passphrase.0);
                tried += 1;
            }
            None => unlock::ask_for(&path.display().to_string(), tried > 0)?,
        }
    }
    key.map_err(|e| failed(&e))
}

fn rotate(layout: &Layout, args: &RotateArgs) -> Result<(), Failure> {
    let request = match (&args.to, &args.handed_over) {
        (Some(path), _) => Request::FeedKeyRotate { to: Some(read_key(path)?.to_blob()) },
        (None, Some(path)) => {
            let Bundle { manifest, signature, .. } = feed_folder::read(path)?.bundle().clone();
            Request::FeedKeyHandedOver { manifest, signature }
        }
        (None, None) => Request::FeedKeyRotate { to: None },
    };
    let link = Link::open(layout)?;
    // Before the key hands over: there must not be one that new hosts cannot learn.
    let pin = layout.public.join("feed_key.pub");
    let place = Place::new(&pin)?;
    let before = link.ask(&Request::FeedKey)?;
    let reply = link.ask(&request)?;
    if let Reply::FeedKey { line: Some(line), .. } = &reply {
        place.put(format!("{line}\n").as_bytes(), 0o644).map_err(|e| Failure {
            message: format!(
                "{e} (the feed key has handed over all the same: put what `usshca feed key show --public` prints there)"
            ),
            ..e
        })?;
    }
    key(&reply, args.json)?;
    if args.json { Ok(()) } else { print(&next_steps(layout, &before, &reply, &pin)) }
}

fn next_steps(layout: &Layout, before: &Reply, reply: &Reply, pin: &Path) -> String {
    let dir = layout_flag(layout);
    let is_elsewhere = matches!(reply, Reply::FeedKey { held, .. } if held == "elsewhere");
    let publish = match (Here(layout).publishes(), is_elsewhere) {
        (Some(folder), false) => format!("the CA publishes to {} as soon as it runs", folder.display()),
        (Some(folder), true) => {
            let folder = folder.display();
            format!(
                "the CA puts the draft to {folder} as soon as it runs; where the key is: usshca feed sign {folder} --key FILE"
            )
        }
        (None, true) => {
            format!("usshca{dir} publish --unsigned DIR, and where the key is: usshca feed sign DIR --key FILE")
        }
        (None, false) => format!("usshca{dir} publish DIR"),
    };
    let held = if let Reply::FeedKey { line: Some(_), held } = before { held.as_str() } else { "" };
    let old = match (held, is_elsewhere) {
        // There was none.
        ("", _) => "",
        ("file", true) => {
            ". Its file is kept in the CA's state folder as feed_key.old: destroy it once a feed that the new key has signed is good; until then there is a way back (docs/feed.md)"
        }
        ("file", false) => ", whose file was replaced",
        _ => ": keep it safe, or destroy it",
    };
    format!(
        "Next: publish, so that hosts hear of it: {publish}\n\
         Hosts that are enrolled from here on pin this key ({}). The others follow with the next feed that they take; until then they trust the key before it{old}.\n",
        pin.display()
    )
}

fn key(reply: &Reply, as_json: bool) -> Result<(), Failure> {
    let Reply::FeedKey { line, held } = reply else { return Err(unexpected()) };
    let fingerprint = line.as_deref().and_then(|line| PublicKey::from_openssh(line).ok()).map(|key| key.fingerprint());
    print(&match (as_json, line, fingerprint) {
        (true, line, fingerprint) => json::line(&json!({ "key": line, "fingerprint": fingerprint, "held": held })),
        (false, Some(line), Some(fingerprint)) => format!("{line}\n{fingerprint}, held: {held}\n"),
        (false, ..) => return Err(Failure::refused("this CA has no feed key; `usshca feed key rotate` makes one")),
    })
}

/// Strings: JSON's numbers lose digits above 2^53 in many readers.
fn manifest_json(manifest: &Manifest) -> Value {
    json!({
        "ca": manifest.ca,
        "version": manifest.version.to_string(),
        "generated": manifest.generated,
        "valid_until": manifest.valid_until,
        "feed_key": manifest.feed_key,
        "successor": manifest.successor,
    })
}

fn feed_json(feed: &VerifiedFeed) -> Value {
    let mut value = manifest_json(feed.manifest());
    if let Some(fields) = value.as_object_mut() {
        fields.insert("handovers".to_owned(), feed.bundle().handovers.len().into());
        fields.insert("krl_version".to_owned(), feed.revoked().version().map(|v| v.to_string()).into());
        let cas: Vec<String> = feed.cas().keys().iter().map(PublicKey::fingerprint).collect();
        fields.insert("user_cas".to_owned(), cas.into());
    }
    value
}
