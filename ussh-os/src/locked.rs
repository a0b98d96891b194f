//! Memory for secrets: never swapped, never in a core dump, wiped at the end.
//!
//! A move copies bytes and leaves the old ones where they were, mostly on the stack: [`scrub_stack`] wipes what lies below the caller's frame.

use std::io;
use std::ops::Deref;
use std::ptr::NonNull;

use zeroize::Zeroize;

/// A value in pages of its own: locked (mlock(2)), left out of core dumps (MADV_DONTDUMP), wiped before they are given back.
pub struct Locked<T> {
    place: NonNull<T>,
    /// Of the mapping, in bytes.
    size: usize,
}

// SAFETY: it owns its value and gives out shared references only, as a Box does.
unsafe impl<T: Send> Send for Locked<T> {}
// SAFETY: likewise.
unsafe impl<T: Sync> Sync for Locked<T> {}

impl<T> Locked<T> {
    /// Moves the value there. What the move leaves behind is for [`scrub_stack`] to wipe.
    /// # Errors
    /// There is no memory, or as much as RLIMIT_MEMLOCK allows is locked: the value is dropped then.
    pub fn new(value: T) -> io::Result<Self> {
        // SAFETY: sysconf on a plain value (sysconf(3)).
        let page =
            usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).map_err(|_| io::ErrorKind::Unsupported)?;
        if align_of::<T>() > page {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let size = size_of::<T>().max(1).next_multiple_of(page);
        // SAFETY: a new private mapping that nobody else knows of (mmap(2)).
        let mapped = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if mapped == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: our mapping, of this size (mlock(2), madvise(2)).
        let protected =
            unsafe { libc::mlock(mapped, size) == 0 && libc::madvise(mapped, size, libc::MADV_DONTDUMP) == 0 };
        match NonNull::new(mapped.cast::<T>()) {
            Some(place) if protected => {
                // SAFETY: the mapping is large enough and aligned to a page, which is enough for T; nothing lies there yet.
                unsafe { place.write(value) };
                Ok(Locked { place, size })
            }
            _ => {
                let error = io::Error::last_os_error();
                // SAFETY: our mapping, of this size, which nothing refers to (munmap(2)).
                unsafe { libc::munmap(mapped, size) };
                Err(error)
            }
        }
    }
}

impl<T> Deref for Locked<T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: written in `new`, and there until the drop.
        unsafe { self.place.as_ref() }
    }
}

impl<T> Drop for Locked<T> {
    fn drop(&mut self) {
        // SAFETY: the value is there, dropped this once, and nobody sees it again; the mapping is ours, `size` bytes of plain memory.
        unsafe {
            self.place.drop_in_place();
            std::slice::from_raw_parts_mut(self.place.as_ptr().cast::<u8>(), self.size).zeroize();
            libc::munmap(self.place.as_ptr().cast(), self.size);
        }
    }
}

impl<T> std::fmt::Debug for Locked<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Locked(***)")
    }
}

/// Wipes `BYTES` of the stack below the caller's frame: what functions that have returned left there.
#[inline(never)]
pub fn scrub_stack<const BYTES: usize>() {
    let mut below = std::mem::MaybeUninit::<[u8; BYTES]>::uninit();
    // SAFETY: every byte of the array is written before it is looked at; zeroes are a valid array (MaybeUninit::zeroed says so of integers).
    let below = unsafe {
        below.as_mut_ptr().write_bytes(0, 1);
        below.assume_init_mut()
    };
    // A write that the compiler must not leave out.
    std::hint::black_box(below);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    /// VmFlags of the mapping that this address lies in (proc_pid_smaps(5)).
    fn flags(address: usize) -> Option<String> {
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut here = false;
        for line in smaps.lines() {
            if let Some((first, last)) = line.split(' ').next().unwrap().split_once('-')
                && let (Ok(first), Ok(last)) = (usize::from_str_radix(first, 16), usize::from_str_radix(last, 16))
            {
                here = (first..last).contains(&address);
            }
            if here && let Some(flags) = line.strip_prefix("VmFlags: ") {
                return Some(flags.to_owned());
            }
        }
        None
    }

    #[test]
    fn a_secret_lies_in_locked_pages_that_no_dump_holds_and_they_are_gone_with_it() {
        let secret = Locked::new([7_u8; 5000]).unwrap();
        assert_eq!(*secret, [7; 5000]);
        let address = secret.place.as_ptr() as usize;
        let found = flags(address).unwrap();
        // AddressSanitizer takes mlock's place and locks nothing.
        let wanted = if std::env::var_os("USSH_ASAN").is_some() { &["dd"][..] } else { &["lo", "dd"] };
        for flag in wanted {
            assert!(found.split(' ').any(|f| f == *flag), "{found}");
        }
        assert!(!format!("{secret:?}").contains('7'));
        drop(secret);
        let after = flags(address).unwrap_or_default();
        assert!(!after.split(' ').any(|f| f == "lo"), "{after}");
    }

    #[test]
    fn the_value_is_dropped_with_its_place() {
        let counter = std::rc::Rc::new(());
        let held = Locked::new(std::rc::Rc::clone(&counter)).unwrap();
        assert_eq!(std::rc::Rc::strong_count(&held), 2);
        drop(held);
        assert_eq!(std::rc::Rc::strong_count(&counter), 1);
    }
}
