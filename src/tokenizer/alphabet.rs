//! GPT-2's byte alphabet: every byte has one printable character, and a token is written in those characters.
//!
//! Bytes that print in Latin-1 stand for themselves; the other 68 take U+0100 onwards in byte order.

use std::sync::LazyLock;

/// The character of a byte.
pub(super) fn to_char(byte: u8) -> char {
    TABLES.chars[byte as usize]
}

/// The byte of a character; `None` for a character outside the alphabet.
pub(super) fn to_byte(c: char) -> Option<u8> {
    TABLES.bytes.get(c as usize).copied().flatten()
}

struct Tables {
    chars: [char; 256],
    // Index = code point; the last character of the alphabet is U+0143.
    bytes: [Option<u8>; 0x144],
}

static TABLES: LazyLock<Tables> = LazyLock::new(|| {
    let mut chars = ['\0'; 256];
    let mut bytes = [None; 0x144];
    let mut next = 0x100;
    for byte in 0..=255u8 {
        let prints = matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
        let point = if prints {
            u32::from(byte)
        } else {
            next += 1;
            next - 1
        };
        // 188 printable bytes are below U+0100 and the other 68 reach U+0143: all are scalar values.
        let c = char::from_u32(point).expect("below U+0144");
        chars[byte as usize] = c;
        bytes[point as usize] = Some(byte);
    }
    Tables { chars, bytes }
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_its_own_character() {
        for byte in 0..=255u8 {
            assert_eq!(to_byte(to_char(byte)), Some(byte));
        }
        assert_eq!((to_char(b' '), to_char(b'\n'), to_char(b'a')), ('Ġ', 'Ċ', 'a'));
        assert_eq!(to_byte(' '), None);
        assert_eq!(to_byte('日'), None);
    }
}
