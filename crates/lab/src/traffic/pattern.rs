//! The bytes of a stream: determined by its seed and the position, so that either end can tell a
//! byte that is lost, doubled, moved or changed.

/// Writes the stream's bytes from `offset` on.
pub(super) fn fill(buffer: &mut [u8], seed: u64, offset: u64) {
    for (position, byte) in (offset..).zip(buffer.iter_mut()) {
        *byte = at(seed, position);
    }
}

/// The first position at which `buffer` differs from the stream from `offset` on.
pub(super) fn first_difference(buffer: &[u8], seed: u64, offset: u64) -> Option<u64> {
    (offset..).zip(buffer).find(|(position, byte)| at(seed, *position) != **byte).map(|(at, _)| at)
}

fn at(seed: u64, position: u64) -> u8 {
    let word = mix(seed.wrapping_mul(STRIDE).wrapping_add(position / 8));
    word.to_le_bytes()[(position % 8) as usize]
}

/// The finalizer of splitmix64: every bit of the input reaches every bit of the output.
fn mix(mut word: u64) -> u64 {
    word = word.wrapping_add(STRIDE);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

const STRIDE: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_the_same_in_whatever_pieces_it_is_written() {
        let mut whole = [0; 100];
        fill(&mut whole, 7, 0);
        let mut tail = [0; 63];
        fill(&mut tail, 7, 37);
        assert_eq!(whole[37..], tail);
        assert_eq!(first_difference(&whole, 7, 0), None);
    }

    #[test]
    fn a_changed_a_moved_and_a_foreign_byte_are_seen() {
        let mut bytes = [0; 64];
        fill(&mut bytes, 7, 0);
        assert!(first_difference(&bytes[1..], 7, 0).is_some());
        assert!(first_difference(&bytes, 8, 0).is_some());
        bytes[40] ^= 1;
        assert_eq!(first_difference(&bytes, 7, 0), Some(40));
    }
}
