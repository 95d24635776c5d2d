//! The 12 bytes of eight 6-bit scales and eight 6-bit minima that Q4_K and Q5_K share.

/// Scale and minimum of sub-block `j` (0..8) of 32 elements.
///
/// Sub-blocks 0..4 keep their six bits in the low part of bytes `j` and `j + 4`; the top two bits of those
/// bytes, with the nibbles of bytes 8..12, make up sub-blocks 4..8.
pub(super) fn scale_and_min(j: usize, packed: &[u8; 12]) -> (f32, f32) {
    let (scale, min) = if j < 4 {
        (packed[j] & 63, packed[j + 4] & 63)
    } else {
        let nibbles = packed[j + 4];
        ((nibbles & 0x0f) | (packed[j - 4] >> 6) << 4, (nibbles >> 4) | (packed[j] >> 6) << 4)
    };
    (f32::from(scale), f32::from(min))
}
