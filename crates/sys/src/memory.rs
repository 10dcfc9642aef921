//! The C library's heap.

/// Gives pages that lie free within the heap back to the kernel. The heap itself returns only what is free at its end, so
/// that one long-lived byte behind a peak would hold on to all of it. Takes time with the number of free pieces: for
/// quiet moments.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes a number and has no preconditions; it locks the heaps it looks at.
    unsafe {
        libc::malloc_trim(0);
    }
}
