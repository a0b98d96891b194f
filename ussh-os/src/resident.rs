//! Memory that only the start needed, given back to the kernel: for processes that stand for months and mostly wait.

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;

/// Page 0 of no mapping: an error of sysconf(3), on which nothing is given back.
const NO_PAGES: usize = 0;
/// Dynamic section (elf(5)): there are text relocations. libc names neither.
const DT_TEXTREL: usize = 22;
/// Dynamic section: flags, of which [`DF_TEXTREL`] says the same.
const DT_FLAGS: usize = 30;
/// See [`DT_FLAGS`].
const DF_TEXTREL: usize = 4;

/// Of this machine's word size, as `dl_phdr_info` has it.
#[cfg(target_pointer_width = "64")]
type ProgramHeader = libc::Elf64_Phdr;
/// Likewise.
#[cfg(target_pointer_width = "32")]
type ProgramHeader = libc::Elf32_Phdr;

/// Gives back what is mapped and not needed until it is used again: free memory of the heap (malloc_trim(3)), and code and constants of the program and its libraries. The loader and the command line
/// touch megabytes of those once; what is used again is mapped again, from the page cache, at some microseconds for 64 KiB.
///
/// To be called once, between the start and the first wait. What cannot be given back stays.
pub fn give_back_start_up() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes a plain value, and gives back only what nobody has allocated (malloc_trim(3)).
    unsafe {
        libc::malloc_trim(0)
    };
    // SAFETY: the callback keeps to the contract of dl_iterate_phdr(3), and looks at no data of ours.
    unsafe { libc::dl_iterate_phdr(Some(give_back_object), std::ptr::null_mut()) };
}

/// Of one object: the whole pages of its segments that are not writable.
///
/// SAFETY: to be called by dl_iterate_phdr(3) alone, which passes a description that is valid meanwhile.
unsafe extern "C" fn give_back_object(info: *mut libc::dl_phdr_info, _: usize, _: *mut c_void) -> c_int {
    // SAFETY: dl_iterate_phdr(3): `info` describes a loaded object, whose `dlpi_phnum` headers are at `dlpi_phdr`.
    let (base, headers) = unsafe {
        let info = &*info;
        if info.dlpi_phdr.is_null() {
            return 0;
        }
        (info.dlpi_addr as usize, std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)))
    };
    let page = page_size();
    // SAFETY: the headers are those of an object at `base`.
    if page == NO_PAGES || unsafe { has_text_relocations(base, headers) } {
        return 0;
    }
    for header in headers.iter().filter(|h| h.p_type == libc::PT_LOAD && h.p_flags & libc::PF_W == 0) {
        let start = base.wrapping_add(header.p_vaddr as usize);
        let end = start.wrapping_add(header.p_filesz as usize);
        // A page at the edge might be shared with a segment that is written.
        if let Some((first, size)) = whole_pages(start, end, page) {
            // SAFETY: a private mapping of a file that was never written, since it is not writable and has no relocations: what is touched again is read from the file, the same bytes
            // (madvise(2), MADV_DONTNEED). On anything else of that kind (the vDSO) it fails, or does the same.
            unsafe { libc::madvise(first as *mut c_void, size, libc::MADV_DONTNEED) };
        }
    }
    0
}

/// Whether the loader has written to segments that are not writable (elf(5), DT_TEXTREL): their pages would not come back as they were.
///
/// SAFETY: the headers must be those of an object that is loaded at `base`.
unsafe fn has_text_relocations(base: usize, headers: &[ProgramHeader]) -> bool {
    let Some(dynamic) = headers.iter().find(|h| h.p_type == libc::PT_DYNAMIC) else {
        return false;
    };
    let entry = base.wrapping_add(dynamic.p_vaddr as usize) as *const [usize; 2];
    let count = dynamic.p_memsz as usize / size_of::<[usize; 2]>();
    // SAFETY: the dynamic section is mapped, aligned, and `p_memsz` bytes long (elf(5)).
    let entries = unsafe { std::slice::from_raw_parts(entry, count) };
    entries
        .iter()
        .take_while(|[tag, _]| *tag != 0)
        .any(|[tag, value]| *tag == DT_TEXTREL || *tag == DT_FLAGS && value & DF_TEXTREL != 0)
}

/// First address and size of the pages that lie wholly in `start..end`; none, if there are none.
fn whole_pages(start: usize, end: usize, page: usize) -> Option<(usize, usize)> {
    let first = start.checked_next_multiple_of(page)?;
    let size = (end / page * page).checked_sub(first)?;
    (size > 0).then_some((first, size))
}

/// In bytes.
fn page_size() -> usize {
    // SAFETY: sysconf on a plain value (sysconf(3)).
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(NO_PAGES)
}

/// [`scrub_stack`](crate::locked::scrub_stack), and gives the pages back: for a scrubbing that deep which happens once.
#[inline(never)]
pub fn scrub_and_give_back_stack<const BYTES: usize>() {
    let mut below = MaybeUninit::<[u8; BYTES]>::uninit();
    // SAFETY: every byte of the array is written before it is looked at; zeroes are a valid array (MaybeUninit::zeroed says so of integers).
    let below = unsafe {
        below.as_mut_ptr().write_bytes(0, 1);
        below.assume_init_mut()
    };
    // A write that the compiler must not leave out: a page that is not given back is wiped all the same.
    std::hint::black_box(&mut *below);
    let range = below.as_mut_ptr_range();
    let page = page_size();
    if page != NO_PAGES
        && let Some((first, size)) = whole_pages(range.start as usize, range.end as usize, page)
    {
        // SAFETY: pages of our own array alone, on a stack, which is private and anonymous: they read as zeroes, which is what they hold (madvise(2), MADV_DONTNEED).
        unsafe { libc::madvise(first as *mut c_void, size, libc::MADV_DONTNEED) };
    }
    std::hint::black_box(below);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    #[test]
    fn only_pages_that_lie_wholly_inside_are_meant() {
        assert_eq!(whole_pages(0x1000, 0x3000, 0x1000), Some((0x1000, 0x2000)));
        assert_eq!(whole_pages(0x1001, 0x3fff, 0x1000), Some((0x2000, 0x1000)));
        assert_eq!(whole_pages(0x1001, 0x2fff, 0x1000), None);
        assert_eq!(whole_pages(0x1001, 0x1002, 0x1000), None);
        assert_eq!(whole_pages(usize::MAX - 1, usize::MAX, 0x1000), None);
    }

    #[test]
    fn text_relocations_are_seen_by_tag_and_by_flag() {
        let seen = |entries: &[[usize; 2]]| {
            // SAFETY: it is made of integers.
            let mut header: ProgramHeader = unsafe { std::mem::zeroed() };
            header.p_type = libc::PT_DYNAMIC;
            header.p_vaddr = 0;
            header.p_memsz = size_of_val(entries) as _;
            // SAFETY: the "object" is at the entries, and all that its header says is there.
            unsafe { has_text_relocations(entries.as_ptr() as usize, &[header]) }
        };
        assert!(!seen(&[[DT_FLAGS, 8], [5, DF_TEXTREL], [0, 0]]));
        assert!(seen(&[[DT_FLAGS, 8 | DF_TEXTREL], [0, 0]]));
        assert!(seen(&[[1, 1], [DT_TEXTREL, 0], [0, 0]]));
        // Behind the end.
        assert!(!seen(&[[0, 0], [DT_TEXTREL, 0]]));
    }
}
