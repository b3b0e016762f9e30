//! Memory that was freed and is still ours.

#![cfg_attr(target_env = "gnu", expect(unsafe_code, reason = "no crate wraps malloc_trim alone"))]

/// Gives the kernel back what was freed but lies between what is used: the C library keeps it for
/// later otherwise, as much as the process has ever used at once. Takes milliseconds, so it is for
/// the end of something that took much for a short time, such as reading a long configuration.
/// Other C libraries than glibc do so by themselves, or cannot be asked.
pub fn give_back_what_is_free() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call locks each of the allocator's arenas while it looks at it, and touches
    // nothing that is allocated.
    unsafe {
        libc::malloc_trim(0);
    }
}
