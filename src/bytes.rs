//! Finding bytes, eight at a time.

/// The place of the first byte that is `a` or `b`.
pub(crate) fn find_either(bytes: &[u8], a: u8, b: u8) -> Option<usize> {
    let mut words = bytes.chunks_exact(8);
    let mut at = 0;
    for word in &mut words {
        let word = word.try_into().map_or(0, u64::from_le_bytes);
        let found = zeros(word ^ repeat(a)) | zeros(word ^ repeat(b));
        if found != 0 {
            // Little-endian, so that the first byte is the lowest.
            return usize::try_from(found.trailing_zeros() / 8)
                .ok()
                .map(|place| at + place);
        }
        at += 8;
    }
    let place = words
        .remainder()
        .iter()
        .position(|byte| *byte == a || *byte == b)?;
    Some(at + place)
}

/// Like [`find_either`], for what is mostly far: a compiler looks through a block of bytes with a few instructions.
// Operators that stop at the first find would have it look at one byte after the other.
#[allow(clippy::needless_bitwise_bool)]
pub(crate) fn find_either_far(bytes: &[u8], a: u8, b: u8) -> Option<usize> {
    const BLOCK: usize = 32;
    let is_free = |block: &&[u8]| {
        let found = |found, byte: &u8| found | (*byte == a) | (*byte == b);
        !block.iter().fold(false, found)
    };
    let free = bytes.chunks_exact(BLOCK).take_while(is_free).count();
    let at = free * BLOCK;
    find_either(bytes.get(at..)?, a, b).map(|place| at + place)
}

const fn repeat(byte: u8) -> u64 {
    u64::from_le_bytes([byte; 8])
}

/// The high bit of each byte that is zero. Bytes above the first such may be marked wrongly, so only the lowest counts.
const fn zeros(word: u64) -> u64 {
    word.wrapping_sub(repeat(0x01)) & !word & repeat(0x80)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_either_byte_is_found_at_every_place() {
        for find in [find_either, find_either_far] {
            for length in 0..80 {
                for at in 0..length {
                    for (byte, later) in [(b'"', b'\\'), (b'\\', b'"')] {
                        let mut bytes = vec![0xff_u8; length];
                        bytes[at..].fill(later);
                        bytes[at] = byte;
                        assert_eq!(find(&bytes, b'"', b'\\'), Some(at), "{length} {at}");
                    }
                }
                assert_eq!(find(&vec![b'!'; length], b'"', b'\\'), None);
                assert_eq!(find(&vec![0xa2; length], b'"', b'\\'), None);
            }
        }
    }
}
