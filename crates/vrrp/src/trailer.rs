//! The signature after an advertisement: keepalived 2.4's `auth_hmac` (draft-cassen-vrrp-auth-hmac).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +---------------+---------------+-------------------------------+
//! |    Type 1     |    Key id     |            Reserved           |
//! +---------------+---------------+-------------------------------+
//! |                     Seconds, UTC since 1970                   |
//! +-------------------------------+-------------------------------+
//! |      Fraction (1/65536 s)     |              Tie              |
//! +-------------------------------+-------------------------------+
//! |             HMAC-SHA-256, its first 16 bytes                  |
//! +---------------------------------------------------------------+
//! ```
//!
//! It covers a pseudo header (family, version, VRID, source), the advertisement with its checksum as
//! zero, and its own first 12 bytes; not the destination, so that all unicast copies bear the same.
//! Over IPv4 the advertisement's checksum leaves it out.
//!
//! How certain this is: version 3 over IPv4 to the group is verified against recorded packets of
//! keepalived 2.4, and made to the same bytes. Version 2, IPv6 and unicast follow from the same
//! rules and are not recorded. Over IPv6 the checksum is taken to cover the trailer too, because
//! the kernel computes it there for keepalived, over all that follows the IP header (RFC 8200
//! §8.1).

use std::net::IpAddr;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::config::{Trailer, TrailerKey, TrailerMode};
use crate::verdict::Rejection;

/// Bytes of the trailer.
pub(crate) const LENGTH: usize = 28;

/// Appends the trailer to `message`, an advertisement from `source`.
pub(crate) fn sign(trailer: &Trailer, source: IpAddr, stamp: u64, message: &mut Vec<u8>) {
    let mut head = [0; HEAD_LENGTH];
    head[..2].copy_from_slice(&[TYPE_HMAC_SHA_256, trailer.key_id.get()]);
    head[4..].copy_from_slice(&stamp.to_be_bytes());
    let code = covering(&trailer.key, source, message, &head).finalize().into_bytes();
    message.extend(head);
    message.extend(&code[..CODE_LENGTH]);
}

/// Verifies what follows `advertisement`, from `source`, received at `utc`; returns its stamp, or
/// `None` when there is no trailer and none is asked for. Of any other length than a trailer's it
/// is taken for padding.
///
/// # Errors
/// The first that is wrong: that it is missing, its type, its key, its signature, its age.
pub(crate) fn verify(
    trailer: &Trailer,
    source: IpAddr,
    advertisement: &[u8],
    rest: &[u8],
    utc: Duration,
    freshness: Duration,
) -> Result<Option<u64>, Rejection> {
    let Some((head, signature)) =
        rest.split_first_chunk::<HEAD_LENGTH>().filter(|_| rest.len() == LENGTH)
    else {
        return match trailer.mode {
            TrailerMode::Enforce => Err(Rejection::TrailerMissing),
            TrailerMode::Permissive | TrailerMode::ReceiveOnly => Ok(None),
        };
    };
    let [kind, key_id, reserved_1, reserved_2, stamp @ ..] = *head;
    if kind != TYPE_HMAC_SHA_256 || [reserved_1, reserved_2] != [0, 0] {
        return Err(Rejection::TrailerType(kind));
    }
    let ours = trailer.key_id.get();
    let key = trailer.key_of(key_id).ok_or(Rejection::TrailerKey { theirs: key_id, ours })?;
    covering(key, source, advertisement, head)
        .verify_truncated_left(signature)
        .map_err(|_| Rejection::TrailerSignature { key_id })?;
    let stamp = u64::from_be_bytes(stamp);
    let behind = (utc.as_secs() as u32).wrapping_sub(seconds(stamp)).cast_signed();
    let limit = freshness.as_secs() as u32;
    if behind.unsigned_abs() > limit {
        return Err(Rejection::TrailerStale { behind, limit });
    }
    Ok(Some(stamp))
}

/// The stamp after `last` at `utc`: the time of day, or one more than `last` while that is not
/// greater. A clock that was set back by more than what neighbours tolerate is followed.
pub(crate) fn next_stamp(last: Option<u64>, utc: Duration, freshness: Duration) -> u64 {
    let fraction = (u64::from(utc.subsec_nanos()) << 16) / 1_000_000_000;
    let clock = utc.as_secs() << 32 | fraction << 16;
    let Some(last) = last else { return clock };
    let ahead = seconds(last).wrapping_sub(seconds(clock)).cast_signed();
    if clock.wrapping_sub(last).cast_signed() > 0 || i64::from(ahead) > freshness.as_secs() as i64 {
        clock
    } else {
        last.wrapping_add(1)
    }
}

fn covering(
    key: &TrailerKey,
    source: IpAddr,
    advertisement: &[u8],
    head: &[u8; HEAD_LENGTH],
) -> Hmac<Sha256> {
    let mut code =
        Hmac::<Sha256>::new_from_slice(key.bytes()).expect("a key of any length will do");
    let (family, octets) = match source {
        IpAddr::V4(address) => {
            let mut octets = [0; 16];
            octets[..4].copy_from_slice(&address.octets());
            (4, octets)
        }
        IpAddr::V6(address) => (6, address.octets()),
    };
    let version = advertisement[0] >> 4;
    let vrid = advertisement[1];
    code.update(&[family, version, vrid, 0]);
    code.update(&octets);
    code.update(&advertisement[..CHECKSUM_AT]);
    code.update(&[0; 2]);
    code.update(&advertisement[CHECKSUM_AT + 2..]);
    code.update(head);
    code.update(&[0; CODE_LENGTH]);
    code
}

fn seconds(stamp: u64) -> u32 {
    (stamp >> 32) as u32
}

const TYPE_HMAC_SHA_256: u8 = 1;
const HEAD_LENGTH: usize = 12;
const CODE_LENGTH: usize = LENGTH - HEAD_LENGTH;
const CHECKSUM_AT: usize = 6;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::next_stamp;

    const WINDOW: Duration = Duration::from_secs(5);

    #[test]
    fn the_stamp_is_the_time_of_day() {
        let stamp = next_stamp(None, Duration::from_millis(7_500), WINDOW);
        assert_eq!(stamp, 7 << 32 | 0x8000 << 16);
    }

    #[test]
    fn the_stamp_grows_while_the_clock_stands_still_or_goes_back_a_little() {
        let first = next_stamp(None, Duration::from_secs(100), WINDOW);
        let second = next_stamp(Some(first), Duration::from_secs(100), WINDOW);
        let third = next_stamp(Some(second), Duration::from_secs(96), WINDOW);
        assert_eq!((second, third), (first + 1, first + 2));
        assert_eq!(
            next_stamp(Some(first | 0xffff), Duration::from_secs(99), WINDOW),
            first + 65536
        );
    }

    #[test]
    fn the_stamp_follows_a_clock_that_is_set_back_further_than_is_tolerated() {
        let first = next_stamp(None, Duration::from_secs(100), WINDOW);
        assert_eq!(next_stamp(Some(first), Duration::from_secs(95), WINDOW), first + 1);
        assert_eq!(next_stamp(Some(first), Duration::from_secs(94), WINDOW), 94 << 32);
    }
}
