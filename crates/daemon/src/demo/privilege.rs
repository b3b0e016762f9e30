//! The right to make networks: root has it, others get it in a user namespace.

use anyhow::Context as _;
use lockstep_lab::become_root_in_user_namespace;

use super::story::Story;

/// Makes sure that this process may make namespaces and configure them. To be called before any
/// thread is started.
pub(super) fn obtain(story: &mut Story) -> anyhow::Result<()> {
    if has_all().unwrap_or(false) {
        return Ok(());
    }
    become_root_in_user_namespace().context(
        "the demo makes networks of its own; for that it must run as root, or the system must \
         allow user namespaces to ordinary users",
    )?;
    story.in_user_namespace();
    story.tell("not root: working in a user namespace, where this program may make networks")
}

/// Whether the effective capabilities suffice; `None` when the kernel does not tell.
fn has_all() -> Option<bool> {
    const NEEDED: u64 = 1 << CAP_NET_ADMIN | 1 << CAP_NET_RAW | 1 << CAP_SYS_ADMIN;
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    Some(u64::from_str_radix(mask.trim(), 16).ok()? & NEEDED == NEEDED)
}

const CAP_NET_ADMIN: u32 = 12;
const CAP_NET_RAW: u32 = 13;
const CAP_SYS_ADMIN: u32 = 21;
